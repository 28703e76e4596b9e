"""What do the records say of a study's arms: which settings were tried on which seeds, and which was best?"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from vitbench.config import RunConfig
from vitbench.records import Outcome, Record
from vitbench.studies.choice import choose, counts_over, outcome_of, score_of
from vitbench.studies.outline import Outline
from vitbench.studies.settings import Grid, Setting, setting_of, without


class Known:
    """The records that belong to an outline's arms, whatever their setting and seed."""

    def __init__(self, whole: Outline, records: Iterable[Record]) -> None:
        self.whole = whole
        self._latest: dict[tuple[str, Setting, int], Record] = {}
        self._done: set[tuple[str, Setting, int]] = set()
        self._tried: dict[str, set[Setting]] = {arm: set() for arm in whole.arms}
        fields = whole.grid.fields
        arms = {arm: _but(config, fields) for arm, config in whole.arms.items()}
        place = (whole.study.name, whole.budget, whole.variant)
        for record in records:
            if (record.study, record.budget, record.variant) != place:
                continue
            if arms.get(record.arm) != _but(record.config, fields):
                continue
            cell = record.arm, setting_of(record.config, fields), record.seed
            if cell not in self._latest or counts_over(record, self._latest[cell]):
                self._latest[cell] = record
            if record.outcome is not Outcome.FAILED:
                self._done.add(cell)
            if {*record.design.tuned} == {*whole.grid.tuned} and record.design.match == whole.match:
                self._tried[record.arm].add(cell[1])

    def settles(self, grid: Grid, given_up: Collection[str]) -> bool:
        """Whether every arm has a result at every setting on every tuning seed, or none is to be had of that run_id."""
        return all(
            (arm, setting, seed) in self._done or self.whole.config(arm, setting, seed).run_id in given_up
            for arm in self.whole.arms
            for setting in grid.settings
            for seed in range(self.whole.tuning_seeds)
        )

    def best(self, arm: str, settings: Collection[Setting]) -> Setting | None:
        """An arm's choice among `settings`; None where nothing completed."""
        scores: dict[Setting, dict[int, float | None]] = {}
        for (name, setting, seed), record in self._latest.items():
            if name == arm and setting in settings and outcome_of(record) is not Outcome.FAILED:
                scores.setdefault(setting, {})[seed] = score_of(record)
        return choose(scores, settings, tuning_seeds=self.whole.tuning_seeds).setting

    def best_of_all(self, arm: str, grid: Grid) -> Setting | None:
        """An arm's choice among all settings of the grid and all that were tried under another grid, as tables have it."""
        return self.best(arm, {*grid.settings, *self._tried[arm]})


def _but(config: RunConfig, fields: Collection[str]) -> tuple[object, ...]:
    """All of a configuration but its setting and seed."""
    parts = (without(part, fields) for part in (config.model, config.data, config.train))
    return (*parts, config.init, config.harness_version)
