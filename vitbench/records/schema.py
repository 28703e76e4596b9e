"""What one line of a record file holds."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vitbench.config import RunConfig
from vitbench.records.environment import Environment

if TYPE_CHECKING:
    import numpy as np

SCHEMA = 1


class Outcome(StrEnum):
    COMPLETED = "completed"
    FAILED = "failed"
    DIVERGED = "diverged"


class EpochPoint(BaseModel):
    """One epoch of the learning curve. Accuracies are fractions in [0, 1], losses in nats."""

    model_config = ConfigDict(frozen=True, extra="allow")

    epoch: int
    """1 after the first pass over the training images."""
    train_loss: float | None
    """Mean over the epoch; None where it was not finite."""
    val_loss: float | None = None
    val_top1: float | None = None


class Cost(BaseModel):
    """What the run cost. 1 MAC = 2 FLOPs; MACs are per image, forward; training counts 3 × forward."""

    model_config = ConfigDict(frozen=True, extra="allow")

    params: int
    macs: int
    train_seconds: float | None = None
    """Training steps and their data alone; evaluation stops the clock."""
    train_images_per_second: float | None = None
    infer_images_per_second: float | None = None
    peak_memory_bytes: int | None = None
    """CUDA: the allocator's peak. CPU: how far the process's resident size rose above its size before the run."""


class Record(BaseModel):
    """One run, as measured. Never edited, only appended."""

    model_config = ConfigDict(frozen=True, extra="allow")

    schema_: int = Field(default=SCHEMA, alias="schema")
    run_id: str
    study: str
    arm: str
    budget: str
    """The budget that the run was planned under; `custom` for `vitbench train`."""
    variant: str
    """The variant that the study's arms differ from."""
    seed: int
    learning_rate: float
    config: RunConfig
    outcome: Outcome
    reason: str = ""
    metrics: dict[str, float] = {}
    """`test_top1`, `test_loss`, `val_top1`, `val_loss`: final epoch, fractions in [0, 1] and nats."""
    curve: tuple[EpochPoint, ...] = ()
    correct: str = ""
    """Which test images were classified right, in data set order: bits packed big-endian, base64 (`unpack_correct`)."""
    cost: Cost
    environment: Environment
    started: str
    """UTC, ISO 8601."""
    finished: str

    @model_validator(mode="after")
    def _agrees_with_its_config(self) -> Self:
        if self.run_id != self.config.run_id:
            raise ValueError(f"run_id {self.run_id!r} is not that of its config, {self.config.run_id!r}")
        return self

    def to_json(self) -> str:
        """One line, without the line break."""
        return self.model_dump_json(by_alias=True)

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True)


def pack_correct(correct: Sequence[bool] | np.ndarray) -> str:
    """Boolean per test image [N] → base64 of packed bits."""
    import numpy as np  # only here: `vitbench plan` reads records and must start fast

    return base64.b64encode(np.packbits(np.asarray(correct, dtype=bool)).tobytes()).decode()


def unpack_correct(packed: str, num_images: int) -> np.ndarray:
    """The inverse of `pack_correct`: bool [num_images]."""
    import numpy as np

    bits = np.unpackbits(np.frombuffer(base64.b64decode(packed), dtype=np.uint8), count=num_images)
    return bits.astype(bool)
