"""Which runs a study needs under a budget, and which of them are recorded.

Settings are tried on the tuning seeds; the grid grows where some arm is best at its edge; the final seeds run at each arm's
chosen setting and at the baseline's. All but the first step depends on results.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from math import ceil, prod

from vitbench.config import RunConfig
from vitbench.costs.macs import training_flops_per_image
from vitbench.data.info import DataInfo
from vitbench.records import Design, Record
from vitbench.refusals import one_line
from vitbench.studies.budgets import Budget
from vitbench.studies.history import History
from vitbench.studies.looks import LookedAt
from vitbench.studies.match import training_images
from vitbench.studies.overrides import Overrides
from vitbench.studies.resolved_study import ResolvedStudy, resolve_study
from vitbench.studies.settings import RATE, SIDES, Grid, Setting, setting_of, setting_text, step_beyond
from vitbench.studies.study import Study

COMPILING_PAYS_FROM = 2e13
"""Training FLOPs of a run. On CPU, compiling takes 15 s and gains 4 % (benchmarks/LOG.md): 375 s at 50 GFLOP/s."""

Judge = Callable[[ResolvedStudy, Sequence[Record]], LookedAt]
"""Judges the records of a resolved study as its tables do."""


@dataclass(frozen=True)
class PlannedRun:
    """One run, and its place in a study."""

    study: str
    arm: str
    budget: str
    variant: str
    design: Design
    config: RunConfig
    train_images: int
    """Images that an epoch trains on, the validation split left out."""

    @property
    def run_id(self) -> str:
        return self.config.run_id

    @property
    def key(self) -> tuple[str, str]:
        """(study, run_id): a run of several studies has one of each."""
        return self.study, self.run_id

    @property
    def setting(self) -> Setting:
        return setting_of(self.config, self.design.tuned_fields)

    @property
    def setting_text(self) -> str:
        return setting_text(self.design.tuned_fields, self.setting)

    @property
    def training_flops(self) -> int:
        """Of forward and backward: 6 × MACs for each image of its batches.

        Raises ValueError, naming the arm, for a user's model that cannot be built or run.
        """
        images = training_images(self.config.train, train_images=self.train_images)
        with self.naming_its_arm():
            return training_flops_per_image(self.config.model) * images

    @contextmanager
    def naming_its_arm(self) -> Iterator[None]:
        """While entered, a ValueError is told with the study and the arm."""
        try:
            yield
        except ValueError as error:
            raise ValueError(f"{self.study}: arm {self.arm!r}: {one_line(error)}") from error

    def eager_on_cpu_because(self) -> str:
        """Why `compile="auto"` does not compile this run on a CPU without native operators; empty where it does."""
        if self.training_flops >= COMPILING_PAYS_FROM:
            return ""
        return f"compiling pays from {COMPILING_PAYS_FROM / 1e12:.0f} TFLOP of training, and this run has fewer"


@dataclass(frozen=True)
class Later:
    """An upper bound on the runs that follow from the results of others, and on their training FLOPs."""

    runs: int
    training_flops: int


@dataclass(frozen=True)
class Plan:
    """The runs that are known, done or not."""

    runs: list[PlannedRun]
    later: Later | None = None
    """None where all runs are known."""
    epochs_are_estimates: bool = False
    """Whether images/s must be measured before the final epochs are known."""
    expected: Later | None = None
    """Of a study that adds seeds until it is settled: what of `later` is likely; None before its first look."""
    looked_at: LookedAt | None = None
    """What such a study's judge has seen; None where there was none."""


