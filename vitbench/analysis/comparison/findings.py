"""What the records of a comparison establish: a verdict for every arm, what it rests on, and what would settle the rest."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from vitbench.analysis.comparison.arm import ArmResult
from vitbench.analysis.comparison.claims import ClaimRow, claim_rows, claims_of
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.statistics.crossed import CrossedDifference
from vitbench.analysis.statistics.interactions import Cell, FTest, interactions, overall_interaction
from vitbench.analysis.statistics.narrowing import StudyNarrowing, study_narrowing
from vitbench.analysis.statistics.outperforming import Outperforming
from vitbench.analysis.statistics.pairing import (
    NO_SPREAD,
    Estimate,
    PairedDifference,
    Uncertainty,
    disagreement,
    image_differences,
)
from vitbench.analysis.statistics.power import SeedsToSettle, seeds_to_settle, smallest_difference
from vitbench.analysis.statistics.verdicts import ALPHA, MARGIN, Caveats, Decision, Verdict, decide
from vitbench.studies.settings import Setting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Key = TypeVar("Key", bound=Hashable)
UNKNOWN_IMAGE = 0.01
"""What one test image is taken for where records do not say which were right: too much, of 100 test images or more."""


@dataclass(frozen=True)
class Finding:
    """One arm against the baseline, or what is in its place, each at its own setting.

    Everything but `decision` is None where it cannot be told.
    """

    arm: ArmResult
    decision: Decision
    at_baseline_setting: Decision | None
    """The same at the setting that was chosen for the baseline, over seeds without a say in that where they are enough.

    None where that is the arm's own setting too.
    """
    outperforming: Outperforming | None
    seeds_and_images: CrossedDifference | None
    """For new test images too, at the arm's own setting."""
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
    margin: float

    @property
    def num_tested(self) -> int:
        """Arms that Holm's correction is for."""
        return sum(finding.decision.adjusted_p is not None for finding in self.arms.values())


def findings_of(comparison: Comparison, *, margin: float = MARGIN) -> Findings:
    """Everything the statistics say of a comparison. `margin`, a fraction, is what counts as equivalent."""
    baseline = comparison.baseline
    references = {arm.label: comparison.compared_with(arm) for arm in comparison.arms}
    others = [arm for arm in comparison.arms if references[arm.label] is not None]
    decisions = _decisions(comparison, others, margin, at_baseline_setting=False)
    at_baseline = _decisions(comparison, others, margin, at_baseline_setting=True)
    tested = sum(decision.adjusted_p is not None for decision in decisions.values())
    found = {}
    for arm in others:
        decision = decisions[arm.label]
        difference = decision.difference
        reference = references[arm.label]
        assert reference is not None
        found[arm.label] = Finding(
            arm=arm,
            decision=decision,
            at_baseline_setting=None if arm.setting == reference.setting else at_baseline[arm.label],
            outperforming=Outperforming.of(*comparison.paired(arm)),
            seeds_and_images=_crossed(comparison, arm),
            images_only_one_gets=_images_only_one_gets(comparison, arm),
            smallest_difference=(
                smallest_difference(difference.sd, difference.n, alpha=ALPHA / max(tested, 1))
                if difference is not None and difference.sd and not decision.over_images
                else None
            ),
            to_settle=(
                seeds_to_settle(difference, num_arms=max(tested, 1), margin=margin)
                if difference is not None
                and decision.verdict in (Verdict.OPEN, Verdict.NONE)
                and not decision.over_images
                else None
            ),
        )
    cells, origin = _factorial(comparison)
    crossed: dict[Cell, Decision] = {}
    if origin is not None:
        crossed = _decisions_on_interactions(comparison, cells, origin, margin)
    by_name = {arm.name: decisions[arm.label] for arm in others}
    on_subjects: dict[str | Cell, Decision] = dict(chain(by_name.items(), crossed.items()))
    return Findings(
        arms=found,
        interactions=crossed,
        overall_interaction=overall_interaction(cells) if crossed else None,
        narrowing=None if baseline is None else _narrowing(comparison, baseline),
        claims=claim_rows(
            claims_of(comparison.study),
            on_subjects,
            at_baseline_rate={arm.name: at_baseline[arm.label] for arm in others},
            baseline="" if baseline is None else baseline.name,
        ),
        margin=margin,
    )


