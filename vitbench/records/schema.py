"""What one line of a record file holds."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vitbench.config import RunConfig, run_id
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
    fraction: float = 1.0
    """Share of the epoch that was trained: below 1 where a run of a broken number of epochs ends."""


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
    """CUDA: the allocator's peak over the run. CPU: the most bytes of tensors alive at once in one training step."""
    resumed: int = 0
    """How often the run was interrupted and went on from a checkpoint; seconds and rates are then of all parts together."""


class Design(BaseModel):
    """The study that a run belongs to, as it was planned: what tables need besides the numbers."""

    model_config = ConfigDict(frozen=True, extra="allow")

    question: str
    source: str
    baseline: str
    """Name of the arm that the others are compared with."""
    arms: tuple[str, ...]
    """Names of all arms, in the study's order, the baseline first."""
    learning_rates: tuple[float, ...]
    """The grid that every arm gets, ascending; steps beyond its edges, once they are planned, among them."""
    tuned: dict[str, tuple[float, ...]] = {}
    """Values of the other fields that are tuned, ascending; every arm gets every combination with `learning_rates`."""
    tuning_seeds: int | None = None
    """Settings are chosen on the seeds below this; the others run at chosen settings alone. None: on every seed."""
    match: str = "epochs"
    """What is equal for all arms: `epochs`, `flops` (training FLOPs) or `time` (training time)."""
    epochs: dict[str, float] = {}
    """Epochs of each arm, by name, where `match` is not `epochs`, or arms train on fractions or go on from others."""
    fractions: dict[str, float] = {}
    """The share of the training images that each arm, by name, trains on, for as many steps; empty where all train on all."""
    factors: dict[str, dict[str, str]] = {}
    """Of a factorial study: the level that each arm, by name, has of each factor."""
    within: tuple[str, ...] = ()
    """Factors whose level is held: an arm is compared with the one of the baseline's level of all others."""
    starts: dict[str, str] = {}
    """Arm to the arm from whose weights, of the same seed and setting, it went on, its head included."""
    train_images: int | None = None
    """Images that an epoch trains on, the validation split left out, and that fractions are of; None in older records."""


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
    design: Design
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
    weights_sha256: str = ""
    """Of the weights that were evaluated on test: each parameter's and buffer's name and values, in the model's order."""
    cost: Cost
    environment: Environment
    taken_from: str = ""
    """The study that trained this run, where it was another one: the same configuration gives the same bits."""
    started: str
    """UTC, ISO 8601."""
    finished: str

    @model_validator(mode="before")
    @classmethod
    def _agrees_with_its_config(cls, values: Any) -> Any:
        """Held against the configuration as it was written: a field that came later must not disown old records."""
        config = values.get("config") if isinstance(values, dict) else None
        if isinstance(config, dict) and (expected := run_id(config)) != values.get("run_id"):
            raise ValueError(f"run_id {values.get('run_id')!r} is not that of its config, {expected!r}")
        return values

    @property
    def identity(self) -> str:
        """The run_id that this version of the schema gives to the same run: what plans are held against."""
        return self.config.run_id

    @property
    def ended_before_data(self) -> bool:
        """Whether the run failed so early that it cannot say which data, compiler and operators it would have had."""
        return self.outcome is Outcome.FAILED and not self.environment.data_sha256

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
