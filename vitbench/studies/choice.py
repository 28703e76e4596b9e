"""Which setting does an arm get, and which records decide it?

One rule for plans, which run the final seeds at that setting, and for tables, which report it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from math import isfinite, nan
from statistics import fmean
from typing import TypeVar

from vitbench.records import Design, Outcome, Record
from vitbench.studies.settings import Setting, setting_of

Key = TypeVar("Key", bound=Hashable)
Runs = dict[tuple[Setting, int], Record]
"""An arm's run that counts, by (setting, seed)."""
Scores = Mapping[Setting, Mapping[int, float | None]]
"""val_top1 by setting and seed: None for a diverged run; a failed one, which says nothing of its setting, is not there."""


@dataclass(frozen=True)
class Choice:
    """`setting`: None where nothing that counts completed. `seeds`: those that settings were compared on, ascending; empty
    where runs are spread so unevenly over settings that there is none.
    """

    setting: Setting | None
    seeds: tuple[int, ...]


def choose(scores: Scores, grid: Collection[Setting], *, tuning_seeds: int | None = None) -> Choice:
    """The setting with the highest mean val_top1 over the seeds at which every setting of `grid` completed or diverged.

    With `tuning_seeds`, only seeds below it count, so that the final seeds never move the choice: where none of these
    completed, there is none, unless the grid is of one setting, which leaves nothing to choose. A diverged run counts
    as 0, and settings at which all of these seeds completed go before all others; ties go to the smaller setting. A run
    that is missing or failed at one setting thus takes its seed from all of them. Where there is no such seed, means are
    over what there is.
    """
    counted = _of_seeds_below(tuning_seeds if len(grid) > 1 else None, scores)
    every = sorted({seed for at_setting in counted.values() for seed in at_setting})
    seeds = tuple(seed for seed in every if all(seed in counted.get(setting, {}) for setting in grid))
    candidates = [setting for setting, values in counted.items() if any(v is not None for v in values.values())]
    if not candidates:
        return Choice(None, seeds)

    def preference(setting: Setting) -> tuple[bool, float, tuple[float, ...]]:
        values = counted[setting]
        own = seeds or tuple(values)
        return (
            all(values.get(seed) is not None for seed in seeds),
            fmean(values.get(seed) or 0.0 for seed in own),
            tuple(-value for value in setting),
        )

    return Choice(max(candidates, key=preference), seeds)


def _of_seeds_below(limit: int | None, scores: Scores) -> Scores:
    if limit is None:
        return scores
    below = {setting: {s: v for s, v in values.items() if s < limit} for setting, values in scores.items()}
    return {setting: values for setting, values in below.items() if values}


def outcome_of(record: Record) -> Outcome:
    """The record's outcome; a completed run without its accuracies has none to count and is taken as failed."""
    if record.outcome is Outcome.COMPLETED and not has_accuracies(record):
        return Outcome.FAILED
    return record.outcome


def has_accuracies(record: Record) -> bool:
    """Whether there is a number to choose by and one to report."""
    return all(isfinite(record.metrics.get(name, nan)) for name in ("test_top1", "val_top1"))


_PRECEDENCE = (Outcome.FAILED, Outcome.DIVERGED, Outcome.COMPLETED)


def add_run(runs: Runs, record: Record, tuned_fields: Iterable[str]) -> bool:
    """Adds a later record to an arm's runs, where it counts over an earlier one; returns whether there was one."""
    cell = setting_of(record.config, tuned_fields), record.config.seed
    earlier = runs.get(cell)
    if earlier is None or _PRECEDENCE.index(outcome_of(record)) >= _PRECEDENCE.index(outcome_of(earlier)):
        runs[cell] = record
    return earlier is not None


def scores_of(runs: Mapping[tuple[Setting, int], Record]) -> Scores:
    """What an arm's runs say of their settings."""
    scores: dict[Setting, dict[int, float | None]] = {}
    for (setting, seed), record in runs.items():
        if (outcome := outcome_of(record)) is not Outcome.FAILED:
            top1 = record.metrics["val_top1"] if outcome is Outcome.COMPLETED else None
            scores.setdefault(setting, {})[seed] = top1
    return scores


def environment_key(record: Record, design: Design) -> tuple[str, ...]:
    """Equal for records that may stand in one table under a design, as far as their environments go."""
    environment = record.environment
    return (environment.model_copy(update={"data_sha256": ""}) if design.sizes_differ else environment).comparison_key


def grouped(records: Iterable[Record], key_of: Callable[[Record], Key]) -> dict[Key, list[Record]]:
    """Records by key, in the order given, the keys in that of their first record.

    A run that failed before its data was read or its model compiled cannot say what these were. It has no numbers to mix
    up, so it joins the latest group that agrees in all else, where its failure is seen.
    """
    keyed = [(key_of(record), record) for record in records]
    firsts: dict[Key, Record] = {}
    for key, record in keyed:
        if not record.ended_before_data:
            firsts.setdefault(key, record)

    def early_key(record: Record) -> Key:
        return key_of(record.model_copy(update={"environment": record.environment.before_data}))

    latest = {early_key(record): key for key, record in firsts.items()}
    groups: dict[Key, list[Record]] = {}
    for key, record in keyed:
        groups.setdefault(latest.get(early_key(record), key) if record.ended_before_data else key, []).append(record)
    return groups