class Term(NamedTuple):
    """An arm at a setting, and the sign that its accuracy has in a difference."""

    sign: int
    arm: ArmResult
    setting: Setting | None


def _decisions(
    comparison: Comparison, arms: Sequence[ArmResult], margin: float, *, at_baseline_setting: bool
) -> dict[str, Decision]:
    differences, terms = {}, {}
    for arm in arms:
        reference = comparison.compared_with(arm)
        assert reference is not None
        differences[arm.label] = comparison.difference(arm, at_baseline_setting=at_baseline_setting)
        setting = reference.setting if at_baseline_setting else arm.setting
        terms[arm.label] = [Term(1, arm, setting), Term(-1, reference, reference.setting)]
    caveats = {arm.label: _caveats(comparison, arm, at_baseline_setting=at_baseline_setting) for arm in arms}
    return _decide(comparison, differences, terms, margin=margin, caveats=caveats)


def _decisions_on_interactions(
    comparison: Comparison, cells: Mapping[Cell, Mapping[int, float]], origin: Cell, margin: float
) -> dict[Cell, Decision]:
    differences, arms = interactions(cells, baseline=origin), _by_cell(comparison)
    terms = {}
    for a, b in differences:
        corners = [arms[cell] for cell in ((a, b), (a, origin[1]), (origin[0], b), origin)]
        terms[a, b] = [Term(sign, arm, arm.setting) for sign, arm in zip((1, -1, -1, 1), corners, strict=True)]
    caveats = {cell: _caveats_of_interaction([term.arm for term in of_cell]) for cell, of_cell in terms.items()}
    return _decide(comparison, differences, terms, margin=margin, caveats=caveats)


def _decide(
    comparison: Comparison,
    differences: Mapping[Key, PairedDifference | None],
    terms: Mapping[Key, Sequence[Term]],
    *,
    margin: float,
    caveats: Mapping[Key, Caveats],
) -> dict[Key, Decision]:
    """`decide`, with the test images of those differences that spread over seeds by less than one. `terms`: what each is
    made of."""
    over_images, saturated = {}, {}
    one_image = 1 / comparison.num_test_images if comparison.num_test_images else NO_SPREAD
    for key, difference in differences.items():
        if difference is None or difference.sd is None or difference.sd >= one_image:
            continue
        seeds = list(difference.by_seed)
        accuracies = [arm.metric("test_top1", setting)[seed] for _, arm, setting in terms[key] for seed in seeds]
        bits = [rows for _, arm, setting in terms[key] if (rows := _bits(comparison, arm, setting, seeds)) is not None]
        all_known = len(bits) == len(terms[key])
        if verdict := saturation(accuracies, bits if all_known else [], comparison.chance):
            saturated[key] = verdict
        elif all_known:
            signed = [term.sign * rows.astype("int8") for term, rows in zip(terms[key], bits, strict=True)]
            over_images[key] = CrossedDifference.of(sum(signed[1:], start=signed[0])).estimate
        elif not difference.sd:
            error = UNKNOWN_IMAGE / math.sqrt(difference.n)
            over_images[key] = Estimate(difference.mean, (Uncertainty(error, difference.n - 1),))
    return decide(differences, over_images=over_images, saturated=saturated, margin=margin, caveats=caveats)


def _bits(
    comparison: Comparison, arm: ArmResult, setting: Setting | None, seeds: Sequence[int]
) -> NDArray[np.bool_] | None:
    """Which test images an arm gets right at a setting, [seeds, images]; None unless there are two seeds and all have bits."""
    import numpy as np

    correct = comparison.correct_bits(arm, setting)
    rows = [correct[seed] for seed in seeds if seed in correct]
    return np.stack(rows) if len(rows) == len(seeds) > 1 else None


