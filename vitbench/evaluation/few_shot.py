"""How much does a linear classifier learn from a few images of each class?

Ridge regression onto ±1, in closed form: the method and the constants of the ViT paper's code, big_vision's `fewshot_lsr`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitbench.evaluation.features import BATCH, LabelledFeatures, Standardise

SHOTS = (1, 5, 10, 25)
"""Training images of each class."""
DRAWS = 3
L2 = 2.0**10
CONSTANT = 100.0
"""Appended to every image's features; so large that `L2` hardly holds back the intercept that it stands for."""


@dataclass(frozen=True)
class Ridge:
    """Weights [D + 1, K], the constant's last, that minimise ‖X W − Y‖² + L2 ‖W‖²; `classes` [K] are the labels."""

    weights: NDArray[np.float64]
    standardise: Standardise
    classes: NDArray[np.int64]

    def predict(self, values: NDArray[np.float32]) -> NDArray[np.int64]:
        """Features [B, D] → labels [B]."""
        return np.asarray(self.classes[np.argmax(_with_constant(self.standardise(values)) @ self.weights, axis=1)])


def few_shot(
    train: LabelledFeatures, test: LabelledFeatures, *, shots: Sequence[int] = SHOTS, draws: int = DRAWS
) -> dict[tuple[int, int], float]:
    """Top-1 accuracy on `test`, in [0, 1], by (images of each class, draw).

    A class without training images is never predicted. Raises ValueError where one has fewer than there are shots.
    """
    chosen = {(n, draw): draw_images(train.labels, shots=n, draw=draw) for draw in range(draws) for n in shots}
    fitted = {key: fit_ridge(train, rows) for key, rows in chosen.items()}
    num_correct = dict.fromkeys(fitted, 0)
    for values, labels in test.batches():
        for key, ridge in fitted.items():
            num_correct[key] += int((ridge.predict(values) == labels).sum())
    return {(n, draw): num_correct[n, draw] / len(test) for n in shots for draw in range(draws)}


def draw_images(labels: NDArray[np.int64], *, shots: int, draw: int) -> NDArray[np.int64]:
    """Indices of `shots` images of each class, ascending; images drawn for fewer shots are among those for more.

    They depend on the draw and the class alone. Raises ValueError where a class has too few.
    """
    if shots < 1:
        raise ValueError(f"shots {shots} must be positive; {', '.join(map(str, SHOTS))} are usual")
    drawn = []
    for label in np.unique(labels):
        images = np.flatnonzero(labels == label)
        if len(images) < shots:
            raise ValueError(
                f"shots {shots} is more than the {len(images)} training images of class {label}; give fewer"
            )
        drawn.append(np.random.RandomState([draw, label]).permutation(images)[:shots])
    return np.sort(np.concatenate(drawn))


def fit_ridge(features: LabelledFeatures, rows: NDArray[np.int64], *, batch_size: int = BATCH) -> Ridge:
    """The ridge regression of `rows`, by the eigendecomposition of XᵀX or XXᵀ, whichever is smaller."""
    standardise = Standardise.of(features, rows, batch_size=batch_size)
    classes = np.unique(features.labels[rows])

    def batches() -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        for values, labels in features.batches(rows, batch_size=batch_size):
            yield _with_constant(standardise(values)), np.where(labels[:, None] == classes, 1.0, -1.0)

    width = features.width + 1
    if len(rows) >= width:
        gram, product = np.zeros((width, width)), np.zeros((width, len(classes)))
        for x, y in batches():
            gram += x.T @ x
            product += x.T @ y
        weights = _solve(gram, product)
    else:
        x, y = (np.concatenate(parts) for parts in zip(*batches(), strict=True))
        weights = x.T @ _solve(x @ x.T, y)
    return Ridge(weights, standardise, classes)


def _solve(gram: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """(gram + L2 I)⁻¹ targets; `gram` is symmetric."""
    eigenvalues, vectors = np.linalg.eigh(gram)
    return np.asarray((vectors / (eigenvalues + L2)) @ (vectors.T @ targets))


def _with_constant(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.pad(values, ((0, 0), (0, 1)), constant_values=CONSTANT)
