"""What do the records of a comparison establish? A verdict for every arm, what it rests on, and what would settle the rest."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from vitbench.analysis.comparison.added_seeds import seeds_were_added
from vitbench.analysis.comparison.arm import ArmResult
from vitbench.analysis.comparison.claims import ClaimRow, claim_rows, claims_of
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.statistics.crossed import CrossedDifference
from vitbench.analysis.statistics.interactions import Cell, FTest, interactions, overall_interaction
from vitbench.analysis.statistics.narrowing import StudyNarrowing, study_narrowing
from vitbench.analysis.statistics.outperforming import Outperforming
from vitbench.analysis.statistics.pairing import NO_SPREAD, Estimate, PairedDifference, Uncertainty
from vitbench.analysis.statistics.power import SeedsToSettle, seeds_to_settle, smallest_difference
from vitbench.analysis.statistics.verdicts import ALPHA, Caveats, Decision, SequentialPlan, Verdict, decide
from vitbench.records.metrics import TOP1, Metric
from vitbench.studies.settings import Setting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Key = TypeVar("Key", bound=Hashable)
UNKNOWN_IMAGE = 0.01
"""What a test image counts for where records do not say which were right: too much, with 100 test images or more."""


@dataclass(frozen=True)
class Finding:
    """An arm against the arm that it is compared with, each at its own setting.

    Everything but `decision` is None where it cannot be told.
    """

    arm: ArmResult
    metric: Metric
    """What it is judged by."""
    decision: Decision
    at_baseline_setting: Decision | None
    """The same at the setting that was chosen for the baseline, over its held-out seeds where they are enough.

    None where that is the arm's own setting too.
    """
    outperforming: Outperforming | None
    seeds_and_images: CrossedDifference | None
    """For new test images too, at the arm's own setting; of top-1 alone, as `images_only_one_gets` is."""
    images_only_one_gets: tuple[float, float] | None
    """Test images that only the arm, and only the baseline, gets right: means over seeds."""
    smallest_difference: float | None
    """That so many seeds find with 80 % power, from the spread seen, at the first step of Holm's correction; None where the
    test was over images too."""
    to_settle: SeedsToSettle | None
    """None where it is settled, or more seeds alone would not settle it."""


@dataclass(frozen=True)
class Findings:
    """Of one comparison; by arm label."""

    arms: Mapping[str, Finding]
    interactions: Mapping[Cell, Decision]
    """By levels of both factors; empty but for a factorial study."""
    overall_interaction: FTest | None
    narrowing: StudyNarrowing | None
    claims: Sequence[ClaimRow]
    num_tested: int
    """Arms that Holm's correction is for."""


class Decided(NamedTuple):
    """What is decided of a comparison by one metric: of each arm, by label, and of each pair of levels."""

    arms: Mapping[str, Decision]
    at_baseline: Mapping[str, Decision]
    """At the setting that was chosen for the baseline."""
    interactions: Mapping[Cell, Decision]


def findings_of(comparison: Comparison) -> Findings:
    """Everything the statistics say of a comparison."""
    baseline, decided, pairs = comparison.baseline, _decided(comparison), _pairs(comparison)
    num_tested = sum(decision.corrected_for is not None for decision in decided.arms.values())
    arms = {}
    for arm, other in pairs:
        decision_there = None if arm.setting == comparison.baseline_setting(arm) else decided.at_baseline[arm.label]
        terms = _contrast(comparison, arm, other).terms
        arms[arm.label] = _finding(comparison, arm, terms, decided.arms[arm.label], decision_there, max(num_tested, 1))
    narrowing = None
    if baseline is not None:
        compared = [baseline, *(arm for arm, other in pairs if other is baseline)]
        narrowing = study_narrowing({arm.label: comparison.values(arm) for arm in compared}, baseline=baseline.label)
    return Findings(
        arms=arms,
        interactions=decided.interactions,
        overall_interaction=overall_interaction(_values_by_cell(comparison)) if decided.interactions else None,
        narrowing=narrowing,
        claims=_claims(comparison, decided),
        num_tested=num_tested,
    )


def decisions_of(comparison: Comparison) -> dict[str, Decision]:
    """The decision on each arm alone, at its own setting, by label."""
    contrasts = {arm.label: _contrast(comparison, arm, other) for arm, other in _pairs(comparison)}
    return _decide(comparison, contrasts, num_arms=len(comparison.design.compared_arms))


def _pairs(comparison: Comparison) -> list[tuple[ArmResult, ArmResult]]:
    """Each arm that is compared with another, and that other."""
    return [(arm, other) for arm in comparison.arms if (other := comparison.compared_with(arm)) is not None]