def make_plan(
    study: Study,
    budget: Budget,
    data: DataInfo,
    overrides: Overrides = Overrides(),
    records: Iterable[Record] = (),
    *,
    images_per_second: Mapping[str, float] | None = None,
    failed: Collection[str] = (),
    judge: Judge | None = None,
) -> Plan:
    """The runs of `study` on `data` that are certain, given `records`, and how many may follow.

    Seeds are outermost, so that a stopped study has complete seeds. Choices wait for runs that failed, except for the run_ids
    in `failed`. Where a study adds seeds until it is settled, `judge` says which arms are; without one, it has those of its
    first look. Raises ValueError where an arm has no meaning on the base variant, or something cannot be tuned or matched.
    """
    resolved = resolve_study(study, budget, data, overrides, images_per_second=images_per_second)
    if not resolved.has_choices:
        return Plan(_tuning_runs(resolved, resolved.grid), None, resolved.epochs_are_estimates)
    history = History(resolved, records)
    grid, steps = resolved.grid, Counter[tuple[str, str]]()
    tried = history.has_tried(grid, failed)
    while tried and (wider := _extended(resolved, grid, history, steps)) != grid:
        grid, tried = wider, history.has_tried(wider, failed)
    runs = _tuning_runs(resolved, grid)
    if not tried:
        return Plan(runs, _later(resolved, grid, history), resolved.epochs_are_estimates)
    chosen = {arm: history.best(arm, grid, with_tried=True) for arm in resolved.arms}
    runs += _final_runs(resolved, grid, chosen)
    if not resolved.looks or judge is None:
        return Plan(runs, None, resolved.epochs_are_estimates)
    looked_at = judge(resolved, history.records)
    more = _MoreSeeds(resolved, resolved.design_on(grid), chosen, looked_at)
    return Plan([*runs, *more.runs()], more.at_most(), resolved.epochs_are_estimates, more.expected(), looked_at)


def _tuning_runs(resolved: ResolvedStudy, grid: Grid) -> list[PlannedRun]:
    design = resolved.design_on(grid)
    return [
        _planned(resolved, design, arm, setting, seed)
        for seed in range(resolved.tuning_seeds)
        for setting in grid.settings
        for arm in resolved.arms
    ]


def _extended(resolved: ResolvedStudy, grid: Grid, history: History, steps: Counter[tuple[str, str]]) -> Grid:
    """The grid with one more step wherever some arm is best at its edge. `steps` counts them, up to `resolved.extend`."""
    choices = [history.best(arm, grid, with_tried=False) for arm in resolved.arms]
    edges = {edge for setting in choices if setting is not None for edge in grid.edges(setting)}
    for field, side in sorted(edges):
        if steps[field, side] < resolved.extend:
            steps[field, side] += 1
            grid = grid.extended(field, side, has_meaning=resolved.has_meaning) or grid
    return grid


def _final_runs(resolved: ResolvedStudy, grid: Grid, chosen: Mapping[str, Setting | None]) -> list[PlannedRun]:
    """The final seeds, at each arm's chosen setting and at that of the arm which it is compared with.

    An arm that goes on from another follows it there. An arm without a chosen setting has no runs.
    """
    design = resolved.design_on(grid)
    places = dict.fromkeys(
        (link, setting)
        for arm, best in chosen.items()
        if best is not None
        for setting in (best, chosen[design.compared_with(arm)] or best)
        for link in resolved.chain(arm)
    )
    return [
        _planned(resolved, design, arm, setting, seed)
        for seed in range(resolved.tuning_seeds, resolved.seeds)
        for arm, setting in places
    ]


