"""What do the records say of a study's arms: which settings were tried on which seeds, and which was best?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from vitbench.config import RunConfig
from vitbench.records import Outcome, Record
from vitbench.studies.choice import choose, counts_over, outcome_of, score_of
from vitbench.studies.resolved_study import ResolvedStudy
from vitbench.studies.settings import Grid, Setting, setting_of, without

Cell = tuple[str, Setting, int]
"""Arm, setting and seed of a run."""


@dataclass
class _Environment:
    """Records that may stand in one table: by cell the one that counts, and what was tried of each arm."""

    latest: dict[Cell, Record] = field(default_factory=dict)
    tried: dict[str, set[Setting]] = field(default_factory=lambda: defaultdict(set))

    def best(self, arm: str, settings: Collection[Setting], *, chosen_below: int | None) -> Setting | None:
        scores: dict[Setting, dict[int, float | None]] = {}
        for (name, setting, seed), record in self.latest.items():
            if name == arm and setting in settings and outcome_of(record) is not Outcome.FAILED:
                scores.setdefault(setting, {})[seed] = score_of(record)
        return choose(scores, settings, tuning_seeds=chosen_below).setting


class History:
    """The records that belong to an outline's arms, whatever their setting and seed.

    Runs count as done wherever they were recorded. Choices are made as tables make them, among the records of one
    environment: that with most of the plan's runs on tuning seeds, and for an arm that has none there, the next.
    """

    def __init__(self, resolved: ResolvedStudy, records: Iterable[Record]) -> None:
        self.resolved = resolved
        fields = resolved.grid.fields
        arms = {arm: _but(config, fields) for arm, config in resolved.arms.items()}
        place = (resolved.study.name, resolved.budget, resolved.variant)
        own = [
            record
            for record in records
            if (record.study, record.budget, record.variant) == place
            and arms.get(record.arm) == _but(record.config, fields)
        ]
        self._done = {self._cell(record) for record in own if record.is_done}
        found: dict[tuple[str, ...], _Environment] = {}
        for key, record in _with_environments(own, over_sizes=bool(resolved.starts)):
            environment, cell = found.setdefault(key, _Environment()), self._cell(record)
            if cell not in environment.latest or counts_over(record, environment.latest[cell]):
                environment.latest[cell] = record
            if {*record.design.tuned} == {*resolved.grid.tuned} and record.design.match == resolved.match:
                environment.tried[record.arm].add(cell[1])
        last_first = list(reversed(found.values()))  # sorting is stable: of two with as many runs, the later one
        self._environments = sorted(last_first, key=self._num_tuning_runs, reverse=True)

    def settles(self, grid: Grid, given_up: Collection[str]) -> bool:
        """Whether every arm has a result at every setting on every tuning seed, or none is to be had of that run_id."""
        return all(
            (arm, setting, seed) in self._done or self.resolved.config(arm, setting, seed).run_id in given_up
            for arm in self.resolved.arms
            for setting in grid.settings
            for seed in range(self.resolved.tuning_seeds)
        )

    def best(self, arm: str, settings: Collection[Setting]) -> Setting | None:
        """An arm's choice among `settings`; None where nothing completed on a seed that counts."""
        arm, below = self.resolved.chosen_with(arm), self.resolved.chosen_below
        choices = (one.best(arm, settings, chosen_below=below) for one in self._environments)
        return next((choice for choice in choices if choice is not None), None)

    def best_of_all(self, arm: str, grid: Grid) -> Setting | None:
        """An arm's choice among all settings of the grid and all that were tried under another grid, as tables have it."""
        arm, below = self.resolved.chosen_with(arm), self.resolved.chosen_below
        choices = (one.best(arm, {*grid.settings, *one.tried[arm]}, chosen_below=below) for one in self._environments)
        return next((choice for choice in choices if choice is not None), None)

    def tried(self, arm: str) -> set[Setting]:
        """Every setting of which there is a record under a plan that tunes and matches the same, whatever its grid."""
        return {setting for one in self._environments for setting in one.tried[arm]}

    def _cell(self, record: Record) -> Cell:
        return record.arm, setting_of(record.config, self.resolved.grid.fields), record.seed

    def _num_tuning_runs(self, environment: _Environment) -> int:
        settings = {*self.resolved.grid.settings}
        return sum(
            setting in settings and seed < self.resolved.tuning_seeds and outcome_of(record) is not Outcome.FAILED
            for (_, setting, seed), record in environment.latest.items()
        )


def _but(config: RunConfig, fields: Collection[str]) -> tuple[object, ...]:
    """All of a configuration, its pretraining included, but its setting and seed."""
    parts = (without(part, fields) for part in (config.model, config.data, config.train))
    before = config.pretraining and _but(config.pretraining, fields)
    return (*parts, config.init, before, config.keep_head, config.harness_version)


def _with_environments(records: Collection[Record], *, over_sizes: bool) -> list[tuple[tuple[str, ...], Record]]:
    """(key of its environment, record) in the order given.

    A run that failed before its data was read joins the latest environment that agrees in all else, as it does in tables.
    `over_sizes`: arms have images of several sizes, each of which hashes otherwise, so that hashes are left out.
    """
    keys = [_key(record, over_sizes=over_sizes) for record in records]
    in_order = {key: _early(r) for key, r in zip(keys, records, strict=True) if not r.ended_before_data}
    latest = {early: key for key, early in in_order.items()}
    return [
        (latest.get(_early(record), key) if record.ended_before_data else key, record)
        for key, record in zip(keys, records, strict=True)
    ]


def _key(record: Record, *, over_sizes: bool) -> tuple[str, ...]:
    environment = record.environment
    return (environment.model_copy(update={"data_sha256": ""}) if over_sizes else environment).comparison_key


def _early(record: Record) -> tuple[str, ...]:
    return record.environment.before_data.comparison_key
