"""Which settings of a study's arms were tried on which seeds, by the records, and which was best?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from vitbench.config import RunConfig
from vitbench.records import Record
from vitbench.studies.choice import Runs, add_run, choose, environment_key, grouped, scores_of
from vitbench.studies.resolved_study import ResolvedStudy
from vitbench.studies.settings import Grid, Setting, setting_of, without


class History:
    """The records of a resolved study's arms, at any setting and seed.

    Runs count as done in whichever environment they were recorded. Choices are made as tables make them, on the records of
    one environment: the one with most runs of the plan on tuning seeds, or for an arm without runs there, the next.
    Settings are the grid's, whatever the arm's scale of the learning rate.
    """

    def __init__(self, resolved: ResolvedStudy, records: Iterable[Record]) -> None:
        self.resolved = resolved
        self._fields = resolved.grid.fields
        arms = {arm: definition_of(config, self._fields) for arm, config in resolved.arms.items()}
        place = (resolved.study.name, resolved.budget, resolved.variant)
        self.records = [
            record
            for record in records
            if (record.study, record.budget, record.variant) == place
            and arms.get(record.arm) == definition_of(record.config, self._fields)
        ]
        self._done = {
            (record.arm, _grid_setting(record, resolved), record.seed) for record in self.records if record.is_done
        }
        by_environment = grouped(self.records, lambda record: environment_key(record, resolved.design))
        last_first = [_Environment(resolved, group) for group in reversed(by_environment.values())]
        # Sorting is stable: of two with as many runs, the later one goes first.
        self._environments = sorted(last_first, key=lambda environment: environment.num_tuning_runs, reverse=True)

    def has_tried(self, grid: Grid, failed: Collection[str]) -> bool:
        """Whether every arm has a result at every setting on every tuning seed, but for the run_ids in `failed`."""
        return all(
            (arm, setting, seed) in self._done or self.resolved.config(arm, setting, seed).run_id in failed
            for arm in self.resolved.arms
            for setting in grid.settings
            for seed in range(self.resolved.tuning_seeds)
        )

    def best(self, arm: str, grid: Grid, *, with_tried: bool) -> Setting | None:
        """An arm's choice among the settings of the grid, and `with_tried`, as tables have it, those of earlier grids.

        None where nothing completed on a seed that counts.
        """
        arm = self.resolved.design.chosen_with(arm)
        choices = (environment.best(arm, grid, with_tried=with_tried) for environment in self._environments)
        return next((choice for choice in choices if choice is not None), None)

    def tried(self, arm: str) -> set[Setting]:
        """Every setting that was recorded under a plan of the same kind, on any grid."""
        return {setting for environment in self._environments for setting in environment.tried[arm]}


class _Environment:
    """Records that may stand in one table."""

    def __init__(self, resolved: ResolvedStudy, records: Iterable[Record]) -> None:
        self._resolved = resolved
        self._runs: dict[str, Runs] = defaultdict(dict)
        self.tried: dict[str, set[Setting]] = defaultdict(set)
        for record in records:
            setting = _grid_setting(record, resolved)
            add_run(self._runs[record.arm], record, setting)
            if record.design.kind == resolved.design.kind:
                self.tried[record.arm].add(setting)

    def best(self, arm: str, grid: Grid, *, with_tried: bool) -> Setting | None:
        settings = {*grid.settings, *(self.tried[arm] if with_tried else ())}
        scores = self._scores(arm, settings)
        return choose(scores, settings, tuning_seeds=self._resolved.design.tuning_seeds).setting

    def _scores(self, arm: str, settings: Collection[Setting]) -> Mapping[Setting, Mapping[int, float | None]]:
        return {setting: scores for setting, scores in scores_of(self._runs[arm]).items() if setting in settings}

    @property
    def num_tuning_runs(self) -> int:
        """Runs of the plan's grid and tuning seeds that did not fail."""
        settings, seeds = {*self._resolved.grid.settings}, self._resolved.tuning_seeds
        scores = [self._scores(arm, settings) for arm in self._runs]
        return sum(seed < seeds for of_arm in scores for of_setting in of_arm.values() for seed in of_setting)


def _grid_setting(record: Record, resolved: ResolvedStudy) -> Setting:
    """The setting of the grid that an arm's record was made at."""
    return resolved.design.to_grid(record.arm, setting_of(record.config, resolved.grid.fields))


def definition_of(config: RunConfig, fields: Collection[str]) -> tuple[object, ...]:
    """All of a configuration, its pretraining included, but its setting and seed."""
    parts = (without(part, fields) for part in (config.model, config.data, config.train))
    before = config.pretraining and definition_of(config.pretraining, fields)
    return (*parts, config.init, before, config.keep_head, config.harness_version)
