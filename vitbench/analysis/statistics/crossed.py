"""Would the difference hold for new seeds and new test images, and which of the two makes it uncertain?

Seeds and images are crossed: every seed is tested on the same images. So an image that suits an arm suits it at every
seed, and more seeds do not average that away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitbench.analysis.statistics.pairing import Estimate, Uncertainty

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class CrossedDifference:
    """Mean over seeds × images of arm minus baseline, and mean squares of the two-way random-effects model.

    difference of seed s on image i = mean + seed effect + image effect + rest
    """

    mean: float
    num_seeds: int
    num_images: int
    seed_mean_square: float
    image_mean_square: float
    rest_mean_square: float

    @classmethod
    def of(cls, differences: NDArray[np.int8]) -> CrossedDifference:
        """From the difference on each image, [seeds, images]: of two arms −1, 0 or 1.

        Raises ValueError for fewer than two seeds or images.
        """
        num_seeds, num_images = differences.shape
        if min(num_seeds, num_images) < 2:
            raise ValueError(
                f"differences of {num_seeds} seeds × {num_images} images have no spread; give at least two of each"
            )
        # Sums of whole numbers are exact in integers; so are their squares.
        seed_sums, image_sums = differences.sum(axis=1, dtype="int64"), differences.sum(axis=0, dtype="int64")
        cells = num_seeds * num_images
        total = int(seed_sums.sum())
        correction = total**2 / cells
        equal = bool((seed_sums == seed_sums[0]).all())  # rounding must leave no spread where there is none
        of_seeds = 0.0 if equal else int((seed_sums**2).sum()) / num_images - correction
        of_images = int((image_sums**2).sum()) / num_seeds - correction
        of_all = int((differences.astype("int64") ** 2).sum()) - correction
        return cls(
            mean=total / cells,
            num_seeds=num_seeds,
            num_images=num_images,
            seed_mean_square=of_seeds / (num_seeds - 1),
            image_mean_square=of_images / (num_images - 1),
            rest_mean_square=max(0.0, of_all - of_seeds - of_images) / ((num_seeds - 1) * (num_images - 1)),
        )

    @property
    def seed_variance(self) -> float:
        """What seeds add to the variance of the mean, the rest included: the square of the t-test's standard error."""
        return self.seed_mean_square / (self.num_seeds * self.num_images)

    @property
    def image_variance(self) -> float:
        """What the choice of test images adds beyond that; 0 where images differ by no more than the rest explains."""
        return max(0.0, self.image_mean_square - self.rest_mean_square) / (self.num_seeds * self.num_images)

    @property
    def image_share(self) -> float | None:
        """Share of the variance that more test images would reduce, and more seeds would not; None of no variance."""
        variance = self.seed_variance + self.image_variance
        return self.image_variance / variance if variance else None

    @property
    def degrees_of_freedom(self) -> float:
        """Satterthwaite's, of the sum of both variances: from seeds − 1 where images add nothing."""
        scale = self.num_seeds * self.num_images
        squares = self.seed_variance**2 / (self.num_seeds - 1)
        if self.image_variance:
            squares += (self.image_mean_square / scale) ** 2 / (self.num_images - 1)
            squares += (self.rest_mean_square / scale) ** 2 / ((self.num_seeds - 1) * (self.num_images - 1))
        return (self.seed_variance + self.image_variance) ** 2 / squares if squares else math.inf

    @property
    def estimate(self) -> Estimate:
        """Of the mean over all seeds and all images like these: two crossed random effects, with Satterthwaite's degrees of
        freedom; never surer than over seeds alone. docs/statistics-checked.md has its coverage.

        The spread over seeds counts as one test image at least, as a test set cannot show less; and then as the luck within
        image and seed at least, which alone spreads seeds by so much.
        """
        cells, one_image = self.num_seeds * self.num_images, 1 / (self.num_images**2 * self.num_seeds)
        over_seeds = Uncertainty(math.sqrt(max(self.seed_variance, one_image)), self.num_seeds - 1)
        if self.seed_variance < one_image:
            largest, degrees = max(
                (self.image_mean_square, self.num_images - 1),
                (self.rest_mean_square, (self.num_seeds - 1) * (self.num_images - 1)),
            )
            over_both = Uncertainty(math.sqrt(largest / cells), degrees)
        else:
            over_both = Uncertainty(math.sqrt(self.seed_variance + self.image_variance), self.degrees_of_freedom)
        return Estimate(self.mean, (over_both, over_seeds) if over_both.standard_error else (over_seeds,))
