"""What a reader must know beside the numbers: runs that did not complete, choices at an edge, pairs that are missing.

Notes are plain sentences; whoever prints them escapes them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from vitbench.analysis.comparison.arm import ArmResult
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.writing.words import listed, seeds_text
from vitbench.costs.macs import unread_macs, unread_sentence
from vitbench.records import Outcome, Record
from vitbench.studies.choice import has_accuracies
from vitbench.studies.settings import RATE, Setting, value_text
from vitbench.text import counted


def notes_about(comparison: Comparison) -> Iterator[str]:
    """All notes of a comparison, the ones that touch most numbers first."""
    yield from _about_the_study(comparison)
    for arm in comparison.arms:
        yield from _about_runs(arm)
    for arm in comparison.arms:
        reference = comparison.compared_with(arm)
        yield from _about_the_choice(arm, reference)
        if reference is not None:
            yield from _about_pairs(arm, reference)
    yield from _about_measuring(comparison)


def _about_the_study(comparison: Comparison) -> Iterator[str]:
    if comparison.baseline is None:
        yield f"The baseline, {comparison.design.baseline}, has no run here: there are no differences from it."
    recorded = {arm.name for arm in comparison.arms}
    missing = [name for name in comparison.design.arms if name not in {*recorded, comparison.design.baseline}]
    if missing:
        yield f"Without any run here: {listed(missing)}."
    if comparison.baseline is not None and (others := _trained_for(comparison.baseline)):
        yield (
            f"Runs of the baseline, {comparison.baseline.label}, are those of {listed(others)} too. A lucky baseline shifts "
            "the differences of every study that shares it."
        )
    if len(comparison.seeds) == 1:
        yield f"One seed ({comparison.seeds[0]}): no standard deviation and no interval can be given."
    models: dict[str, list[ArmResult]] = defaultdict(list)
    for arm in comparison.arms:
        models[arm.name].append(arm)
    for name, arms in models.items():
        if len(arms) > 1:
            yield f"{name} was run with {len(arms)} models, kept apart: {'; '.join(_what_differs(arms, comparison))}."
            if comparison.baseline is not None and name == comparison.baseline.name:
                yield f"Differences are from the one recorded first, {comparison.baseline.label}."


def _trained_for(arm: ArmResult) -> tuple[str, ...]:
    """The other studies whose runs these are, at the setting that is reported."""
    return tuple(sorted({record.taken_from for record in arm.completed(arm.setting).values()} - {""}))


def _what_differs(arms: Sequence[ArmResult], comparison: Comparison) -> Iterator[str]:
    fields = [name for name in type(arms[0].model).model_fields if name not in comparison.design.tuned]
    started = [
        {"init": arm.init, "epochs": arm.epochs, **{name: getattr(arm.model, name) for name in fields}} for arm in arms
    ]
    differing = [name for name in started[0] if len({values[name] for values in started}) > 1]
    for arm, values in zip(arms, started, strict=True):
        yield f"{arm.label} ({listed(f'{name} {values[name]}' for name in differing)})"


def _about_runs(arm: ArmResult) -> Iterator[str]:
    broken: dict[tuple[str, Setting, str], list[int]] = defaultdict(list)
    for (setting, seed), record in sorted(arm.runs.items()):
        if record.outcome is not Outcome.COMPLETED:
            broken[record.outcome.value, setting, record.reason].append(seed)
        elif not has_accuracies(record):
            broken["counted as failed", setting, "recorded as completed, but without its accuracies"].append(seed)
    for (outcome, setting, reason), seeds in broken.items():
        why = " ".join(reason.split()) or "no reason recorded"
        where = f"{arm.noun} {arm.text(setting)}, {seeds_text(seeds)}"
        yield f"{arm.label}: {outcome} at {where}: {why.rstrip('.')}."
    if arm.retried:
        runs = "1 run was" if arm.retried == 1 else f"{arm.retried} runs were"
        yield f"{arm.label}: {runs} recorded again; the last that completed counts."


def _about_the_choice(arm: ArmResult, baseline: ArmResult | None) -> Iterator[str]:
    if arm.has_no_tuning_seed:
        yield (
            f"{arm.label}: no run on a tuning seed completed here, so no {arm.noun} was chosen and there is nothing to report."
        )
        return
    if arm.setting is None:
        yield f"{arm.label}: no run completed, so there is nothing to report."
        return
    for field, side in arm.edges.items():
        name, value = "learning rate" if field == RATE else field, arm.setting[arm.fields.index(field)]
        yield (
            f"{arm.label}: the chosen {name}, {value_text(value)}, is the {side} with a result "
            f"({listed(map(value_text, arm.values(field)))}); a better one may lie beyond."
        )
    every = "every rate" if arm.noun == "learning rate" else "every setting"
    to_choose_on = tuple(seed for seed in arm.seeds if arm.tuning_seeds is None or seed < arm.tuning_seeds)
    if not arm.choice_seeds:
        yield f"{arm.label}: no seed has a result at every {arm.noun}; the choice is by the mean over what each has."
    elif arm.choice_seeds != to_choose_on and not arm.is_fixed:
        yield (
            f"{arm.label}: the {arm.noun} was chosen on {seeds_text(arm.choice_seeds)} alone, where {every} has a result."
        )
    incomplete = [seed for seed in arm.seeds if seed not in arm.completed(arm.setting)]
    if incomplete:
        yield (
            f"{arm.label}: no completed run at {arm.noun} {arm.text(arm.setting)} for "
            f"{seeds_text(incomplete)}; numbers are over the other seeds."
        )
    if baseline is not None and arm.settings != baseline.settings:
        yield _other_settings(arm, baseline)
    absent: dict[tuple[int, ...], list[Setting]] = defaultdict(list)
    for setting in arm.grid:
        seeds = tuple(seed for seed in to_choose_on if (setting, seed) not in arm.runs)
        if seeds:
            absent[seeds].append(setting)
    for seeds, settings in absent.items():
        separator = ", " if arm.noun == "learning rate" else "; "
        yield f"{arm.label}: not yet run at {arm.noun} {separator.join(map(arm.text, settings))}: {seeds_text(seeds)}."


def _other_settings(arm: ArmResult, baseline: ArmResult) -> str:
    """All of few learning rates, but only what differs of many settings."""
    if arm.noun == "learning rate":
        mine, theirs = (listed(map(one.text, one.settings)) for one in (arm, baseline))
        return f"{arm.label}: run at other learning rates ({mine}) than the baseline ({theirs})."
    gaps = []
    for label, missing in (
        (arm.label, sorted({*baseline.settings} - {*arm.settings})),
        (baseline.label, sorted({*arm.settings} - {*baseline.settings})),
    ):
        if missing:
            gaps.append(f"{label} lacks {'; '.join(map(arm.text, missing))}")
    return f"{arm.label}: run at other settings than the baseline: {', and '.join(gaps)}."


def _about_pairs(arm: ArmResult, baseline: ArmResult) -> Iterator[str]:
    mine, theirs = arm.completed(arm.setting).keys(), baseline.completed(baseline.setting).keys()
    if not mine or mine == theirs:
        return
    gaps = []
    for label, missing in ((arm.label, theirs - mine), (baseline.label, mine - theirs)):
        if missing:
            gaps.append(f"{label} lacks {seeds_text(sorted(missing))}")
    yield f"{arm.label}: {len(mine & theirs)} of {len(mine | theirs)} pairs are complete; {listed(gaps)}."


def _about_measuring(comparison: Comparison) -> Iterator[str]:
    yield from _about_class_tokens(comparison)
    yield from _about_speeds(comparison)
    yield from _about_days(comparison)
    for note in comparison.environment_values("compile_note"):
        yield f"torch.compile: {' '.join(str(note).split()).rstrip('.')}."


def _about_class_tokens(comparison: Comparison) -> Iterator[str]:
    """What arms with a class token save, where they stand beside others."""
    timed = {arm.label: arm.model for arm in comparison.arms if loads_of(arm)}
    if not all(map(unread_macs, timed.values())) and (sentence := unread_sentence(timed)):
        yield sentence


def _about_speeds(comparison: Comparison) -> Iterator[str]:
    """Whether images/s were measured alike: as many runs at a time, and as many threads in each."""
    arms = [(arm, loads) for arm in comparison.arms if (loads := loads_of(arm))]
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
                [counted(workers, "run") + " at a time"] * workers_differ
                + [counted(threads, "thread") + (" each" if workers_differ else "")] * threads_differ
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


def _about_days(comparison: Comparison) -> Iterator[str]:
    """Whether arms were trained in the same sittings: a machine is not as fast on every day."""
    labels: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for arm in comparison.arms:
        if days := days_of(arm):
            labels[days].append(arm.label)
    if len(labels) > 1:
        each = "; ".join(f"of {listed(names)} on {' and '.join(days)}" for days, names in labels.items())
        yield f"Images/s were measured on different days ({each}): do not compare these, nor training seconds."


def days_of(arm: ArmResult) -> tuple[str, ...]:
    """The days, in UTC, on which the runs behind an arm's images/s began, ascending."""
    return tuple(sorted({record.started[:10] for record in _timed(arm)}))


def loads_of(arm: ArmResult) -> tuple[tuple[int, int], ...]:
    """The different (workers, threads) of the runs behind an arm's images/s, ascending."""
    return tuple(sorted({(record.environment.workers, record.environment.threads) for record in _timed(arm)}))


def _timed(arm: ArmResult) -> list[Record]:
    return [
        record
        for record in arm.completed(arm.setting).values()
        if (record.cost.train_images_per_second, record.cost.infer_images_per_second) != (None, None)
    ]
