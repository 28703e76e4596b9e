"""What planned runs will take on this machine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import log10
from statistics import median

from vitbench.config import ModelConfig, ViTConfig
from vitbench.costs.macs import training_flops_per_image
from vitbench.records import Record
from vitbench.studies.plan import PlannedRun

ASSUMED_FLOPS_PER_SECOND = 20e9
"""Training rate of one worker, assumed until this machine has a record."""
LATEST = 20
"""Records of a model whose median counts."""


@dataclass(frozen=True)
class Estimate:
    """`hours` of wall time; `measured` tells whether the rate comes from records of this machine or is assumed."""

    hours: float
    training_flops: int
    flops_per_second: float
    measured: bool
    workers: int

    def hours_of(self, training_flops: float) -> float:
        """Of other runs, by the same rate and as many workers."""
        return training_flops / self.flops_per_second / self.workers / 3600


def estimate(
    runs: Sequence[PlannedRun], records: Iterable[Record], *, cpu: str, cpu_cores: int, workers: int
) -> Estimate:
    """What `runs` will take here: their training FLOPs, each at the median rate of this machine's latest records of the models
    that are most like its own. `flops_per_second` is that of all runs together.
    """
    measured: dict[ModelConfig, list[float]] = defaultdict(list)
    flops_per_image: dict[ModelConfig, int] = {}
    for r in sorted((r for r in records if not r.taken_from), key=lambda r: r.finished):
        here = r.environment.device.startswith("cpu") and (r.environment.cpu, r.environment.cpu_cores) == (
            cpu,
            cpu_cores,
        )
        if here and r.cost.train_images_per_second and r.cost.macs:
            flops_per_image[r.config.model] = each = training_flops_per_image(r.config.model, recorded_macs=r.cost.macs)
            measured[r.config.model].append(r.cost.train_images_per_second * each)
    flops: dict[ModelConfig, int] = defaultdict(int)
    for run in runs:
        flops[run.config.model] += run.training_flops
    total = sum(flops.values())
    seconds = sum(one / _rate(model, measured, flops_per_image) for model, one in flops.items())
    rate = total / seconds if total else ASSUMED_FLOPS_PER_SECOND
    found = Estimate(0.0, total, rate, bool(measured), workers)
    return replace(found, hours=found.hours_of(total))


def _rate(
    model: ModelConfig, measured: Mapping[ModelConfig, Sequence[float]], flops_per_image: Mapping[ModelConfig, int]
) -> float:
    """FLOP/s of the latest records of the nearest model, or of several as near: by the ratio of FLOPs and `_difference`."""
    if not measured:
        return ASSUMED_FLOPS_PER_SECOND
    mine = training_flops_per_image(model)
    distances = {other: abs(log10(mine / flops_per_image[other])) + _difference(model, other) for other in measured}
    nearest = min(distances.values())
    return median(rate for other, rates in measured.items() if distances[other] == nearest for rate in rates[-LATEST:])


def _difference(one: ModelConfig, other: ModelConfig) -> int:
    """In how much of what sets kernels apart two models differ; each weighs as much as a factor of ten in FLOPs."""
    return sum(a != b for a, b in zip(_kind(one), _kind(other), strict=True))


def _kind(model: ModelConfig) -> tuple[str, str, str]:
    if isinstance(model, ViTConfig):
        return "", model.stem, model.position if model.position in ("relative", "rope_2d") else ""
    return model.timm, "", ""