def _decided(comparison: Comparison) -> Decided:
    at_baseline = {
        arm.label: _contrast(comparison, arm, other, at_baseline_setting=True) for arm, other in _pairs(comparison)
    }
    cells, values = _arms_by_cell(comparison), _values_by_cell(comparison)
    return Decided(
        decisions_of(comparison),
        _decide(comparison, at_baseline, at_fixed_seeds=True),
        _decide(comparison, _interaction_contrasts(comparison.baseline, cells, values)),
    )


def _claims(comparison: Comparison, decided: Decided) -> Sequence[ClaimRow]:
    """By top-1, whatever else the study is judged by: it is what the literature reports."""
    claims, baseline = claims_of(comparison.study), comparison.baseline
    if claims and not comparison.metric.is_top1:
        decided = _decided(replace(comparison, metric=TOP1))
    names = {arm.label: arm.name for arm in comparison.arms}
    return claim_rows(
        claims,
        {names[label]: decision for label, decision in decided.arms.items()},
        at_baseline_setting={names[label]: decision for label, decision in decided.at_baseline.items()},
        interactions=decided.interactions,
        baseline="" if baseline is None else baseline.name,
    )


def _finding(
    comparison: Comparison,
    arm: ArmResult,
    terms: Sequence[Term],
    decision: Decision,
    at_baseline_setting: Decision | None,
    num_tested: int,
) -> Finding:
    metric, pairs = comparison.metric, comparison.paired(arm)
    images = _image_differences(terms, _correct_images(comparison, terms)) if metric.is_top1 else None
    difference = None if decision.over_images else decision.difference
    is_open = decision.verdict in (Verdict.OPEN, Verdict.NONE)
    return Finding(
        arm=arm,
        metric=metric,
        decision=decision,
        at_baseline_setting=at_baseline_setting,
        outperforming=Outperforming.of(*(pairs if metric.larger_is_better else pairs[::-1])),
        seeds_and_images=None if images is None or len(images) < 2 else CrossedDifference.of(images),
        images_only_one_gets=(
            None if images is None else (float((images > 0).sum(1).mean()), float((images < 0).sum(1).mean()))
        ),
        smallest_difference=(
            smallest_difference(difference.sd, difference.n, alpha=ALPHA / num_tested) if difference else None
        ),
        to_settle=(
            seeds_to_settle(difference, num_arms=num_tested, margin=metric.margin)
            if difference and is_open and decision.look is None  # else the rule says how many there will be
            else None
        ),
    )


class Term(NamedTuple):
    """An arm at a setting, and the sign that it has in a difference."""

    sign: int
    arm: ArmResult
    setting: Setting | None


class Contrast(NamedTuple):
    """A difference by seed, the terms that it is the sum of, and what their runs leave out."""

    difference: PairedDifference | None
    terms: Sequence[Term]
    caveats: Caveats


def _contrast(
    comparison: Comparison, arm: ArmResult, reference: ArmResult, *, at_baseline_setting: bool = False
) -> Contrast:
    setting = comparison.baseline_setting(arm) if at_baseline_setting else arm.setting
    difference = comparison.difference(arm, at_baseline_setting=at_baseline_setting)
    if at_baseline_setting and difference is not None and comparison.design.looks:
        difference = difference.below(comparison.design.looks[0])  # there, no seeds are added
    return Contrast(
        difference,
        (Term(1, arm, setting), Term(-1, reference, reference.setting)),
        Caveats(
            diverged=arm.diverged(setting),
            baseline_diverged=reference.diverged(reference.setting),
            # At the baseline's setting nothing was chosen for the arm.
            at_edge=bool(arm.edges) and not at_baseline_setting,
            baseline_at_edge=bool(reference.edges),
            seeds_added=seeds_were_added(comparison),
        ),
    )


def _interaction_contrasts(
    baseline: ArmResult | None, arms: Mapping[Cell, ArmResult], values: Mapping[Cell, Mapping[int, float]]
) -> dict[Cell, Contrast]:
    """Of every pair of levels of two factors: four arms, whichever of which lacks runs, the sum may turn."""
    origin = next((cell for cell, arm in arms.items() if arm is baseline and cell in values), None)
    if origin is None:
        return {}
    contrasts = {}
    for (first, second), difference in interactions(values, baseline=origin).items():
        corners = [arms[cell] for cell in ((first, second), (first, origin[1]), (origin[0], second), origin)]
        terms = [Term(sign, arm, arm.setting) for sign, arm in zip((1, -1, -1, 1), corners, strict=True)]
        diverged, edge = sum(arm.diverged(arm.setting) for arm in corners), any(arm.edges for arm in corners)
        contrasts[first, second] = Contrast(difference, terms, Caveats(diverged, diverged, edge, edge))
    return contrasts


