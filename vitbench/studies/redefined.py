"""Which arms were recorded under the same name, but as something else: edited since, or with other code?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vitbench.config import RunConfig
from vitbench.records import Design, Record
from vitbench.studies.history import definition_of
from vitbench.studies.plan import PlannedRun
from vitbench.studies.settings import without

Place = tuple[str, str, str, str, str]
"""Study, budget, variant, data set and arm."""


@dataclass(frozen=True)
class Redefined:
    """An arm whose recorded runs are of another definition than its planned ones, on the same base."""

    study: str
    dataset: str
    arm: str
    runs: int
    """Recorded runs that are done, of any other definition."""
    fields: Mapping[str, tuple[Any, Any]]
    """Fields that differ, to their values as recorded last and as planned, in JSON; `pretraining` has none."""


def redefined(planned: Iterable[PlannedRun], records: Iterable[Record]) -> list[Redefined]:
    """The arms of planned runs that were recorded with other fields of their own, in the order of the runs.

    Runs of another base (other epochs, other images, another recipe for all) are no other definition of an arm.
    """
    arms: dict[Place, PlannedRun] = {}
    for run in planned:
        arms.setdefault(_place(run), run)
    others: dict[Place, list[Record]] = defaultdict(list)
    for record in records:
        place = _place(record)
        if place in arms and record.is_done and _is_redefined(record, arms[place]):
            others[place].append(record)
    return [
        Redefined(
            study=run.study,
            dataset=run.config.data.dataset,
            arm=run.arm,
            runs=len({record.identity for record in others[place]}),
            fields=_differing(others[place][-1].config, run.config, _by_plan(run.design)),
        )
        for place, run in arms.items()
        if place in others
    ]


def _place(run: PlannedRun | Record) -> Place:
    return run.study, run.budget, run.variant, run.config.data.dataset, run.arm


def _by_plan(design: Design) -> tuple[str, ...]:
    """Fields that the plan decides, not the arm."""
    tuned = (*design.tuned_fields, *(("train_images",) if design.images_differ else ()))
    return (*tuned, *(("epochs",) if design.epochs_are_planned else ()))


def _is_redefined(record: Record, run: PlannedRun) -> bool:
    fields = _by_plan(run.design)
    if definition_of(record.config, fields) == definition_of(run.config, fields):
        return False
    return _base(record, fields) == _base(run, fields)


def _base(run: PlannedRun | Record, fields: Iterable[str]) -> tuple[object, ...]:
    """What it shares with the other arms of its study, but for what the plan decides."""
    config, by_plan = run.config, [*fields]
    parts = (without(run.design.base_of(run.arm, part), by_plan) for part in (config.train, config.data))
    return (*parts, config.init, config.harness_version)


def _differing(recorded: RunConfig, planned: RunConfig, by_plan: Iterable[str]) -> dict[str, tuple[Any, Any]]:
    before, now = recorded.field_values, planned.field_values
    names = [name for name in {**now, **before} if name not in {*by_plan} and before.get(name) != now.get(name)]
    return {name: (before.get(name), now.get(name)) for name in names} or {"pretraining": (None, None)}
