"""What a part of a model costs: parameters, MACs and activations; of the layers that everything is made of, by closed form."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Counts:
    """`params` are trainable parameters; `macs` and `activations` (elements) are per image, forward."""

    params: int = 0
    macs: int = 0
    activations: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            params=self.params + other.params,
            macs=self.macs + other.macs,
            activations=self.activations + other.activations,
        )


def linear(inputs: int, outputs: int, *, positions: int, bias: bool = True) -> Counts:
    """A linear layer applied at `positions` places."""
    return Counts(
        params=inputs * outputs + outputs * bias,
        macs=positions * inputs * outputs,
        activations=positions * outputs,
    )


def convolution(inputs: int, outputs: int, *, kernel: int, positions: int) -> Counts:
    """A convolution without bias, evaluated at `positions` outputs, and the scale and shift of the norm after it."""
    weights = inputs * outputs * kernel**2
    return Counts(params=weights + 2 * outputs, macs=positions * weights, activations=positions * outputs)
