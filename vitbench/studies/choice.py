"""Which setting an arm gets: one rule for plans, which run the final seeds there, and for tables, which report it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import isfinite, nan
from statistics import fmean

from vitbench.records import Outcome, Record
from vitbench.studies.settings import Setting

Scores = Mapping[Setting, Mapping[int, float | None]]
"""val_top1 by setting and seed: None for a diverged run; a failed one, which says nothing of its setting, is not there."""


@dataclass(frozen=True)
class Choice:
    """`setting` is None where nothing that counts completed. `seeds`, ascending: those that it rests on; empty where it is
    a makeshift.
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


def counts_over(record: Record, before: Record) -> bool:
    """Whether a later record of the same run goes before an earlier one."""
    return _PRECEDENCE.index(outcome_of(record)) >= _PRECEDENCE.index(outcome_of(before))


def score_of(record: Record) -> float | None:
    """What a run that did not fail says of its setting: val_top1, or None where it diverged."""
    return record.metrics["val_top1"] if outcome_of(record) is Outcome.COMPLETED else None
