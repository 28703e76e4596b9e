"""What the user asked for, as a plan, and how much of it the records settle already."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from vitbench.commands import rates
from vitbench.data import DataInfo, describe
from vitbench.execution.content import Content, Decode
from vitbench.execution.current_environment import PARTS, Here
from vitbench.machine import cpu_cores
from vitbench.records import Faults, Outcome, Record, RecordStore
from vitbench.studies import BUDGETS, STUDIES, Overrides, Plan, PlannedRun, Study, load_study, plan_in_stages
from vitbench.studies.plan import Later, recorded
from vitbench.studies.resolved_study import ResolvedStudy, resolve_study
from vitbench.text import counted

MOST_JOBS = 1024

Failed = Collection[tuple[str, str]]
"""(study, run_id) of runs that failed in this very call and are not tried again in it."""


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
    tuning_seeds: int | None = None
    extend: int | None = None
    tune: Mapping[str, Sequence[float]] = field(default_factory=dict)
    match: str = "epochs"
    again: bool = False
    """Runs count as done only where they were recorded in this environment."""
    faults: Faults = field(default_factory=Faults, compare=False)
    """What is wrong with the records; a run whose line is damaged counts as not recorded."""

    @cached_property
    def asked(self) -> list[tuple[Study, str, DataInfo]]:
        """(study, data set as the user named it, what is in it). Raises ValueError for what is wrong with the request."""
        asked = [name for study in self.studies for name in (STUDIES if study == "all" else [study])]
        names = tuple(dict.fromkeys(asked))
        studies = [load_study(name) for name in names]
        for study in studies:
            if sum(other.name == study.name for other in studies) > 1:
                raise ValueError(f"two studies are named {study.name!r}, and would share one record file; rename one")
        datasets = self.datasets or BUDGETS[self.budget].datasets
        if not datasets:
            raise ValueError(f"budget {self.budget!r} names no data set of its own; give one with --data")
        described = [(name, describe(name, root=self.data_root, download=self.download)) for name in datasets]
        # By what they are: one set may have been given twice, under two spellings.
        infos = list({info.dataset: (name, info) for name, info in described}.values())
        return [(study, name, info) for study in studies for name, info in infos]

    def content(self, decode: Decode | None = None) -> Content:
        """What its data sets hold now; see `Content`."""
        return Content({info.dataset: name for _, name, info in self.asked}, self.data_root, decode)

    @property
    def store(self) -> RecordStore:
        return RecordStore(self.results, self.faults)

    @property
    def overrides(self) -> Overrides:
        return Overrides(
            variant=self.variant,
            seeds=self.seeds,
            train=self.train,
            train_images=self.train_images,
            learning_rates=self.learning_rates,
            tuning_seeds=self.tuning_seeds,
            extend=self.extend,
            tune=self.tune,
            match=self.match,
        )

    def resolved_studies(self) -> list[ResolvedStudy]:
        """Each study on each data set, before any result."""
        budget = BUDGETS[self.budget]
        return [resolve_study(study, budget, info, self.overrides) for study, _, info in self.asked]

    def left_out(self) -> list[str]:
        """A line for each study and data set some of whose arms are of sizes that its images do not come in, and for whatever
        a study leaves out itself.
        """
        steps = {(study.name, info.dataset): info.size_step for study, _, info in self.asked}
        resolved_studies = self.resolved_studies()
        of_sizes = [
            f"{whole.study.name}: {len(whole.left_out)} arms are left out, as images of {dataset} come at multiples of "
            f"{steps[whole.study.name, dataset]} pixels alone"
            for whole in resolved_studies
            if whole.left_out
            for dataset in [next(iter(whole.arms.values())).data.dataset]
        ]
        return of_sizes + [
            f"{whole.study.name}, {whole.variant}: {one}" for whole in resolved_studies for one in whole.remarks
        ]

    def plans(self, records: Mapping[str, Sequence[Record]], failed: Failed = ()) -> list[tuple[str, Plan]]:
        """(data set as the user named it, plan), study by study, from the records of each. Raises ValueError likewise."""
        budget = BUDGETS[self.budget]
        plans = []
        for study, name, info in self.asked:
            speeds = None
            if self.match == "time":
                speeds = rates.known(self.results, resolve_study(study, budget, info, self.overrides))
            given_up = {run_id for failed_in, run_id in failed if failed_in == study.name}
            here = records.get(study.name, ())
            made = plan_in_stages(
                study, budget, info, self.overrides, here, images_per_second=speeds, given_up=given_up
            )
            plans.append((name, made))
        _check_optimizers({run.config.train.optimizer for _, made in plans for run in made.runs})
        return plans


def _check_optimizers(names: set[str]) -> None:
    """Raises ValueError for an optimizer that timm, which configurations do not ask, does not know."""
    for name in sorted(names - {"adamw", "muon"}):  # timm takes seconds to be imported
        from vitbench.training import check_optimizer

        check_optimizer(name)


@dataclass(frozen=True)
class Elsewhere:
    """Recorded runs of another environment than that of a command, and the parts in which it is another."""

    runs: int
    differing: tuple[str, ...] = ()

    def __str__(self) -> str:
        come, they = ("comes", "it counts") if self.runs == 1 else ("come", "they count")
        return (
            f"{self.runs} of the recorded runs {come} from another environment ({', '.join(self.differing)}): {they} as "
            "done and settings are chosen on them, but new runs will stand in a table of their own; for all of them in "
            "one table, run those too with --again, or give another --results"
        )


@dataclass(frozen=True)
class Standing:
    """A request's planned runs, the records that are there, and which runs these settle."""

    planned: list[tuple[str, PlannedRun]]
    records: list[Record]
    """Of the images that the data sets have now, as far as that is known."""
    done: set[tuple[str, str]]
    of_other_images: int = 0
    """Runs that are recorded, but of other images under the same names, and so are not done."""
    unknown_images: Mapping[str, str] = field(default_factory=dict)
    """Data sets whose images could not be held against their records, and why."""
    later: Later | None = None
    """At most so many runs follow, which the results of pending ones decide; None where no run does."""
    epochs_are_estimates: bool = False
    """Whether `run` will measure images/s first, and arms will have other epochs than these."""

    @classmethod
    def of(
        cls, request: Request, failed: Failed = (), here: Here | None = None, content: Content | None = None
    ) -> Standing:
        """`here` is what the command knows of its environment, which counts where runs are asked for `again`."""
        store = request.store
        content = content or request.content()
        stored = {name: store.read(name) for name in dict.fromkeys(study.name for study, _, _ in request.asked)}
        everywhere = {name: [r for r in of_study if content.agrees(r)] for name, of_study in stored.items()}
        records = everywhere
        if request.again:
            here = here or Here()
            records = {name: [r for r in found if not here.differs(r)] for name, found in everywhere.items()}
        plans = request.plans(records, failed)
        planned = [(name, run) for name, made in plans for run in made.runs]
        done = {
            (study, run_id)
            for study, counting in records.items()
            for run_id in recorded((run for _, run in planned if run.study == study), counting)
        }
        of_others = {
            (record.study, record.identity)
            for of_study in stored.values()
            for record in of_study
            if record.outcome is not Outcome.FAILED and not content.agrees(record)
        }
        later = [made.later for _, made in plans if made.later is not None]
        return cls(
            planned,
            [record for of_study in everywhere.values() for record in of_study],
            done,
            len(of_others & {(run.study, run.run_id) for _, run in planned} - done),
            content.unknown,
            Later(sum(one.runs for one in later), sum(one.training_flops for one in later)) if later else None,
            any(made.epochs_are_estimates for _, made in plans),
        )

    def about_images(self) -> list[str]:
        """A line on runs that are recorded of other images, and on each data set of which that is not known."""
        lines = [
            f"whether {name} still has the images of its records is not known: {why}"
            for name, why in self.unknown_images.items()
        ]
        if self.of_other_images:
            are, they = ("is", "it is") if self.of_other_images == 1 else ("are", "they are")
            runs = counted(self.of_other_images, "recorded run")
            lines.append(f"{runs} {are} of other images under the same file names: {they} not done")
        return lines

    def recorded_elsewhere(self, here: Here) -> Elsewhere:
        """Of the studies and data sets with something pending, the runs that are done, but in no environment like this."""
        unfinished = {(run.study, run.config.data.dataset) for _, run in self.pending()}
        wanted = {
            (run.study, run.run_id)
            for _, run in self.planned
            if (run.study, run.config.data.dataset) in unfinished and (run.study, run.run_id) in self.done
        }
        parts: dict[tuple[str, str], list[tuple[str, ...]]] = {}
        for record in self.records:
            if (record.study, record.identity) in wanted and record.outcome is not Outcome.FAILED:
                parts.setdefault((record.study, record.identity), []).append(here.differs(record))
        elsewhere = [found for found in parts.values() if all(found)]
        differing = {name for found in elsewhere for one in found for name in one}
        return Elsewhere(len(elsewhere), tuple(name for name in PARTS if name in differing))

    def pending(self, failed: Failed = ()) -> list[tuple[str, PlannedRun]]:
        """What is left to run, but for what failed in this call."""
        over = {*self.done, *failed}
        return [(name, run) for name, run in self.planned if (run.study, run.run_id) not in over]


def resolve_jobs(jobs: str, *, device: str, pending: int) -> int:
    """How many workers: a number, or `auto` (one per GPU, else one per CPU core); never more than there are runs."""
    if jobs != "auto":
        if not (jobs.isascii() and jobs.isdecimal() and 0 < float(jobs) <= MOST_JOBS):
            raise ValueError(f"jobs {jobs!r} is not a number from 1 to {MOST_JOBS}; give one, or auto")
        return max(1, min(int(jobs), pending))
    workers = (num_gpus(device) if device != "cpu" else 0) or cpu_cores()
    return max(1, min(workers, pending))


def num_gpus(device: str) -> int:
    """GPUs that `device` stands for: all for `auto` and `cuda`."""
    if device not in ("auto", "cuda"):
        return 1
    import torch

    return torch.cuda.device_count()
