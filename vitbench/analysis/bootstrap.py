"""What would a bootstrap over seeds and test images say of many arms at once?

Equal input gives equal bytes: the random numbers are `RandomState`'s, and what is summed is whole numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from vitbench.analysis.pairing import CONFIDENCE, Interval
from vitbench.analysis.seeds_and_images import CrossedDifference

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RESAMPLES = 1000
IMAGES_AT_ONCE = 300_000
"""Drawn images held at a time: their counts then stay in the processor's cache."""


def crossed_bootstrap(
    differences: Sequence[NDArray[np.int8]],
    *,
    rescaled: bool = True,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> list[Interval]:
    """Bootstrap intervals for new seeds and new test images, one for each `image_differences` [seeds, images].

    Seeds and images are drawn with replacement, each by itself, as both are shared (the pigeonhole bootstrap, Owen
    2007; Owen & Eckles 2012); the same draws serve every arm. With weights w of images and v of seeds a mean is
    v · D · w, so all resamples of all arms are one matrix product.

    Its percentiles alone cannot be relied on: few seeds, resampled, vary too little, and luck within image and seed is
    counted three times; coverage goes from far below 95 % to nearly 100 (docs/statistics.md). So their distances from
    the mean are `rescaled` to the width of `CrossedDifference.interval`, and of the bootstrap remains how much further
    it reaches on one side than on the other. `rescaled=False` gives them as they are.

    Raises ValueError where arms have other numbers of images, or there are fewer than two seeds or images.
    """
    import numpy as np

    if not differences:
        return []
    sizes = {one.shape[1] for one in differences}
    if len(sizes) > 1:
        raise ValueError(f"arms were tested on {sorted(sizes)} images; give those of one test set")
    crossed = [CrossedDifference.of(one) for one in differences]
    sums = _sums_of_resampled_images(np.concatenate(differences), resamples, seed)
    ends = np.cumsum([0, *(one.num_seeds for one in crossed)])
    probabilities = ((1 - confidence) / 2, (1 + confidence) / 2)
    intervals = []
    for one, (start, end) in zip(crossed, pairwise(ends), strict=True):
        # A generator per arm: its interval does not depend on which other arms there are.
        times = np.random.RandomState(seed + 1).multinomial(
            one.num_seeds, np.full(one.num_seeds, 1 / one.num_seeds), size=resamples
        )
        totals = (times.T * sums[start:end]).sum(axis=0)
        means = totals / (one.num_seeds * one.num_images)
        percentiles = Interval(*(float(value) for value in np.quantile(means, probabilities)))
        intervals.append(_rescaled(percentiles, one, confidence) if rescaled else percentiles)
    return intervals


def _sums_of_resampled_images(rows: NDArray[np.int8], resamples: int, seed: int) -> NDArray[np.int64]:
    """Sum of each row over images drawn with replacement, as many as there are: [rows, resamples]."""
    import numpy as np

    random = np.random.RandomState(seed)
    num_images = rows.shape[1]
    # Whole numbers below 2^24 are exact in float32, in whatever order a matrix product adds them.
    exact = rows.astype(np.float32 if num_images < 2**24 else np.float64)
    at_once = max(1, IMAGES_AT_ONCE // num_images)
    sums = np.empty((len(rows), resamples), np.int64)
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        drawn = random.randint(num_images, size=(count, num_images))
        drawn += num_images * np.arange(count)[:, np.newaxis]
        times = np.bincount(drawn.ravel(), minlength=count * num_images).reshape(count, num_images)
        sums[:, start : start + count] = exact @ times.T.astype(exact.dtype)
    return sums


def _rescaled(percentiles: Interval, crossed: CrossedDifference, confidence: float) -> Interval:
    wanted = crossed.interval(confidence)
    if wanted is None or percentiles.half_width == 0.0:
        return percentiles
    factor = wanted.half_width / percentiles.half_width
    return Interval(*(crossed.mean + factor * (bound - crossed.mean) for bound in percentiles))
