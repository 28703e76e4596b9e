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
    started = [
        {"init": arm.init, **{name: getattr(arm.model, name) for name in type(arm.model).model_fields}} for arm in arms
    ]
    differing = [name for name in started[0] if len({fields[name] for fields in started}) > 1]
    for arm, fields in zip(arms, started, strict=True):
        yield f"{arm.label} ({listed(f'{name} {fields[name]}' for name in differing)})"


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
    if not arm.choice_seeds:
        yield f"{arm.label}: no seed has a result at every learning rate; the choice is by the mean over what each has."
    elif arm.choice_seeds != arm.seeds and not arm.is_fixed:
        yield (
            f"{arm.label}: the learning rate was chosen on {_seeds_text(arm.choice_seeds)} alone, "
            "where every rate has a result."
        )
    incomplete = [seed for seed in arm.seeds if seed not in arm.completed(arm.learning_rate)]
    if incomplete:
        yield (
            f"{arm.label}: no completed run at learning rate {rate_text(arm.learning_rate)} for "
            f"{_seeds_text(incomplete)}; numbers are over the other seeds."
        )
    if baseline is not None and arm.learning_rates != baseline.learning_rates:
        yield (
            f"{arm.label}: run at other learning rates ({listed(map(rate_text, arm.learning_rates))}) "
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
    yield from _about_speeds(comparison)
    for note in comparison.environment_values("compile_note"):
        yield f"torch.compile: {' '.join(str(note).split()).rstrip('.')}."


def _about_speeds(comparison: Comparison) -> Iterator[str]:
    """Whether images/s were measured alike: as many runs at a time, and as many threads in each."""
    arms = [(arm, loads) for arm in comparison.arms if (loads := _loads(arm))]
    different = {load for _, loads in arms for load in loads}
    if len(different) <= 1:
        for workers, _ in different:
            if workers > 1:
                yield f"Images per second were measured while up to {workers} workers shared the machine."
        return
    workers_differ, threads_differ = (len(set(values)) > 1 for values in zip(*different, strict=True))

    def text(loads: tuple[tuple[int, int], ...]) -> str:
        return " or ".join(
            listed(
                [_counted(workers, "run") + " at a time"] * workers_differ
                + [_counted(threads, "thread") + (" each" if workers_differ else "")] * threads_differ
            )
            for workers, threads in loads
        )

    baseline = comparison.baseline
    reference = next((loads for arm, loads in arms if arm is baseline), ())
    labels: dict[tuple[tuple[int, int], ...], list[str]] = defaultdict(list)
    for arm, loads in arms:
        # Medians over a mixture of loads compare with nothing, not even with the same mixture.
        if arm is not baseline and (loads != reference or len(loads) > 1):
            labels[loads].append(arm.label)
    if reference and labels:
        for loads, names in labels.items():
            yield (
                f"Images/s of {listed(names)} were measured with {text(loads)}, those of the baseline with "
                f"{text(reference)}: do not compare them, nor training seconds."
            )
    else:
        each = "; ".join(f"of {arm.label} with {text(loads)}" for arm, loads in arms)
        yield f"Images/s were not all measured alike ({each}): do not compare them, nor training seconds."


def _loads(arm: ArmResult) -> tuple[tuple[int, int], ...]:
    """The different (workers, threads) of the runs behind an arm's images/s, ascending."""
    environments = [
        record.environment
        for record in arm.completed(arm.learning_rate).values()
        if (record.cost.train_images_per_second, record.cost.infer_images_per_second) != (None, None)
    ]
    return tuple(sorted({(environment.workers, environment.threads) for environment in environments}))


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _seeds_text(seeds: Sequence[int]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {listed(seeds)}"
