"""Which runs a study needs under a budget, which of them are recorded, and what the rest will cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol

from vitbench.config import DataConfig, RunConfig, ViTConfig
from vitbench.profiling.macs import count, training_flops_per_image
from vitbench.records import Design, Outcome, Record
from vitbench.studies.base import Arm, Study
from vitbench.studies.budgets import Budget, Scale, base_variant
from vitbench.variants import variant as named_variant

BUILT_IN_DATA = ("digits", "shapes")
ASSUMED_FLOPS_PER_SECOND = 20e9
"""Training rate of one worker, assumed until this machine has a record."""

COMPILING_PAYS_FROM = 2e13
"""Training FLOPs of a run. On CPU, compiling a shape takes 15 s and gains 4 % (benchmarks/LOG.md): 375 s at 50 GFLOP/s."""


class DataFacts(Protocol):
    """What planning needs to know of a data set (`vitbench.data.DataInfo`)."""

    @property
    def dataset(self) -> str: ...
    @property
    def image_size(self) -> tuple[int, int]: ...
    @property
    def in_channels(self) -> int: ...
    @property
    def num_classes(self) -> int: ...
    @property
    def train_images(self) -> int: ...
    @property
    def crop_padding(self) -> int: ...
    @property
    def flip(self) -> bool: ...


@dataclass(frozen=True)
class PlannedRun:
    """One run and the place that it has in a study."""

    study: str
    arm: str
    budget: str
    variant: str
    design: Design
    config: RunConfig
    train_images: int
    """Images that an epoch trains on, the validation split left out."""

    @property
    def run_id(self) -> str:
        return self.config.run_id

    @property
    def training_flops(self) -> int:
        """6 × MACs an image: forward and backward."""
        return training_flops_per_image(self.config.model) * self.train_images * self.config.train.epochs

    def eager_on_cpu_because(self) -> str:
        """Why `compile="auto"` does not compile this run on CPU, where no native operators do better; empty where it does."""
        if self.training_flops >= COMPILING_PAYS_FROM:
            return ""
        return f"compiling pays from {COMPILING_PAYS_FROM / 1e12:.0f} TFLOP of training, and this run has fewer"


@dataclass(frozen=True)
class Overrides:
    """What the command line may set over a budget's own. None and empty leave the budget as it is."""

    variant: str | None = None
    seeds: int | None = None
    train: dict[str, Any] | None = None
    train_images: int | None = None
    learning_rates: tuple[float, ...] = ()


def plan(study: Study, budget: Budget, data: DataFacts, overrides: Overrides = Overrides()) -> list[PlannedRun]:
    """All runs of `study` on `data`: seeds outermost, so that a stopped study has whole seeds.

    Raises ValueError where an arm has no meaning on the base variant.
    """
    family = data.dataset.split("/")[0]
    scale = budget.built_in if family in BUILT_IN_DATA else budget.images
    name, base = _base(scale, data, overrides.variant)
    arms = study.all_arms(base)
    models = {arm.name: arm.apply(base) for arm in arms}
    for name_of_arm, model in models.items():
        twin = next(other for other in models if models[other] == model)
        if twin != name_of_arm:
            raise ValueError(f"arms {twin!r} and {name_of_arm!r} are the same model on {name}; leave one out")
    rates = overrides.learning_rates or (scale.grid if study.tuning == "grid" else scale.short)
    rates = tuple(sorted(set(rates)))
    design = Design(
        question=study.question,
        source=study.source,
        baseline=arms[0].name,
        arms=tuple(arm.name for arm in arms),
        learning_rates=rates,
    )
    data_config, train_images = data_settings(
        data, wanted=scale.train_images if overrides.train_images is None else overrides.train_images
    )
    if not scale.augment:
        data_config = data_config.replace(crop_padding=0, flip=False)
    train = scale.train
    if family in scale.epochs:
        train = train.replace(epochs=scale.epochs[family])
    train = train.replace(**(overrides.train or {}))
    if train.batch_size > train_images:
        raise ValueError(
            f"batch_size {train.batch_size} is more than the {train_images} training images; make it smaller"
        )

    def planned(arm: Arm, rate: float, seed: int) -> PlannedRun:
        config = RunConfig(model=models[arm.name], data=data_config, train=train.replace(learning_rate=rate), seed=seed)
        return PlannedRun(study.name, arm.name, budget.name, name, design, config, train_images)

    seeds = range(overrides.seeds or budget.seeds)
    return [planned(arm, rate, seed) for seed in seeds for rate in rates for arm in arms]


def data_settings(data: DataFacts, *, wanted: int | None) -> tuple[DataConfig, int]:
    """(the data configuration with the set's own augmentation, the images that an epoch trains on).

    A subset as large as what the validation split leaves is the whole, and named so.
    """
    config = DataConfig(dataset=data.dataset, crop_padding=data.crop_padding, flip=data.flip)
    left = data.train_images - round(data.train_images * config.validation_fraction)
    if wanted is None or wanted >= left:
        return config, left
    return config.replace(train_images=wanted), wanted


def _base(scale: Scale, data: DataFacts, name: str | None) -> tuple[str, ViTConfig]:
    shape = {"image_size": data.image_size, "in_channels": data.in_channels, "num_classes": data.num_classes}
    if name is not None:
        return name, named_variant(name, **shape)
    return base_variant(scale, image_size=data.image_size, in_channels=data.in_channels, num_classes=data.num_classes)


def recorded(runs: Iterable[PlannedRun], records: Iterable[Record]) -> set[str]:
    """run_ids of the planned runs that are done: completed or diverged. Failed runs are tried again."""
    done = {(r.study, r.arm, r.budget, r.variant, r.identity) for r in records if r.outcome is not Outcome.FAILED}
    return {run.run_id for run in runs if (run.study, run.arm, run.budget, run.variant, run.run_id) in done}


@dataclass(frozen=True)
class Estimate:
    """`hours` of wall time; `measured` tells whether the rate comes from records of this machine or is assumed."""

    hours: float
    training_flops: int
    flops_per_second: float
    measured: bool


def estimate(
    runs: Sequence[PlannedRun], records: Iterable[Record], *, cpu: str, cpu_cores: int, workers: int
) -> Estimate:
    """What `runs` will take here: their training FLOPs over the median rate of this machine's records of such models."""
    here = [
        r
        for r in records
        if r.environment.device.startswith("cpu") and (r.environment.cpu, r.environment.cpu_cores) == (cpu, cpu_cores)
    ]
    rates = [rate for r in here if (rate := _flops_per_second(r))]
    rate = median(rates) if rates else ASSUMED_FLOPS_PER_SECOND
    flops = sum(run.training_flops for run in runs)
    return Estimate(flops / rate / workers / 3600, flops, rate, measured=bool(rates))


def _flops_per_second(record: Record) -> float | None:
    if not record.cost.train_images_per_second:
        return None
    return record.cost.train_images_per_second * training_flops_per_image(record.config.model)


def macs(run: PlannedRun) -> int:
    """Forward MACs of the run's model, per image."""
    return count(run.config.model).macs