@dataclass(frozen=True)
class _MoreSeeds:
    """What comes after the first look of a study that adds seeds until its arms are settled."""

    resolved: ResolvedStudy
    design: Design
    chosen: Mapping[str, Setting | None]
    looked_at: LookedAt

    def runs(self) -> list[PlannedRun]:
        """Of the seeds that arms want by now beyond the first look, at the setting that each has chosen."""
        places = self._seeds_by_place(self.looked_at.wanted)
        return [
            _planned(self.resolved, self.design, arm, setting, seed)
            for seed in range(self.resolved.seeds, int(max(places.values(), default=0)))
            for (arm, setting), seeds in places.items()
            if seed < seeds
        ]

    def at_most(self) -> Later | None:
        """What follows if no open arm is settled before the last look."""
        return self._beyond(dict.fromkeys(self.looked_at.open, self.resolved.looks[-1]))

    def expected(self) -> Later | None:
        """What follows if seeds go on to show what they have shown; None where they have shown nothing yet."""
        ends = {arm: seeds for arm, seeds in self.looked_at.open.items() if seeds is not None}
        return self._beyond(ends) if len(ends) == len(self.looked_at.open) else None

    def _beyond(self, ends: Mapping[str, float]) -> Later | None:
        now, then = (self._seeds_by_place({**self.looked_at.wanted, **of_arms}) for of_arms in ({}, ends))
        runs, flops = 0.0, 0.0
        for (arm, setting), seeds in then.items():
            more = max(0.0, seeds - now[arm, setting])
            runs, flops = (
                runs + more,
                flops + more * _planned(self.resolved, self.design, arm, setting, 0).training_flops,
            )
        return Later(ceil(runs), round(flops)) if runs else None

    def _seeds_by_place(self, seeds: Mapping[str, float]) -> dict[tuple[str, Setting], float]:
        """How many seeds each arm has at each setting, where arms that are compared have these: as many as any that is
        compared with it, or goes on from it.
        """
        places: dict[tuple[str, Setting], float] = {}
        for arm, number in seeds.items():
            for of_pair in dict.fromkeys((arm, self.design.compared_with(arm))):
                if (setting := self.chosen[of_pair]) is not None:
                    for link in self.resolved.chain(of_pair):
                        places[link, setting] = max(places.get((link, setting), 0), number)
        return places


def _later(resolved: ResolvedStudy, grid: Grid, history: History) -> Later:
    """What extensions and final seeds come to at most, each at the cost of its arm's dearest setting."""
    sizes = [len(values) + 2 * resolved.extend * (len(values) > 1) for values in resolved.grid.values.values()]
    more_settings, last_seed = prod(sizes) - len(grid.settings), max((resolved.seeds, *resolved.looks))
    runs, flops, design = 0, 0, resolved.design_on(grid)
    for arm in resolved.arms:
        chosen = 1 if arm == design.compared_with(arm) else 2  # its own setting, and the other arm's
        # Each arm that goes on from it may want it at two settings more; there are no more than are tried.
        followers = sum(arm in resolved.chain(other)[:-1] for other in resolved.arms)
        final_settings = min(chosen * (1 + followers), max(chosen, prod(sizes)))
        number = resolved.tuning_seeds * more_settings
        number += (resolved.seeds - resolved.tuning_seeds) * final_settings
        number += (last_seed - resolved.seeds) * min(1 + followers, final_settings)  # at its own setting alone
        costs = (
            _planned(resolved, design, arm, setting, 0).training_flops
            for setting in {*_possible_settings(resolved, arm), *history.tried(arm)}
        )
        runs, flops = runs + number, flops + number * max(costs)
    return Later(runs, flops)


def _possible_settings(resolved: ResolvedStudy, arm: str) -> Iterator[Setting]:
    """Settings of the fully extended grid that have a meaning; at one learning rate, as costs do not depend on it."""
    tuned = (_extended_fully(values, resolved.extend) for values in resolved.grid.tuned.values())
    for setting in product(resolved.grid.values[RATE][:1], *tuned):
        try:
            resolved.config(arm, setting, 0)
        except ValueError:
            continue
        yield setting


def _extended_fully(values: tuple[float, ...], steps: int) -> tuple[float, ...]:
    for side in SIDES if len(values) > 1 else ():
        for _ in range(steps):
            step = step_beyond(values, side)
            values = values if step is None else tuple(sorted({*values, step}))
    return values


def _planned(resolved: ResolvedStudy, design: Design, arm: str, setting: Setting, seed: int) -> PlannedRun:
    config = resolved.config(arm, setting, seed)
    return PlannedRun(
        resolved.study.name, arm, resolved.budget, resolved.variant, design, config, resolved.images_of(config)
    )


def recorded(runs: Iterable[PlannedRun], records: Iterable[Record]) -> set[str]:
    """run_ids of the planned runs that are done: completed or diverged. Failed runs are tried again."""
    done = {(r.study, r.arm, r.budget, r.variant, r.identity) for r in records if r.is_done}
    return {run.run_id for run in runs if (run.study, run.arm, run.budget, run.variant, run.run_id) in done}
