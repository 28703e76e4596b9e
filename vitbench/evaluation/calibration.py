"""How far is a model's confidence from how often it is right? Expected calibration error, with bins of two kinds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NUM_BINS = 15
"""As in Guo et al. 2017."""


def binned_error(confidences: NDArray[np.float32], correct: NDArray[np.bool_], *, num_bins: int = NUM_BINS) -> float:
    """Expected calibration error, in [0, 1], with bins of equal width (Guo et al. 2017, eq. 3).

    confidences, correct: [N], N at least 1. Σ over bins of |images right − summed confidence| / N. A bin holds its upper edge
    and not its lower one, as in Guo's code; edges are rounded as confidences are, so that 1/3 is at the edge 5/15.
    """
    edges = np.linspace(0, 1, num_bins + 1).astype(confidences.dtype)
    bins = np.clip(np.searchsorted(edges, confidences, side="left") - 1, 0, num_bins - 1)
    gaps = np.bincount(bins, weights=correct.astype(np.float64) - confidences)
    return min(float(np.abs(gaps).sum() / len(correct)), 1.0)


def binned_error_of_equal_mass(
    confidences: NDArray[np.float32], correct: NDArray[np.bool_], *, num_bins: int = NUM_BINS
) -> float:
    """The same with bins of as many images each, or of one more in the first (Nguyen & O'Connor 2015).

    Of images of equal confidence each counts as their mean, so that it does not matter in which order they come where a bin
    ends among them. With fewer images than bins every image is a bin.
    """
    values, groups, sizes = np.unique(confidences, return_inverse=True, return_counts=True)
    gaps = np.bincount(groups, weights=correct) / sizes - values
    by_bin = np.array_split(np.repeat(gaps, sizes), num_bins)
    return min(float(sum(abs(part.sum()) for part in by_bin) / len(correct)), 1.0)
