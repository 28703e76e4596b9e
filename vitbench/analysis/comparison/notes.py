"""What must a reader know beside the numbers? Runs that did not complete, choices at an edge, pairs that are missing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TypeVar

from vitbench.analysis.comparison.added_seeds import about_looks
from vitbench.analysis.comparison.arm import ArmResult
from vitbench.analysis.comparison.changes import changes_text
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.comparison.differing import user_code
from vitbench.analysis.comparison.seen_images import about_images
from vitbench.analysis.writing.words import listed, seeds_text
from vitbench.costs.macs import unread_macs, unread_sentence
from vitbench.records import Outcome
from vitbench.records.metrics import METRICS
from vitbench.studies.choice import has_accuracies
from vitbench.studies.settings import RATE, Setting, value_text
from vitbench.text import agreeing, counted

Key = TypeVar("Key", bound=Hashable)


def notes_about(comparison: Comparison) -> Iterator[str]:
    """All notes of a comparison, the ones that touch most numbers first."""
    yield from _about_the_study(comparison)
    yield from about_images(comparison)
    for arm in comparison.arms:
        yield from (f"{arm.label}: {note}" for note in _about_runs(arm))
    for arm in comparison.arms:
        reference = comparison.compared_with(arm)
        yield from (f"{arm.label}: {note}" for note in _about_the_choice(arm, comparison))
        if reference is not None:
            yield from (f"{arm.label}: {note}" for note in _about_pairs(arm, reference))
    yield from _about_muon(comparison)
    yield from _about_speeds(comparison)
    yield from _about_user_code(comparison)
    for note in comparison.environment_values("compile_note"):
        yield f"torch.compile: {_one_sentence(str(note))}"


def _one_sentence(text: str) -> str:
    return " ".join(text.split()).rstrip(".") + "."


def _lacks(missing: dict[str, str]) -> list[str]:
    """`gap lacks seed 2` of each label that lacks something."""
    return [f"{label} lacks {what}" for label, what in missing.items() if what]


def _labels_by(arms: Iterable[ArmResult], key_of: Callable[[ArmResult], Key]) -> dict[Key, list[str]]:
    """Arms that have no key are left out."""
    labels: dict[Key, list[str]] = defaultdict(list)
    for arm in arms:
        if key := key_of(arm):
            labels[key].append(arm.label)
    return labels


def _about_the_metric(comparison: Comparison) -> Iterator[str]:
    """Which runs lack it, and whether it was declared before all of them."""
    metric, design = comparison.metric, comparison.design
    completed = [record for record in comparison.records if record.outcome is Outcome.COMPLETED]
    if lacking := sum(metric.key not in record.metrics for record in completed):
        yield (
            f"{lacking} of {counted(len(completed), 'run')} {agreeing(lacking, 'was', 'were')} recorded before "
            f"{metric.words} was, and {agreeing(lacking, 'is', 'are')} in none of its numbers."
        )
    if comparison.earlier_metrics:
        runs = (f"{counted(number, 'run')} by {_words(name)}" for name, number in comparison.earlier_metrics.items())
        yield (
            f"The metric was changed: the study declares {METRICS[design.metric].words} now, but recorded {listed(runs)}. A "
            "metric that is chosen after results were seen proves less."
        )


def _words(metric: str) -> str:
    """In words; what a later version may have recorded, as it is."""
    return METRICS[metric].words if metric in METRICS else metric


def _about_the_study(comparison: Comparison) -> Iterator[str]:
    baseline, design = comparison.baseline, comparison.design
    if baseline is None:
        yield f"The baseline, {design.baseline}, has no run here: there are no differences from it."
    yield from _about_the_metric(comparison)
    recorded = {arm.name for arm in comparison.arms}
    if missing := [name for name in design.arms if name not in {*recorded, design.baseline}]:
        yield f"Not yet run: {listed(missing)}."
    completed = baseline.completed(baseline.setting).values() if baseline else ()
    if baseline and (studies := sorted({record.taken_from for record in completed} - {""})):
        yield (
            f"The runs of the baseline, {baseline.label}, are shared with {listed(studies)}. A lucky baseline shifts the "
            "differences of every study that shares it."
        )
    yield from about_looks(comparison)
    if len(comparison.seeds) == 1:
        yield f"One seed ({comparison.seeds[0]}): no standard deviation and no interval can be given."
    for name in dict.fromkeys(arm.name for arm in comparison.arms):
        arms = [arm for arm in comparison.arms if arm.name == name]
        if len(arms) > 1:
            yield f"{name} was run as {len(arms)} arms, kept apart: {'; '.join(_what_differs(arms, comparison))}."
            if baseline is not None and name == baseline.name:
                yield f"Differences are from the one recorded first, {baseline.label}."


def _what_differs(arms: Sequence[ArmResult], comparison: Comparison) -> Iterator[str]:
    facts = [{"init": arm.init, "epochs": arm.epochs, **arm.config.field_values} for arm in arms]
    names = [name for name in dict.fromkeys(chain(*facts)) if name not in comparison.design.tuned_fields]
    differing = [name for name in names if any(of_arm.get(name) != facts[0].get(name) for of_arm in facts)]
    for arm, of_arm in zip(arms, facts, strict=True):
        yield f"{arm.label} ({changes_text({name: of_arm[name] for name in differing if name in of_arm})})"


def _about_runs(arm: ArmResult) -> Iterator[str]:
    seeds_by_reason: dict[tuple[str, Setting, str], list[int]] = defaultdict(list)
    for (setting, seed), record in sorted(arm.runs.items()):
        if record.outcome is not Outcome.COMPLETED:
            seeds_by_reason[record.outcome.value, setting, record.reason].append(seed)
        elif not has_accuracies(record):
            reason = "recorded as completed, but without its accuracies"
            seeds_by_reason["counted as failed", setting, reason].append(seed)
    for (outcome, setting, reason), seeds in seeds_by_reason.items():
        why = _one_sentence(reason if reason.strip() else "no reason recorded")
        yield f"{outcome} at {arm.noun} {arm.text(setting)}, {seeds_text(seeds)}: {why}"
    if arm.retried:
        were = agreeing(arm.retried, "was", "were")
        yield f"{counted(arm.retried, 'run')} {were} recorded again; the last that completed counts."


def _about_the_choice(arm: ArmResult, comparison: Comparison) -> Iterator[str]:
    if arm.setting is None:
        yield (
            f"no run on a tuning seed completed, so no {arm.noun} was chosen and there is nothing to report."
            if arm.outcomes[Outcome.COMPLETED]
            else "no run completed, so there is nothing to report."
        )
        return
    for field, side in arm.edges.items():
        name, value = "learning rate" if field == RATE else field, arm.setting[arm.fields.index(field)]
        values = listed(map(value_text, arm.values(field)))
        yield (
            f"the chosen {name}, {value_text(value)}, is the {side} with a result ({values}); a better one may lie beyond."
        )
    tuning_seeds = tuple(seed for seed in arm.seeds if arm.tuning_seeds is None or seed < arm.tuning_seeds)
    if not arm.choice.seeds:
        yield f"no seed has a result at every {arm.noun}; the choice compares means over different seeds."
    elif arm.choice.seeds != tuning_seeds and not arm.is_fixed:
        every = arm.noun.removeprefix("learning ")
        yield f"the {arm.noun} was chosen on {seeds_text(arm.choice.seeds)} alone, where every {every} has a result."
    if incomplete := [seed for seed in arm.seeds if seed not in arm.completed(arm.setting)]:
        where = f"{arm.noun} {arm.text(arm.setting)} for {seeds_text(incomplete)}"
        yield f"no completed run at {where}; numbers are over the other seeds."
    reference = comparison.compared_with(arm)
    if reference is not None and comparison.grid_settings(arm) != comparison.grid_settings(reference):
        yield _other_settings(arm, reference, comparison)
    settings_without: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for setting in arm.grid:
        if seeds := tuple(seed for seed in tuning_seeds if (setting, seed) not in arm.runs):
            settings_without[seeds].append(arm.text(setting))
    for seeds, settings in settings_without.items():
        separator = ", " if arm.noun == "learning rate" else "; "
        yield f"not yet run at {arm.noun} {separator.join(settings)}: {seeds_text(seeds)}."


def _other_settings(arm: ArmResult, reference: ArmResult, comparison: Comparison) -> str:
    """All of few learning rates, but only what differs of many settings; in the study's grid, of which an arm may have a
    multiple.
    """
    settings = {other.label: comparison.grid_settings(other) for other in (arm, reference)}
    if arm.noun == "learning rate":
        mine, theirs = (listed(map(arm.text, of_arm)) for of_arm in settings.values())
        return f"run at other learning rates ({mine}) than the baseline ({theirs})."
    missing = {
        arm.label: "; ".join(map(arm.text, sorted({*settings[reference.label]} - {*settings[arm.label]}))),
        reference.label: "; ".join(map(arm.text, sorted({*settings[arm.label]} - {*settings[reference.label]}))),
    }
    return f"run at other settings than the baseline: {', and '.join(_lacks(missing))}."


def _about_pairs(arm: ArmResult, reference: ArmResult) -> Iterator[str]:
    mine, theirs = arm.completed(arm.setting).keys(), reference.completed(reference.setting).keys()
    if mine and mine != theirs:
        lacking = {arm.label: sorted(theirs - mine), reference.label: sorted(mine - theirs)}
        missing = {label: seeds_text(seeds) for label, seeds in lacking.items() if seeds}
        yield f"{len(mine & theirs)} of {len(mine | theirs)} pairs are complete; {listed(_lacks(missing))}."


def _about_muon(comparison: Comparison) -> Iterator[str]:
    labels = [arm.label for arm in comparison.arms if arm.config.is_muon_without_layers]
    if labels and len(labels) < len(comparison.arms):
        were = agreeing(len(labels), "was", "were")
        yield f"{listed(labels)} {were} trained by AdamW alone: Muon takes the linear layers of our ViT's blocks, not timm's."


def _about_user_code(comparison: Comparison) -> Iterator[str]:
    """Where it can be read, and what its runs cannot say or share."""
    if names := user_code(comparison):
        files = listed(f"sources/{name}.py" for name in names)
        yield f"The user's code, as it ran, is kept beside the records: {files}."
    for operators, labels in _labels_by(comparison.arms, lambda arm: arm.macs_incomplete).items():
        yield f"{listed(labels)}: MACs are incomplete, as there is no count for {listed(operators)}."
    for parts, labels in _labels_by(comparison.arms, lambda arm: arm.self_initialised).items():
        which = f"{listed(parts)} {agreeing(len(parts), 'initialises itself', 'initialise themselves')}"
        yield f"{listed(labels)}: {which}; what else the model shares with others starts equal at equal seeds."


def _about_speeds(comparison: Comparison) -> Iterator[str]:
    timed = {arm.label: arm.model for arm in comparison.arms if arm.loads}
    if not all(map(unread_macs, timed.values())) and (sentence := unread_sentence(timed)):
        yield sentence
    yield from _about_loads(comparison)
    # A machine is not as fast on every day.
    labels = _labels_by(comparison.arms, lambda arm: arm.days)
    if len(labels) > 1:
        each = "; ".join(f"of {listed(names)} on {' and '.join(days)}" for days, names in labels.items())
        yield f"Images/s were measured on different days ({each}): do not compare these, nor training seconds."


def _about_loads(comparison: Comparison) -> Iterator[str]:
    """Whether images/s were measured with as many runs at a time, and as many threads in each."""
    arms, baseline = [arm for arm in comparison.arms if arm.loads], comparison.baseline
    different = {load for arm in arms for load in arm.loads}
    if len(different) <= 1:
        for workers, _ in different:
            if workers > 1:
                yield f"Images per second were measured while up to {workers} workers shared the machine."
        return
    workers_differ, threads_differ = (len(set(values)) > 1 for values in zip(*different, strict=True))

    def text(loads: tuple[tuple[int, int], ...]) -> str:
        return " or ".join(
            listed(
                [f"{counted(workers, 'run')} at a time"] * workers_differ
                + [counted(threads, "thread") + (" each" if workers_differ else "")] * threads_differ
            )
            for workers, threads in loads
        )

    # Medians over a mixture of loads compare with nothing, not even with the same mixture.
    reference = baseline.loads if baseline else ()
    unlike = [arm for arm in arms if arm is not baseline and (arm.loads != reference or len(arm.loads) > 1)]
    if reference and unlike:
        for loads, labels in _labels_by(unlike, lambda arm: arm.loads).items():
            yield (
                f"Images/s of {listed(labels)} were measured with {text(loads)}, those of the baseline with "
                f"{text(reference)}: do not compare them, nor training seconds."
            )
    else:
        each = "; ".join(f"of {arm.label} with {text(arm.loads)}" for arm in arms)
        yield f"Images/s were not all measured alike ({each}): do not compare them, nor training seconds."
