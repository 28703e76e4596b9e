"""What does a layer cost? Parameters, MACs and activations, by closed form, of the layers that models are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

Shape = Sequence[int]


@dataclass(frozen=True)
class Counts:
    """`params` are trainable parameters; `macs` and `activations` (elements) are per image, forward."""

    params: int = 0
    macs: int = 0
    activations: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.params + other.params, self.macs + other.macs, self.activations + other.activations)


def linear(inputs: int, outputs: int, *, positions: int, bias: bool = True) -> Counts:
    """A linear layer applied at `positions` places."""
    return Counts((inputs + bias) * outputs, macs=positions * inputs * outputs, activations=positions * outputs)


def convolution(inputs: int, outputs: int, *, kernel: int, positions: int) -> Counts:
    """A convolution without bias, evaluated at `positions` outputs, and the scale and shift of the norm after it."""
    weights = inputs * outputs * kernel**2
    return Counts(params=weights + 2 * outputs, macs=positions * weights, activations=positions * outputs)


def attention_products(q: Shape, k: Shape, v: Shape) -> Counts:
    """The products q·kᵀ and attention·v. q: [..., N, d], k: [..., M, d], v: [..., M, e]."""
    num_logits = prod(q[:-1]) * k[-2]
    return Counts(macs=num_logits * (q[-1] + v[-1]), activations=num_logits + prod(q[:-1]) * v[-1])


def lstm_products(inputs: Shape, weights: Sequence[Shape]) -> Counts:
    """The products with inputs [..., C] and states at every place; weights that are matrices [rows, columns] count."""
    matrices = [weight for weight in weights if len(weight) == 2]
    positions = prod(inputs[:-1])
    return Counts(
        macs=positions * sum(rows * columns for rows, columns in matrices),
        activations=positions * sum(rows for rows, _ in matrices),
    )
