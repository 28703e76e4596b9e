"""How well does a linear classifier do on frozen features?

Logistic regression by L-BFGS, to convergence; loss and gradient are sums over batches, so that features may lie on disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from vitbench.evaluation.features import BATCH, LabelledFeatures, Standardise

L2_GRID = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""Descending: each fit starts from that of the next stronger penalty."""
TOLERANCE = 1e-6
"""Converged: no component of the gradient is larger."""
MOST_ITERATIONS = 5_000
CPU = torch.device("cpu")


@dataclass(frozen=True)
class LinearProbe:
    """Weights [K, D + 1], the intercepts last, on standardised features; `classes` [K] are the labels that they stand for."""

    weights: NDArray[np.float64]
    standardise: Standardise
    classes: NDArray[np.int64]
    loss: float
    """Mean cross-entropy in nats, plus the penalty."""
    iterations: int
    converged: bool

    def top1(self, features: LabelledFeatures, rows: NDArray[np.int64] | None = None) -> float:
        """Fraction of images classified right, in [0, 1]."""
        num_correct = 0
        for values, labels in features.batches(rows):
            logits = self.standardise(values) @ self.weights[:, :-1].T + self.weights[:, -1]
            num_correct += int((self.classes[np.argmax(logits, axis=1)] == labels).sum())
        return num_correct / len(features if rows is None else rows)


@dataclass(frozen=True)
class ProbeResult:
    """`top1` on test of a probe that was fitted to all of train with `l2`, the best on the validation images."""

    top1: float
    l2: float
    validation_top1: dict[float, float]
    """By l2."""
    iterations: int
    converged: bool
    """The last fit and all those that chose its l2."""

    @property
    def at_edge(self) -> bool:
        """Whether `l2` is the smallest or the largest that was tried."""
        return self.l2 in (min(self.validation_top1), max(self.validation_top1))


def linear_probe(
    train: LabelledFeatures,
    test: LabelledFeatures,
    *,
    fit_rows: NDArray[np.int64],
    validation_rows: NDArray[np.int64],
    grid: Sequence[float] = L2_GRID,
    device: torch.device = CPU,
) -> ProbeResult:
    """Chooses l2 from `grid` by fits to `fit_rows` of train, evaluated on `validation_rows`, then fits all of train.

    Of equally good l2 the largest is taken.
    """
    validation_top1, probe, converged = {}, None, True
    for l2 in sorted(grid, reverse=True):
        probe = fit_probe(train, fit_rows, l2=l2, start=probe, device=device)
        validation_top1[l2] = probe.top1(train, validation_rows)
        converged &= probe.converged
    l2 = max(validation_top1, key=lambda value: (validation_top1[value], value))
    last = fit_probe(train, l2=l2, device=device)
    return ProbeResult(last.top1(test), l2, validation_top1, last.iterations, converged and last.converged)


def fit_probe(
    features: LabelledFeatures,
    rows: NDArray[np.int64] | None = None,
    *,
    l2: float,
    start: LinearProbe | None = None,
    device: torch.device = CPU,
    batch_size: int = BATCH,
) -> LinearProbe:
    """Minimises mean cross-entropy + l2/2 ‖W‖² over weights W [K, D] and intercepts [K], in float64.

    Intercepts are not penalised. Classes are those that `rows` (all by default) have. Raises ValueError for a single class.
    """
    from scipy.optimize import minimize

    labels = features.labels if rows is None else features.labels[rows]
    classes = np.unique(labels)
    if len(classes) < 2:
        raise ValueError(
            f"labels have one class, {classes[0]}, and nothing to tell it from; give images of two or more"
        )
    standardise = Standardise.of(features, rows, batch_size=batch_size)
    shape = len(classes), features.width + 1

    def loss_and_gradient(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = torch.from_numpy(flat.reshape(shape)).to(device)
        loss = torch.zeros((), dtype=torch.float64, device=device)
        gradient = torch.zeros_like(weights)
        for values, batch_labels in features.batches(rows, batch_size=batch_size):
            x = torch.from_numpy(standardise(values)).to(device)
            y = torch.from_numpy(np.searchsorted(classes, batch_labels)).to(device)
            logits = torch.addmm(weights[:, -1], x, weights[:, :-1].T)
            loss += F.cross_entropy(logits, y, reduction="sum")
            residual = logits.softmax(dim=1) - F.one_hot(y, len(classes))
            gradient[:, :-1] += residual.T @ x
            gradient[:, -1] += residual.sum(dim=0)
        gradient /= len(labels)
        gradient[:, :-1] += l2 * weights[:, :-1]
        penalty = l2 / 2 * weights[:, :-1].square().sum()
        return float(loss / len(labels) + penalty), gradient.cpu().numpy().ravel()

    first = np.zeros(shape) if start is None or start.weights.shape != shape else start.weights
    optimum = minimize(
        loss_and_gradient,
        first.ravel(),
        method="L-BFGS-B",  # without bounds: plain L-BFGS
        jac=True,
        # The gradient alone decides when to stop: a loss that hardly falls any more is not yet at its minimum.
        options={"gtol": TOLERANCE, "ftol": 0.0, "maxiter": MOST_ITERATIONS, "maxfun": 2 * MOST_ITERATIONS},
    )
    converged = bool(np.abs(optimum.jac).max() <= TOLERANCE)
    return LinearProbe(optimum.x.reshape(shape), standardise, classes, float(optimum.fun), int(optimum.nit), converged)
