"""What a reader must know beside the numbers: runs that did not complete, choices at an edge, pairs that are missing.

Notes are plain sentences; whoever prints them escapes them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from vitbench.records import Outcome, Record

if TYPE_CHECKING:
    from vitbench.analysis.comparison import ArmResult, Comparison


def rate_text(learning_rate: float) -> str:
    """0.001, 3e-5."""
    return f"{learning_rate:g}".replace("e-0", "e-")


def listed(values: Iterable[Any]) -> str:
    return ", ".join(str(value) for value in values)


def has_accuracies(record: Record) -> bool:
    """Whether there is a number to choose by and one to report."""
    return {"test_top1", "val_top1"} <= record.metrics.keys()


def notes_about(comparison: Comparison, baseline_name: str, planned_arms: Sequence[str]) -> Iterator[str]:
    """All notes of a comparison, the ones that touch most numbers first."""
    yield from _about_the_study(comparison, baseline_name, planned_arms)
    for arm in comparison.arms:
        yield from _about_runs(arm)
    for arm in comparison.arms:
        yield from _about_the_choice(arm, comparison.baseline)
        if comparison.baseline is not None and arm is not comparison.baseline:
            yield from _about_pairs(arm, comparison.baseline)
    yield from _about_measuring(comparison)


def _about_the_study(comparison: Comparison, baseline_name: str, planned_arms: Sequence[str]) -> Iterator[str]:
    if comparison.baseline is None:
        yield f"The baseline, {baseline_name}, has no run here: there are no differences from it."
    recorded = {arm.name for arm in comparison.arms}
    missing = [name for name in planned_arms if name not in recorded and name != baseline_name]
    if missing:
        yield f"Without any run here: {listed(missing)}."
    if len(comparison.seeds) == 1:
        yield f"One seed ({comparison.seeds[0]}): no standard deviation and no interval can be given."
    models: dict[str, list[ArmResult]] = defaultdict(list)
    for arm in comparison.arms:
        models[arm.name].append(arm)
    for name, arms in models.items():
        if len(arms) > 1:
            yield f"{name} was run with {len(arms)} models, kept apart: {'; '.join(_what_differs(arms))}."
            if comparison.baseline is not None and name == comparison.baseline.name:
                yield f"Differences are from the one recorded first, {comparison.baseline.label}."


def _what_differs(arms: Sequence[ArmResult]) -> Iterator[str]:
    fields = type(arms[0].model).model_fields
    differing = [name for name in fields if len({getattr(arm.model, name) for arm in arms}) > 1]
    for arm in arms:
        yield f"{arm.label} ({listed(f'{name} {getattr(arm.model, name)}' for name in differing)})"


def _about_runs(arm: ArmResult) -> Iterator[str]:
    broken: dict[tuple[str, float, str], list[int]] = defaultdict(list)
    for (rate, seed), record in sorted(arm.runs.items()):
        if record.outcome is not Outcome.COMPLETED:
            broken[record.outcome.value, rate, record.reason].append(seed)
        elif not has_accuracies(record):
            broken["counted as failed", rate, "recorded as completed, but without its accuracies"].append(seed)
    for (outcome, rate, reason), seeds in broken.items():
        why = " ".join(reason.split()) or "no reason recorded"
        yield f"{arm.label}: {outcome} at learning rate {rate_text(rate)}, {_seeds_text(seeds)}: {why.rstrip('.')}."
    if arm.retried:
        runs = "1 run was" if arm.retried == 1 else f"{arm.retried} runs were"
        yield f"{arm.label}: {runs} recorded again; the last that completed counts."


def _about_the_choice(arm: ArmResult, baseline: ArmResult | None) -> Iterator[str]:
    if arm.learning_rate is None:
        yield f"{arm.label}: no run completed, so there is nothing to report."
        return
    if arm.edge:
        yield (
            f"{arm.label}: the chosen learning rate, {rate_text(arm.learning_rate)}, is the {arm.edge} with a result "
            f"({listed(map(rate_text, arm.known_rates))}); a better one may lie beyond."
        )
    if len(arm.completed(arm.learning_rate)) < len(arm.seeds):
        yield f"{arm.label}: at no learning rate did all seeds complete; numbers are over those that did."
    if baseline is not None and arm.learning_rates != baseline.learning_rates:
        yield (
            f"{arm.label}: tuned over other learning rates ({listed(map(rate_text, arm.learning_rates))}) "
            f"than the baseline ({listed(map(rate_text, baseline.learning_rates))})."
        )
    absent: dict[tuple[int, ...], list[float]] = defaultdict(list)
    for rate in arm.grid:
        seeds = tuple(seed for seed in arm.seeds if (rate, seed) not in arm.runs)
        if seeds:
            absent[seeds].append(rate)
    for seeds, rates in absent.items():
        yield f"{arm.label}: not yet run at learning rate {listed(map(rate_text, rates))}: {_seeds_text(seeds)}."


def _about_pairs(arm: ArmResult, baseline: ArmResult) -> Iterator[str]:
    mine, theirs = arm.completed(arm.learning_rate).keys(), baseline.completed(baseline.learning_rate).keys()
    if not mine or mine == theirs:
        return
    gaps = []
    for label, missing in ((arm.label, theirs - mine), (baseline.label, mine - theirs)):
        if missing:
            gaps.append(f"{label} lacks {_seeds_text(sorted(missing))}")
    yield f"{arm.label}: {len(mine & theirs)} of {len(mine | theirs)} pairs are complete; {listed(gaps)}."


def _about_measuring(comparison: Comparison) -> Iterator[str]:
    for workers in comparison.environment_values("workers")[-1:]:
        if isinstance(workers, int) and workers > 1:
            yield f"Images per second were measured while up to {workers} workers shared the machine."
    threads = comparison.environment_values("threads")
    if len(threads) > 1:
        yield f"Runs computed with different numbers of threads ({listed(threads)}): their images per second differ for it."
    for note in comparison.environment_values("compile_note"):
        yield f"torch.compile: {' '.join(str(note).split()).rstrip('.')}."


def _seeds_text(seeds: Sequence[int]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {listed(seeds)}"
