"""What does one line of a record file hold?"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Sequence
from enum import StrEnum
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vitbench.config import RunConfig, run_id
from vitbench.records.environment import Environment

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


class Stored(BaseModel):
    """Base of what records hold: frozen, and tolerant of fields that later versions add."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    def to_json(self) -> str:
        """The object of its line, without the digest and the line break."""
        return self.model_dump_json(by_alias=True)

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True)


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
    resumed: Count = 0
    """How often the run was interrupted and went on from a checkpoint; seconds and rates are then of all parts together."""


class Design(Stored):
    """The study that a run belongs to, as it was planned: what tables need besides the numbers.

    Fields are as recorded; properties say what follows from them, for plans and tables alike.
    """

    question: str
    source: str
    baseline: str
    """Name of the arm that the others are compared with."""
    arms: tuple[str, ...]
    """Names of all arms, in the study's order, the baseline first."""
    learning_rates: tuple[float, ...]
    """The grid that every arm gets, ascending, with the steps beyond its edges that are planned so far."""
    tuned: dict[str, tuple[float, ...]] = {}
    """Values of the other fields that are tuned, ascending; every arm gets every combination with `learning_rates`."""
    tuning_seeds: int | None = None
    """Settings are chosen on the seeds below this; the others run at chosen settings alone. None: on every seed."""
    match: str = "epochs"
    """What is equal for all arms: `epochs`, `flops` (training FLOPs) or `time` (training time)."""
    epochs: dict[str, float] = {}
    """Epochs of each arm, by name, where `epochs_differ`."""
    fractions: dict[str, float] = {}
    """The share of the training images that each arm, by name, trains on, for as many steps; empty where all train on all."""
    factors: dict[str, dict[str, str]] = {}
    """Of a factorial study: the level that each arm, by name, has of each factor."""
    within: tuple[str, ...] = ()
    """Factors whose level is held where arms are compared: see `held_factors`, `compared_with`."""
    starts: dict[str, str] = {}
    """Arm to the arm from whose weights, of the same seed and setting, it went on, its head included."""
    train_images: int | None = None
    """Images of an epoch, without the validation split; fractions are of these. None in older records."""

    @property
    def tuned_fields(self) -> tuple[str, ...]:
        """The learning rate, then the other fields that are tuned."""
        return ("learning_rate", *self.tuned)

    @property
    def settings(self) -> tuple[tuple[float, ...], ...]:
        """The grid: every combination of values of the `tuned_fields`, ascending."""
        return tuple(product(self.learning_rates, *self.tuned.values()))

    @property
    def noun(self) -> str:
        """What an arm has one of: its learning rate, or with other fields tuned too, its setting."""
        return "setting" if self.tuned else "learning rate"

    @property
    def short_noun(self) -> str:
        return "setting" if self.tuned else "rate"

    @property
    def epochs_differ(self) -> bool:
        """Whether arms train for epochs of their own."""
        return self.match != "epochs" or self.images_differ or self.has_starts

    @property
    def images_differ(self) -> bool:
        """Whether arms train on fractions of the training images."""
        return bool(self.fractions)

    @property
    def has_starts(self) -> bool:
        """Whether arms start from the weights of others. They may then have other image sizes, and so other hashes of the same
        images.
        """
        return bool(self.starts)

    @property
    def held_factors(self) -> tuple[str, ...]:
        """Factors whose level is held where arms are compared: `within`, or where arms train on fractions, the images."""
        return ("images",) if self.images_differ else self.within

    @property
    def kind(self) -> tuple[object, ...]:
        """Plans of another kind are compared apart, even where they share runs."""
        epochs = self.epochs.get(self.baseline)
        return self.match, tuple(sorted(self.tuned)), epochs, self.images_differ, self.has_starts

    def compared_with(self, arm: str) -> str:
        """The baseline; or with held factors, the arm of its level of these and the baseline's of all others.

        An arm may be its own, and is where none has these levels. Raises KeyError for an arm without levels.
        """
        if not self.held_factors:
            return self.baseline
        held = {name: self.factors[arm][name] for name in self.held_factors}
        wanted = {**self.factors[self.baseline], **held}
        return next((name for name, levels in self.factors.items() if levels == wanted), arm)

    def chosen_with(self, arm: str) -> str:
        """Whose choice of a setting an arm takes: its own, or where it trains nothing, that of the arm it goes on from."""
        return self.chosen_with(self.starts[arm]) if arm in self.starts and self.epochs.get(arm) == 0 else arm


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
        fields = ("outcome", "metrics", "curve", "correct", "weights_sha256")
        differing = [
            name for name in fields if getattr(earlier, name) and getattr(self, name) != getattr(earlier, name)
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
    if re.search(r"_top\d+$|_ece$", name):
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
