"""What the user asked for, as a plan, and how much of it the records settle already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from vitbench.data import describe
from vitbench.machine import cpu_cores
from vitbench.records import Record, RecordStore
from vitbench.studies import BUDGETS, STUDIES, Overrides, PlannedRun, load_study
from vitbench.studies import plan as plan_study
from vitbench.studies.plan import recorded


@dataclass(frozen=True)
class Request:
    """What the user asked `plan` or `run` for."""

    studies: Sequence[str]
    budget: str
    datasets: Sequence[str]
    data_root: Path | None
    download: bool
    seeds: int | None
    variant: str | None
    train: dict[str, Any]
    train_images: int | None
    learning_rates: tuple[float, ...]
    results: Path

    def plan(self) -> list[tuple[str, PlannedRun]]:
        """(data set as the user named it, planned run), study by study. Raises ValueError for what is wrong with it."""
        asked = [name for study in self.studies for name in (STUDIES if study == "all" else [study])]
        names = tuple(dict.fromkeys(asked))
        studies = [load_study(name) for name in names]
        for study in studies:
            if sum(other.name == study.name for other in studies) > 1:
                raise ValueError(f"two studies are named {study.name!r}, and would share one record file; rename one")
        budget = BUDGETS[self.budget]
        datasets = self.datasets or budget.datasets
        if not datasets:
            raise ValueError(f"budget {self.budget!r} names no data set of its own; give one with --data")
        described = [(name, describe(name, root=self.data_root, download=self.download)) for name in datasets]
        # By what they are: one set may have been given twice, under two spellings.
        infos = list({info.dataset: (name, info) for name, info in described}.values())
        overrides = Overrides(
            variant=self.variant,
            seeds=self.seeds,
            train=self.train,
            train_images=self.train_images,
            learning_rates=self.learning_rates,
        )
        return [
            (name, run)
            for study in studies
            for name, info in infos
            for run in plan_study(study, budget, info, overrides)
        ]


@dataclass(frozen=True)
class Standing:
    """A request's planned runs, the records that are there, and which runs these settle."""

    planned: list[tuple[str, PlannedRun]]
    records: list[Record]
    done: set[tuple[str, str]]

    @classmethod
    def of(cls, request: Request) -> Standing:
        planned = request.plan()
        store = RecordStore(request.results)
        records: list[Record] = []
        done: set[tuple[str, str]] = set()
        for study in dict.fromkeys(run.study for _, run in planned):
            here = store.read(study)
            records += here
            done |= {(study, run_id) for run_id in recorded((run for _, run in planned if run.study == study), here)}
        return cls(planned, records, done)

    def recorded_elsewhere(self, device_name: str) -> int:
        """How many of the runs that are done were recorded on another device or with another torch."""
        here = (device_name, metadata.version("torch"))
        wanted = {run_id for _, run_id in self.done}
        latest = {r.identity: r for r in self.records if r.identity in wanted}
        return sum((r.environment.device, r.environment.torch) != here for r in latest.values())

    def pending(self) -> list[tuple[str, PlannedRun]]:
        return [(name, run) for name, run in self.planned if (run.study, run.run_id) not in self.done]


def resolve_jobs(jobs: str, *, device: str, pending: int) -> int:
    """How many workers: a number, or `auto` (one per GPU, else one per CPU core); never more than there are runs."""
    if jobs != "auto":
        if not jobs.isdigit() or int(jobs) < 1:
            raise ValueError(f"jobs {jobs!r} is not a positive number; give one, or auto")
        return max(1, min(int(jobs), pending))
    workers = (num_gpus(device) if device != "cpu" else 0) or cpu_cores()
    return max(1, min(workers, pending))


def num_gpus(device: str) -> int:
    """GPUs that `device` stands for: all for `auto` and `cuda`."""
    if device not in ("auto", "cuda"):
        return 1
    import torch

    return torch.cuda.device_count()
