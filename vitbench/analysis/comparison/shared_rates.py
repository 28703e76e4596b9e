"""What would a study say that gave all arms one learning rate? The verdicts at each (Dosovitskiy et al. 2021, Figure 9)."""

from __future__ import annotations

from collections.abc import Mapping

from vitbench.analysis.comparison.arm import ArmResult
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.comparison.findings import Contrast, Term, decide_contrasts
from vitbench.analysis.statistics.pairing import PairedDifference
from vitbench.analysis.statistics.verdicts import FEWEST_SEEDS, Caveats, Decision, Verdict

SharedRates = Mapping[float, Mapping[str, Decision]]
"""Learning rate of the grid, ascending, to the decision on each arm, by label, with both arms at that rate."""
FEWEST_RATES = 2
"""The baseline's rate alone has a column of its own."""


def at_shared_rates(comparison: Comparison) -> SharedRates:
    """The decisions at each learning rate at which every arm has the seeds for a verdict; those of one rate tested together.

    Empty where there are fewer than two such rates, where other fields are tuned too, and where an arm takes the choice of
    another. Nothing was chosen at a shared rate, so all seeds count; where seeds are added until arms are settled, those
    before the first look.
    """
    pairs = [(arm, other) for arm in comparison.arms if (other := comparison.compared_with(arm)) is not None]
    if not pairs or comparison.design.tuned or any(arm.chosen_with is not None for arm in comparison.arms):
        return {}
    rates = sorted({setting[0] for arm in comparison.arms for setting in comparison.grid_settings(arm)})
    decided = {}
    for rate in rates:
        contrasts = {arm.label: _contrast(comparison, arm, other, rate) for arm, other in pairs}
        if all(each.difference and each.difference.n >= FEWEST_SEEDS for each in contrasts.values()):
            decided[rate] = decide_contrasts(comparison, contrasts, at_fixed_seeds=True)
    return decided if len(decided) >= FEWEST_RATES else {}


def misleading_rates(shared: SharedRates, label: str, own: Decision) -> list[float]:
    """Those at which an arm's verdict is settled, and another than its settled one at each arm's own rate."""
    if not own.verdict.is_settled:
        return []
    verdicts: dict[float, Verdict] = {rate: decisions[label].verdict for rate, decisions in shared.items()}
    return [rate for rate, verdict in verdicts.items() if verdict.is_settled and verdict is not own.verdict]


def _contrast(comparison: Comparison, arm: ArmResult, reference: ArmResult, rate: float) -> Contrast:
    setting, at_reference = (comparison.design.to_arm(each.name, (rate,)) for each in (arm, reference))
    key, looks = comparison.metric.key, comparison.design.looks
    difference = PairedDifference.of(arm.metric(key, setting), reference.metric(key, at_reference))
    if difference is not None and looks:
        difference = difference.below(looks[0])
    terms = Term(1, arm, setting), Term(-1, reference, at_reference)
    return Contrast(difference, terms, Caveats(arm.diverged(setting), reference.diverged(at_reference)))
