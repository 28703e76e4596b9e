"""What does one line of a record file hold?"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Sequence
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from vitbench.config import RunConfig, run_id
from vitbench.records.design import Design
from vitbench.records.environment import Environment
from vitbench.records.stored import Stored

if TYPE_CHECKING:
    import numpy as np

SCHEMA = 1
STUDY_NAME = re.compile(r"(?!(?i:con|prn|aux|nul|com\d|lpt\d)$)[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
"""A study names files and folders, on Windows too."""

Share = Annotated[float, Field(ge=0, le=1)]
Loss = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Measured = Annotated[float, Field(ge=0, le=1e15)]
"""Seconds, or images a second."""


class Outcome(StrEnum):
    COMPLETED = "completed"
    FAILED = "failed"
    DIVERGED = "diverged"


class EpochPoint(Stored):
    """One epoch of the learning curve. Accuracies are fractions in [0, 1], losses in nats."""

    epoch: Annotated[int, Field(ge=1)]
    """1 after the first pass over the training images."""
    train_loss: Loss | None
    """Mean over the epoch; None where it was not finite."""
    val_loss: Loss | None = None
    val_top1: Share | None = None
    fraction: Share = 1.0
    """Share of the epoch that was trained: below 1 where a run of a broken number of epochs ends."""


class Cost(Stored):
    """What the run cost. 1 MAC = 2 FLOPs; MACs are per image, forward; training counts 3 × forward."""

    params: Count
    macs: Count
    train_seconds: Measured | None = None
    """Training steps and their data alone; evaluation stops the clock."""
    train_images_per_second: Measured | None = None
    infer_images_per_second: Measured | None = None
    peak_memory_bytes: Count | None = None
    """CUDA: the allocator's peak over the run. CPU: the most bytes of tensors alive at once in one training step."""
    macs_incomplete: tuple[str, ...] = ()
    """Operators of a user's code that have no count, by torch's names; with any, `macs` are fewer than the model's."""
    resumed: Count = 0
    """How often the run was interrupted and went on from a checkpoint; seconds and rates are then of all parts together."""


class Record(Stored):
    """One run, as measured. Never edited, only appended."""

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
    metrics: dict[str, float] = Field(default_factory=dict)
    """`val_top1`, `val_loss` and those of `METRICS`, by key: final epoch, fractions in [0, 1], nats, and Brier scores. Older
    records have `test_top1` and `test_loss` alone of the latter. On distorted test images: `shift_4/test_top1`,
    `shift_4/test_loss` (`config.distortions`).
    """
    curve: tuple[EpochPoint, ...] = ()
    correct: str = ""
    """Which test images were classified right, in data set order: bits packed big-endian, base64 (`unpack_correct`)."""
    weights_sha256: str = ""
    """Of the weights that were evaluated on test: each parameter's and buffer's name and values, in the model's order."""
    self_initialised: tuple[str, ...] = ()
    """Which of the user's code decides itself what it starts as: parts with `init_weights`, and whole models."""
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
        return with_id_checked(values, "run_id", of="config")

    @property
    def identity(self) -> str:
        """The run_id that today's schema gives to the same run, by which plans find it."""
        return self.config.run_id

    @property
    def key(self) -> tuple[str, str]:
        """(study, run_id) of the planned run that it is of."""
        return self.study, self.identity

    @property
    def ended_before_data(self) -> bool:
        """Whether the run failed before its data, compiler and operators were known."""
        return self.outcome is Outcome.FAILED and not self.environment.data_sha256

    @property
    def is_done(self) -> bool:
        """Whether its run is done: completed or diverged. A failed run is tried again."""
        return self.outcome is not Outcome.FAILED

    def objection(self) -> str:
        """Why it cannot be right: a metric out of its range, or two fields that contradict each other; else empty."""
        for name, value in self.metrics.items():
            low, high = _limits(name)
            if not low <= value <= high:
                return f"{name} {value} is not in [{low}, {high}]"
        if self.seed != self.config.seed:
            return f"seed {self.seed} is not its config's, {self.config.seed}"
        if self.learning_rate != self.config.train.learning_rate:
            return f"learning_rate {self.learning_rate} is not its config's, {self.config.train.learning_rate}"
        if self.correct and "test_top1" in self.metrics:
            return _bits_against(self.correct, self.metrics["test_top1"])
        return ""

    def differing_numbers(self, earlier: Record) -> list[str]:
        """The fields whose numbers are missing, or not those of an earlier record of the same run.

        Numbers that the earlier record lacks may be new in a later version. MACs may differ by 1 %, as versions count
        differently.
        """
        mine: dict[str, Any] = {name: self.metrics.get(name) for name in earlier.metrics}
        fields = ("outcome", "metrics", "curve", "correct", "weights_sha256")
        differing = [
            name
            for name in fields
            if getattr(earlier, name) and (mine if name == "metrics" else getattr(self, name)) != getattr(earlier, name)
        ]
        if self.cost.params != earlier.cost.params:
            differing.append("params")
        if abs(self.cost.macs - earlier.cost.macs) > 0.01 * earlier.cost.macs:
            differing.append("macs")
        return differing


def with_id_checked(values: Any, id_name: str, *, of: str) -> Any:
    """The fields of a line, without its digest. Raises ValueError for an id that does not follow from the field `of`.

    It is held against that field as it was written: a field that came later must not disown old records.
    """
    if not isinstance(values, dict):
        return values
    source = values.get(of)
    if isinstance(source, dict) and (expected := run_id(source)) != values.get(id_name):
        raise ValueError(f"{id_name} {values.get(id_name)!r} is not that of its {of}, {expected!r}")
    return {name: value for name, value in values.items() if name != "digest"}


@cache
def _limits(name: str) -> tuple[float, float]:
    """The smallest and the largest value of a metric, by the end of its name."""
    if re.search(r"_top\d+$|_ece(_mass)?$", name):
        return 0.0, 1.0
    if name.endswith("_brier"):
        return 0.0, 2.0
    return (0.0 if name.endswith("_loss") else -math.inf), math.inf


def _bits_against(correct: str, top1: float) -> str:
    """Why packed bits cannot belong to this top-1 accuracy; else empty.

    n bytes hold 8 n images, or up to 7 fewer, as the bits after the last image are 0.
    """
    try:
        packed = base64.b64decode(correct, validate=True)
    except (binascii.Error, ValueError):
        return "correct is not base64"
    bits = int.from_bytes(packed, "big")
    right, padding = bits.bit_count(), (bits & -bits).bit_length() - 1 if bits else 8
    sizes = range(8 * len(packed), 8 * len(packed) - 1 - min(padding, 7), -1)
    if any(size and abs(right / size - top1) < 1e-6 for size in sizes):
        return ""
    return f"correct has {right} right of {sizes[-1]} to {sizes[0]} images, which is no test_top1 of {top1}"


def pack_correct(correct: Sequence[bool] | np.ndarray) -> str:
    """Boolean per test image [N] → base64 of packed bits."""
    import numpy as np  # only here: `vitbench plan` reads records and must start fast

    return base64.b64encode(np.packbits(np.asarray(correct, dtype=bool)).tobytes()).decode()


def unpack_correct(packed: str, num_images: int) -> np.ndarray:
    """The inverse of `pack_correct`: bool [num_images]."""
    import numpy as np

    bits = np.unpackbits(np.frombuffer(base64.b64decode(packed), dtype=np.uint8), count=num_images)
    return bits.astype(bool)
