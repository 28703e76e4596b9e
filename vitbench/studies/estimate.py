"""What planned runs will take on this machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from vitbench.profiling.macs import training_flops_per_image
from vitbench.records import Record
from vitbench.studies.plan import PlannedRun

ASSUMED_FLOPS_PER_SECOND = 20e9
"""Training rate of one worker, assumed until this machine has a record."""


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
    """What `runs` will take here: their training FLOPs over the median rate of this machine's records of such models."""
    here = [
        r
        for r in records
        if r.environment.device.startswith("cpu") and (r.environment.cpu, r.environment.cpu_cores) == (cpu, cpu_cores)
    ]
    rates = [rate for r in here if (rate := _flops_per_second(r))]
    rate = median(rates) if rates else ASSUMED_FLOPS_PER_SECOND
    found = Estimate(0.0, sum(run.training_flops for run in runs), rate, bool(rates), workers)
    return replace(found, hours=found.hours_of(found.training_flops))


def _flops_per_second(record: Record) -> float | None:
    if not record.cost.train_images_per_second:
        return None
    return record.cost.train_images_per_second * training_flops_per_image(record.config.model)