def saturation(accuracies: Sequence[float], bits: Sequence[NDArray[np.bool_]], chance: float | None) -> Verdict | None:
    """What is to be said where nothing can show in the runs that a difference is made of; None where something can.

    `bits`: [seeds, images] of each arm, empty where not known. Runs that all get the same images right may have learned the
    same, or may all answer the most frequent class: that is open.
    """
    if min(accuracies) == 1.0:
        return Verdict.AT_CEILING
    one_image = 1 / bits[0].shape[1] if bits else 0.0
    if chance is not None and max(accuracies) < chance + one_image:
        return Verdict.AT_FLOOR
    return Verdict.OPEN if bits and all((rows == bits[0][0]).all() for rows in bits) else None


def _caveats(comparison: Comparison, arm: ArmResult, *, at_baseline_setting: bool) -> Caveats:
    reference = comparison.compared_with(arm)
    assert reference is not None
    return Caveats(
        diverged=arm.diverged(reference.setting if at_baseline_setting else arm.setting),
        baseline_diverged=reference.diverged(reference.setting),
        # At the baseline's setting nothing was chosen for the arm.
        at_edge=bool(arm.edges) and not at_baseline_setting,
        baseline_at_edge=bool(reference.edges),
    )


def _caveats_of_interaction(corners: Sequence[ArmResult]) -> Caveats:
    """An interaction is the sum of four arms' accuracies, two with a minus: whichever of them lacks runs, it may turn."""
    diverged, edge = sum(arm.diverged(arm.setting) for arm in corners), any(arm.edges for arm in corners)
    return Caveats(diverged, diverged, at_edge=edge, baseline_at_edge=edge)


def _by_cell(comparison: Comparison) -> dict[Cell, ArmResult]:
    """The arm at each pair of levels of a study of two factors."""
    first, second = next(iter(comparison.design.factors.values()))
    return {
        (comparison.design.factors[arm.name][first], comparison.design.factors[arm.name][second]): arm
        for arm in comparison.arms
        if arm.name in comparison.design.factors
    }


def _crossed(comparison: Comparison, arm: ArmResult) -> CrossedDifference | None:
    """Over the seeds at which the arm and what it is compared with have their images; None for fewer than two."""
    import numpy as np

    pairs = _both_bits(comparison, arm)
    if len(pairs) < 2:
        return None
    arm_bits, reference_bits = (np.stack(rows) for rows in zip(*pairs, strict=True))
    return CrossedDifference.of(image_differences(arm_bits, reference_bits))


def _both_bits(comparison: Comparison, arm: ArmResult) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Which test images the arm and what it is compared with get right, for each seed that has both."""
    reference = comparison.compared_with(arm)
    if reference is None:
        return []
    mine, theirs = comparison.correct_bits(arm), comparison.correct_bits(reference)
    return [(mine[seed], theirs[seed]) for seed in sorted(mine.keys() & theirs.keys())]


def _images_only_one_gets(comparison: Comparison, arm: ArmResult) -> tuple[float, float] | None:
    found = [disagreement(*bits) for bits in _both_bits(comparison, arm)]
    if not found:
        return None
    return fmean(one.arm_only for one in found), fmean(one.baseline_only for one in found)


def _factorial(comparison: Comparison) -> tuple[dict[Cell, dict[int, float]], Cell | None]:
    """(accuracies by seed of every cell of a study of two factors, the baseline's cell)."""
    factors, baseline = comparison.design.factors, comparison.baseline
    if len(next(iter(factors.values()), {})) != 2 or baseline is None:
        return {}, None
    arms = _by_cell(comparison)
    filled = {cell: values for cell, arm in arms.items() if (values := arm.metric("test_top1", arm.setting))}
    origin = next((cell for cell, arm in arms.items() if arm is baseline), None)
    return filled, origin if origin in filled else None


def _narrowing(comparison: Comparison, baseline: ArmResult) -> StudyNarrowing | None:
    with_baseline = [baseline, *(arm for arm in comparison.arms if comparison.compared_with(arm) is baseline)]
    accuracies = {arm.label: arm.metric("test_top1", arm.setting) for arm in with_baseline}
    return study_narrowing(accuracies, baseline=baseline.label)
