"""How much memory does a training step take, and how many images of its batch fit at a time? Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from vitbench.config import RunConfig
from vitbench.costs.macs import count
from vitbench.text import size_in_bytes

BYTES = 4
"""Of a number in float32, as weights, their gradients and the optimizer's state are."""
STATES = 4
"""Numbers for each parameter: itself, its gradient, and two of the optimizer's, as AdamW has them."""
KEPT = 1.3
"""Numbers that the backward pass needs, for each activation that `costs.macs` counts: the median of 89 models of the
reference, of which they are between 0.7 and 2.1.
"""
COPIES = 3
"""Of a whole batch, while it is augmented: its images as they came, in float32, and once more while they are mixed."""


TRIED, COUNTED = 0.9, 0.75
"""Share of the free memory that runs may take: where a size is tried before it is taken, and where it is counted alone, as
counts leave out the scratch memory of operators.
"""


def room_for(free: int, runs: int, *, is_tried: bool) -> float:
    """Bytes that each of so many runs at a time may take."""
    return (TRIED if is_tried else COUNTED) * free / runs


@dataclass(frozen=True)
class StepMemory:
    """What a training step takes, in bytes."""

    fixed: int
    """Weights, the optimizer's state, and gradients, which are there while the next images are computed."""
    per_image: float
    """What the backward pass needs of each image that is computed at a time."""
    per_image_of_batch: int
    """What each image of the whole batch takes, however few are computed at a time."""
    average: int = 0
    """Of the moving average of the weights, which no part of a step but its end touches."""
    least: int = 0
    """A step of few images takes no less: the optimizer's update may take more than they do."""

    def peak_of(self, batch_size: int) -> int:
        """Of a step that computes so many images at a time, as records have it: without what the batch took before."""
        return max(self.least, round(self.fixed + self.per_image * batch_size))

    def needed(self, batch_size: int, micro_batch: int | None = None) -> int:
        """All that a run must have room for."""
        step = self.peak_of(min(micro_batch or batch_size, batch_size))
        return step + self.average + self.per_image_of_batch * batch_size

    def largest_fitting(self, batch_size: int, room: float) -> int | None:
        """Images at a time that need no more than `room` bytes; None where the whole batch fits.

        A half, a quarter, … of the batch, rounded up, so that a little more or less room changes nothing. Raises ValueError
        where not even one image fits.
        """
        size = batch_size
        while self.needed(batch_size, size) > room:
            if size == 1:
                needed, may_take = size_in_bytes(self.needed(batch_size, 1)), size_in_bytes(room)
                raise ValueError(
                    f"micro_batch auto: one image at a time takes {needed}, and a run may take {may_take} here; use a smaller "
                    "model or batch_size, or fewer jobs"
                )
            size = -(-size // 2)
        return None if size == batch_size else size


def image_bytes(config: RunConfig) -> int:
    """Of each image of a batch on its way to the model."""
    height, width = config.model.image_hw
    return COPIES * BYTES * config.model.in_channels * height * width


def estimated_memory(config: RunConfig) -> StepMemory:
    """By closed form, without building the model: within a factor of two. Precision `auto` counts as float32.

    Raises ValueError as `count` does.
    """
    counts = count(config.model)
    averaged = config.train.ema_decay is not None
    kept = 2 if config.train.precision == "bf16" else BYTES
    return StepMemory(
        fixed=BYTES * STATES * counts.params,
        per_image=kept * KEPT * counts.activations,
        per_image_of_batch=image_bytes(config),
        average=BYTES * counts.params * averaged,
    )
