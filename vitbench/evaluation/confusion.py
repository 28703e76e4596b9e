"""Which classes does a model take for which?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def confusion_counts(labels: NDArray[np.int64], predicted: NDArray[np.int64], *, num_classes: int) -> NDArray[np.int64]:
    """How many images of each class (row) were taken for each class (column): labels and predictions [N] → [K, K]."""
    assert len(labels) == len(predicted)
    counts = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return counts.astype(np.int64).reshape(num_classes, num_classes)
