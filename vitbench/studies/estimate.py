"""How long will planned runs take on this machine?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
    """What runs will take with so many workers, each at so many FLOP/s."""

    training_flops: int
    flops_per_second: float
    measured: bool
    """Whether the rate comes from records of this machine, or is assumed."""
    workers: int

    @property
    def hours(self) -> float:
        """Of wall time."""
        return self.hours_of(self.training_flops)

    def hours_of(self, training_flops: float) -> float:
        """Of other runs, by the same rate and as many workers."""
        return training_flops / self.flops_per_second / self.workers / 3600


def estimate(
    runs: Sequence[PlannedRun], records: Iterable[Record], *, cpu: str, cpu_cores: int, workers: int
) -> Estimate:
    """What `runs` will take on this machine: the training FLOPs of each model at the rate of the most similar recorded ones.

    The result's `flops_per_second` is that of all runs together.
    """
    rates: dict[ModelConfig, list[float]] = defaultdict(list)
    flops_per_image: dict[ModelConfig, int] = {}
    for record in sorted((record for record in records if not record.taken_from), key=lambda record: record.finished):
        environment, cost, model = record.environment, record.cost, record.config.model
        on_this_cpu = environment.device.startswith("cpu") and environment.cpu == cpu
        if on_this_cpu and environment.cpu_cores == cpu_cores and cost.train_images_per_second and cost.macs:
            flops_per_image[model] = training_flops_per_image(model, recorded_macs=cost.macs)
            rates[model].append(cost.train_images_per_second * flops_per_image[model])
    flops: dict[ModelConfig, int] = defaultdict(int)
    for run in runs:
        flops[run.config.model] += run.training_flops
    total = sum(flops.values())
    seconds = sum(of_model / _rate(model, rates, flops_per_image) for model, of_model in flops.items())
    return Estimate(total, total / seconds if total else ASSUMED_FLOPS_PER_SECOND, bool(rates), workers)


def _rate(
    model: ModelConfig, rates: Mapping[ModelConfig, Sequence[float]], flops_per_image: Mapping[ModelConfig, int]
) -> float:
    """The median FLOP/s of the latest records of the nearest models: by the ratio of FLOPs an image, and by kernels.

    Each difference in what sets kernels apart weighs as much as a factor of ten in FLOPs.
    """
    flops, kernels = training_flops_per_image(model), _kernels_of(model)
    if not rates or not flops:  # a user's model may have no operation that is counted
        return ASSUMED_FLOPS_PER_SECOND
    distances = {
        other: abs(log10(flops / flops_per_image[other]))
        + sum(a != b for a, b in zip(kernels, _kernels_of(other), strict=True))
        for other in rates
    }
    nearest = min(distances.values())
    return median(rate for other in rates if distances[other] == nearest for rate in rates[other][-LATEST:])


def _kernels_of(model: ModelConfig) -> tuple[str, str, str]:
    """What sets kernels apart: the name of another model, or the stem and the position embeddings that change attention."""
    if isinstance(model, ViTConfig):
        return "", model.stem, model.position if model.position in ("relative", "rope_2d") else ""
    return model.model_name, "", ""
