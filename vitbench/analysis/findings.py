"""What the records of a comparison establish: a verdict for every arm, what it rests on, and what would settle the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean
from typing import TYPE_CHECKING

from vitbench.analysis.bootstrap import crossed_bootstrap
from vitbench.analysis.claims import ClaimRow, claim_rows, claims_of
from vitbench.analysis.interactions import Cell, FTest, interactions, overall_interaction
from vitbench.analysis.narrowing import StudyNarrowing, study_narrowing
from vitbench.analysis.outperforming import Outperforming
from vitbench.analysis.pairing import Interval, PairedDifference, disagreement, image_differences
from vitbench.analysis.power import SeedsToSettle, seeds_to_settle, smallest_difference
from vitbench.analysis.seeds_and_images import CrossedDifference
from vitbench.analysis.verdicts import ALPHA, MARGIN, Caveats, Decision, Verdict, decide

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vitbench.analysis.arms import ArmResult
    from vitbench.analysis.comparison import Comparison


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
    seeds_and_images: Interval | None
    image_share: float | None
    """Of the variance behind `seeds_and_images`: what more test images would reduce, and more seeds would not."""
    images_only_one_gets: tuple[float, float] | None
    """Test images that only the arm, and only the baseline, gets right: means over seeds."""
    smallest_difference: float | None
    """That so many seeds find with 80 % power, from the spread seen, at the first step of Holm's correction."""
    to_settle: SeedsToSettle | None
    """None where it is settled."""


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


def findings_of(comparison: Comparison, *, margin: float = MARGIN) -> Findings:
    """Everything the statistics say of a comparison. `margin`, a fraction, is what counts as equivalent."""
    baseline = comparison.baseline
    references = {arm.label: comparison.compared_with(arm) for arm in comparison.arms}
    others = [arm for arm in comparison.arms if references[arm.label] is not None]
    decisions = _decisions(comparison, others, margin, at_baseline_setting=False)
    at_baseline = _decisions(comparison, others, margin, at_baseline_setting=True)
    by_image = _image_differences(comparison, others)
    intervals = dict(zip(by_image, crossed_bootstrap(list(by_image.values())), strict=True))
    shares = {label: CrossedDifference.of(one).image_share for label, one in by_image.items()}
    tested = sum(decision.adjusted_p is not None for decision in decisions.values())
    found = {}
    for arm in others:
        decision = decisions[arm.label]
        difference = decision.difference
        settled = decision.verdict not in (Verdict.INCONCLUSIVE, Verdict.NONE)
        reference = references[arm.label]
        assert reference is not None
        found[arm.label] = Finding(
            arm=arm,
            decision=decision,
            at_baseline_setting=None if arm.setting == reference.setting else at_baseline[arm.label],
            outperforming=Outperforming.of(*comparison.paired(arm)),
            seeds_and_images=intervals.get(arm.label),
            image_share=shares.get(arm.label),
            images_only_one_gets=_images_only_one_gets(comparison, arm),
            smallest_difference=(
                smallest_difference(difference.sd, difference.n, alpha=ALPHA / max(tested, 1))
                if difference is not None and difference.sd
                else None
            ),
            to_settle=(
                None
                if settled or difference is None
                else seeds_to_settle(difference, num_arms=max(tested, 1), margin=margin)
            ),
        )
    cells, origin = _factorial(comparison)
    crossed: dict[Cell, Decision] = {}
    if origin is not None:
        differences = interactions(cells, baseline=origin)
        caveats = _caveats_of_interactions(comparison, differences, origin)
        crossed = decide(differences, margin=margin, caveats=caveats)
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


def _decisions(
    comparison: Comparison, arms: Sequence[ArmResult], margin: float, *, at_baseline_setting: bool
) -> dict[str, Decision]:
    pairs = {arm.label: comparison.paired(arm, at_baseline_setting=at_baseline_setting) for arm in arms}
    return decide(
        {label: PairedDifference.of(*pair) for label, pair in pairs.items()},
        margin=margin,
        caveats={arm.label: _caveats(comparison, arm, at_baseline_setting=at_baseline_setting) for arm in arms},
    )


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


def _caveats_of_interactions(comparison: Comparison, places: Iterable[Cell], origin: Cell) -> dict[Cell, Caveats]:
    """An interaction is the sum of four arms' accuracies, two with a minus: whichever of them lacks runs, it may turn."""
    names = list(next(iter(comparison.factors.values())))
    arms = {
        tuple(comparison.factors[arm.name][name] for name in names): arm
        for arm in comparison.arms
        if arm.name in comparison.factors
    }
    found = {}
    for a, b in places:
        corners = [arms[cell] for cell in ((a, b), (a, origin[1]), (origin[0], b), origin)]
        diverged, edge = sum(arm.diverged(arm.setting) for arm in corners), any(arm.edges for arm in corners)
        found[a, b] = Caveats(diverged, diverged, at_edge=edge, baseline_at_edge=edge)
    return found


def _both_bits(comparison: Comparison, arm: ArmResult) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Which test images the arm and what it is compared with get right, for each seed that has both."""
    reference = comparison.compared_with(arm)
    if reference is None:
        return []
    mine, theirs = comparison.correct_bits(arm), comparison.correct_bits(reference)
    return [(mine[seed], theirs[seed]) for seed in sorted(mine.keys() & theirs.keys())]


def _image_differences(comparison: Comparison, arms: Sequence[ArmResult]) -> dict[str, NDArray[np.int8]]:
    """[seeds, images] of each arm that has the images of two seeds or more."""
    import numpy as np

    differences = {}
    for arm in arms:
        bits = _both_bits(comparison, arm)
        if len(bits) > 1:
            mine, theirs = (np.stack(rows) for rows in zip(*bits, strict=True))
            differences[arm.label] = image_differences(mine, theirs)
    return differences


def _images_only_one_gets(comparison: Comparison, arm: ArmResult) -> tuple[float, float] | None:
    found = [disagreement(*bits) for bits in _both_bits(comparison, arm)]
    if not found:
        return None
    return fmean(one.arm_only for one in found), fmean(one.baseline_only for one in found)


def _factorial(comparison: Comparison) -> tuple[dict[Cell, dict[int, float]], Cell | None]:
    """(accuracies by seed of every cell of a study of two factors, the baseline's cell)."""
    factors = comparison.factors
    names = list(next(iter(factors.values()), {}))
    if len(names) != 2 or comparison.baseline is None:
        return {}, None
    first, second = names

    def cell(arm: ArmResult) -> Cell:
        return factors[arm.name][first], factors[arm.name][second]

    placed = [arm for arm in comparison.arms if arm.name in factors]
    cells = {cell(arm): arm.metric("test_top1", arm.setting) for arm in placed}
    filled = {place: values for place, values in cells.items() if values}
    origin = cell(comparison.baseline) if comparison.baseline.name in factors else None
    return filled, origin if origin in filled else None


def _narrowing(comparison: Comparison, baseline: ArmResult) -> StudyNarrowing | None:
    with_baseline = [baseline, *(arm for arm in comparison.arms if comparison.compared_with(arm) is baseline)]
    accuracies = {arm.label: arm.metric("test_top1", arm.setting) for arm in with_baseline}
    return study_narrowing(accuracies, baseline=baseline.label)
