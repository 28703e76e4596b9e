"""Which setting does an arm get, and which records decide it?

One rule for plans, which run the final seeds at that setting, and for tables, which report it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from math import inf, isfinite, nan
from statistics import fmean
from typing import Any, TypeVar

from vitbench.config import DataConfig, TrainConfig
from vitbench.records import Design, Outcome, Record
from vitbench.studies.settings import Setting

Key = TypeVar("Key", bound=Hashable)
Runs = dict[tuple[Setting, int], Record]
"""An arm's run that counts, by (setting, seed)."""
Scores = Mapping[Setting, Mapping[int, float | None]]
"""val_top1 by setting and seed: None for a diverged run. Failed runs, which say nothing of a setting, are left out."""


@dataclass(frozen=True)
class Choice:
    """`setting`: None where no run that counts completed. `seeds`: those that settings were compared on, ascending; empty if
    seeds were uneven across settings.
    """

    setting: Setting | None
    seeds: tuple[int, ...]


def choose(scores: Scores, grid: Collection[Setting], *, tuning_seeds: int | None = None) -> Choice:
    """The setting with the highest mean val_top1 over the seeds at which every setting of `grid` completed or diverged.

    1. With `tuning_seeds`, only seeds below it count, so that the final seeds never move the choice. A grid of one setting
       leaves nothing to choose: all seeds count.
    2. A run that is missing or failed at one setting takes its seed from all settings. If that leaves no seed, each setting
       has the mean of its own seeds.
    3. A diverged run counts as 0, and settings at which every seed completed go before all others.
    4. Ties go to the smaller setting.
    """
    limit = tuning_seeds if tuning_seeds is not None and len(grid) > 1 else inf
    below = {setting: {seed: v for seed, v in values.items() if seed < limit} for setting, values in scores.items()}
    counted = {setting: values for setting, values in below.items() if values}
    every = sorted({seed for at_setting in counted.values() for seed in at_setting})
    seeds = tuple(seed for seed in every if all(seed in counted.get(setting, {}) for setting in grid))
    candidates = [setting for setting, values in counted.items() if any(v is not None for v in values.values())]
    if not candidates:
        return Choice(None, seeds)

    def preference(setting: Setting) -> tuple[bool, float, tuple[float, ...]]:
        scores_by_seed = counted[setting]
        return (
            all(scores_by_seed.get(seed) is not None for seed in seeds),
            fmean(scores_by_seed.get(seed) or 0.0 for seed in seeds or scores_by_seed),
            tuple(-value for value in setting),
        )

    return Choice(max(candidates, key=preference), seeds)


def outcome_of(record: Record) -> Outcome:
    """The record's outcome; that of a completed run without accuracies is `failed`."""
    if record.outcome is Outcome.COMPLETED and not has_accuracies(record):
        return Outcome.FAILED
    return record.outcome


def has_accuracies(record: Record) -> bool:
    """Whether a run has val_top1, by which settings are chosen, and test_top1, which is reported."""
    return all(isfinite(record.metrics.get(name, nan)) for name in ("test_top1", "val_top1"))


_PRECEDENCE = (Outcome.FAILED, Outcome.DIVERGED, Outcome.COMPLETED)


def add_run(runs: Runs, record: Record, setting: Setting) -> bool:
    """Adds a record to an arm's runs, in place of an earlier one of no better outcome; returns whether there was one.

    Of two that ended alike, one that was evaluated on distorted images too stays: its other numbers are the same.
    """
    cell = setting, record.config.seed
    earlier = runs.get(cell)
    if earlier is None or _rank(record) >= _rank(earlier):
        runs[cell] = record
    return earlier is not None


def _rank(record: Record) -> tuple[int, int]:
    return _PRECEDENCE.index(outcome_of(record)), len(record.config.evaluate)


def scores_of(runs: Mapping[tuple[Setting, int], Record]) -> Scores:
    """The scores of an arm's runs."""
    scores: dict[Setting, dict[int, float | None]] = {}
    for (setting, seed), record in runs.items():
        if (outcome := outcome_of(record)) is not Outcome.FAILED:
            top1 = record.metrics["val_top1"] if outcome is Outcome.COMPLETED else None
            scores.setdefault(setting, {})[seed] = top1
    return scores


def environment_key(record: Record, design: Design) -> tuple[str, ...]:
    """Equal for records whose environments may be compared under a design: but for what its arms differ in themselves.

    Where image sizes differ, data hashes do too; where precision or compilation do, so does what computed.
    """
    update: dict[str, Any] = {"data_sha256": ""} if design.image_sizes_differ else {}
    if design.precisions_differ:
        update |= {"precision": "", "compiled": False, "kernels": ""}
    return record.environment.model_copy(update=update).comparison_key


def base_of(record: Record) -> tuple[TrainConfig, DataConfig]:
    """The recipe and data of the base that a record's arm differs from: its own, with what the arm changes undone.

    Equal for the arms of one study, whatever they change, but for setting, and epochs and images that the plan decides.
    Decided by the record's own design, so that it holds for a study whose arms became more.
    """
    config = record.config
    config, design, arm = record.config, record.design, record.arm
    return design.base_of(arm, config.train), design.base_of(arm, config.data)


def grouped(records: Iterable[Record], key_of: Callable[[Record], Key]) -> dict[Key, list[Record]]:
    """Records by key, both in the order of the records.

    A run that failed before its data was read or its model compiled has an incomplete environment. It joins the latest group
    that agrees in all else: it has no numbers to mix up, and its failure is shown there.
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