def _sequential(comparison: Comparison, contrasts: Mapping[Key, Contrast], num_arms: int) -> SequentialPlan:
    """Each contrast is at the first of the looks that its arms have reached."""
    reached: dict[Key, int] = {}
    for key, contrast in contrasts.items():
        looks = [look for term in contrast.terms if (look := comparison.reached.get(term.arm.label)) is not None]
        if looks:
            reached[key] = min(looks)
    return SequentialPlan(comparison.design.looks, max(len(contrasts), num_arms), reached)


def _decide(
    comparison: Comparison, contrasts: Mapping[Key, Contrast], *, num_arms: int = 0, at_fixed_seeds: bool = False
) -> dict[Key, Decision]:
    """`decide`, with the test images of those differences of top-1 that spread over seeds by less than one."""
    over_images, saturated, floor = {}, {}, comparison.without_learning
    one_image = 1 / comparison.num_test_images if comparison.num_test_images else NO_SPREAD
    for key, (difference, terms, _) in contrasts.items() if comparison.metric.is_top1 else ():
        if difference is None or difference.sd is None or difference.sd >= one_image:
            continue
        accuracies = [
            arm.metric("test_top1", setting)[seed] for _, arm, setting in terms for seed in difference.by_seed
        ]
        correct = _correct_images(comparison, terms, list(difference.by_seed))
        images = _image_differences(terms, correct)
        if verdict := saturation(accuracies, correct, floor and floor[0]):
            saturated[key] = verdict
        elif images is not None:
            over_images[key] = CrossedDifference.of(images).estimate
        elif not difference.sd:
            error = UNKNOWN_IMAGE / math.sqrt(difference.n)
            over_images[key] = Estimate(difference.mean, (Uncertainty(error, difference.n - 1),))
    return decide(
        {key: contrast.difference for key, contrast in contrasts.items()},
        over_images=over_images,
        saturated=saturated,
        margin=comparison.metric.margin,
        larger_is_better=comparison.metric.larger_is_better,
        caveats={key: contrast.caveats for key, contrast in contrasts.items()},
        sequential=_sequential(comparison, contrasts, num_arms)
        if comparison.design.looks and not at_fixed_seeds
        else None,
    )


def saturation(accuracies: Sequence[float], correct: NDArray[np.bool_] | None, floor: float | None) -> Verdict | None:
    """The verdict where no difference can show: all runs are at the ceiling or floor, or right on the same images. Else None.

    `correct`: [arms, seeds, images], None where not known. `floor`: the accuracy without learning. Runs above it that all get
    the same images right may have learned the same, or where classes are not equally frequent, nothing: that is open.
    """
    if min(accuracies) == 1.0:
        return Verdict.AT_CEILING
    one_image = 0.0 if correct is None else 1 / correct.shape[-1]
    if floor is not None and max(accuracies) < floor + one_image:
        return Verdict.AT_FLOOR
    return Verdict.OPEN if correct is not None and bool((correct == correct[0, 0]).all()) else None


def _correct_images(
    comparison: Comparison, terms: Sequence[Term], seeds: Sequence[int] | None = None
) -> NDArray[np.bool_] | None:
    """Which test images each term's arm gets right, [terms, seeds, images], over the seeds that all have, ascending.

    None where there is none, or one of the `seeds` asked for lacks them.
    """
    import numpy as np

    correct = [comparison.correct_bits(arm, setting) for _, arm, setting in terms]
    common = set.intersection(*map(set, correct))
    seeds = sorted(common) if seeds is None else seeds
    if not seeds or not common.issuperset(seeds):
        return None
    return np.array([[by_seed[seed] for seed in seeds] for by_seed in correct])


def _image_differences(terms: Sequence[Term], correct: NDArray[np.bool_] | None) -> NDArray[np.int8] | None:
    """The terms' sum for each image, [seeds, images]: of two arms −1, 0 or 1."""
    if correct is None:
        return None
    import numpy as np

    signs = np.array([term.sign for term in terms], np.int8)
    return np.tensordot(signs, correct.astype(np.int8), 1)


def _values_by_cell(comparison: Comparison) -> dict[Cell, dict[int, float]]:
    """The metric by seed of those of `_arms_by_cell` that have it."""
    return {cell: by_seed for cell, arm in _arms_by_cell(comparison).items() if (by_seed := comparison.values(arm))}


def _arms_by_cell(comparison: Comparison) -> dict[Cell, ArmResult]:
    """The arm at each pair of levels of a study of two factors; empty for other studies."""
    factors = comparison.design.factors
    names = tuple(next(iter(factors.values()), {}))
    if len(names) != 2:
        return {}
    first, second = names
    arms = (arm for arm in comparison.arms if arm.name in factors)
    return {(factors[arm.name][first], factors[arm.name][second]): arm for arm in arms}
