"""What did the user ask `plan` or `run` for, and which runs does that come to?"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from vitbench.config import OPTIMIZER_OPTIONS
from vitbench.data import DataInfo, describe
from vitbench.execution import rates
from vitbench.execution.content import Content, Decode
from vitbench.records import Faults, Record, RecordStore
from vitbench.studies import IN_ALL, Budget, Overrides, Plan, Study, load_study, make_plan
from vitbench.studies.library import is_study_file
from vitbench.studies.plan import Judge
from vitbench.studies.resolved_study import ResolvedStudy, resolve_study
from vitbench.text import agreeing, counted

RunKeys = Collection[tuple[str, str]]
"""(study, run_id) of runs."""


@dataclass(frozen=True)
class Request:
    """What the user asked `plan` or `run` for."""

    studies: Sequence[str]
    budget: Budget
    overrides: Overrides
    datasets: Sequence[str]
    data_root: Path | None
    download: bool
    results: Path
    again: bool
    """Runs count as done only where they were recorded in this environment."""
    judge: Judge | None = field(default=None, compare=False)
    """Says which arms are settled, where seeds are added until all are; without one, studies end at their first look."""
    faults: Faults = field(default_factory=Faults, compare=False)
    """What is wrong with the records; a run whose line is damaged counts as not recorded."""
    study_files: dict[str, Path] = field(default_factory=dict, compare=False, init=False)
    """Of the `asked` studies that are a user's own, by name, absolute: where workers find their classes."""

    @cached_property
    def asked(self) -> list[tuple[Study, str, DataInfo]]:
        """(study, data set as the user named it, what is in it). Raises ValueError for what is wrong with the request."""
        names = dict.fromkeys(name for study in self.studies for name in (IN_ALL if study == "all" else [study]))
        studies = [self._load(name) for name in names]
        for study in studies:
            if sum(other.name == study.name for other in studies) > 1:
                raise ValueError(f"two studies are named {study.name!r}, and would share one record file; rename one")
        datasets = self.datasets or self.budget.datasets
        if not datasets:
            raise ValueError(f"budget {self.budget.name!r} names no data set of its own; give one with --data")
        described = [(name, describe(name, root=self.data_root, download=self.download)) for name in datasets]
        # By what they are: one set may have been given twice, under two spellings.
        distinct = {info.dataset: (name, info) for name, info in described}
        return [(study, name, info) for study in studies for name, info in distinct.values()]

    def _load(self, name: str) -> Study:
        study = load_study(name)
        if is_study_file(name):
            self.study_files[study.name] = Path(name).absolute()
        return study

    def content(self, decode: Decode | None = None) -> Content:
        """What its data sets hold now; see `Content`."""
        return Content({info.dataset: name for _, name, info in self.asked}, self.data_root, decode)

    @property
    def store(self) -> RecordStore:
        return RecordStore(self.results, self.faults)

    def resolved_studies(self) -> list[ResolvedStudy]:
        """Each study on each data set, before any result."""
        return [resolve_study(study, self.budget, info, self.overrides) for study, _, info in self.asked]

    def left_out(self) -> list[str]:
        """A line for each study and data set some of whose arms are of sizes that its images do not come in, and for whatever
        a study leaves out itself.
        """
        of_sizes, remarks = [], []
        for (study, _, info), resolved in zip(self.asked, self.resolved_studies(), strict=True):
            if number := len(resolved.left_out):
                arms, steps = (
                    f"{counted(number, 'arm')} {agreeing(number, 'is', 'are')}",
                    f"{info.size_step} pixels alone",
                )
                of_sizes.append(
                    f"{study.name}: {arms} left out, as images of {info.dataset} come at multiples of {steps}"
                )
            remarks += [f"{study.name}, {resolved.variant}: {remark}" for remark in resolved.remarks]
        return of_sizes + remarks

    def plans(self, records: Mapping[str, Sequence[Record]], failed: RunKeys = ()) -> list[tuple[str, Plan]]:
        """(data set as the user named it, plan), study by study, from the records of each.

        `failed`: what is not tried again. Raises ValueError for what is wrong with the request.
        """
        plans = []
        for study, name, info in self.asked:
            speeds = None
            if self.overrides.match == "time":
                speeds = rates.kept(self.results, resolve_study(study, self.budget, info, self.overrides))
            plan = make_plan(
                study,
                self.budget,
                info,
                self.overrides,
                records.get(study.name, ()),
                images_per_second=speeds,
                failed={run_id for study_name, run_id in failed if study_name == study.name},
                judge=self.judge,
            )
            plans.append((name, plan))
        # the first run of each recipe
        recipes = {run.config.train: run for _, plan in reversed(plans) for run in reversed(plan.runs)}
        if others := [run for train, run in recipes.items() if train.optimizer.lower() not in OPTIMIZER_OPTIONS]:
            from vitbench.training import check_optimizer  # with timm, which takes seconds to be imported

            for run in others:
                with run.naming_its_arm():
                    check_optimizer(run.config.train)
        return plans
