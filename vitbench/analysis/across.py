"""Does what a study found on one data set hold on another? Equal recipes side by side, a column for each data set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import itemgetter
from typing import Any

from vitbench.analysis.comparison import Comparison
from vitbench.analysis.findings import Finding
from vitbench.analysis.markup import ABSENT
from vitbench.analysis.verdict_cells import Table, interval_text
from vitbench.analysis.verdicts import Verdict
from vitbench.config import TrainConfig

RULE = (
    "Difference from the study's baseline in points, with its 95 % interval over seeds, and the verdict on that data set "
    "alone. Alike: the same verdict on every data set, be it better, worse or equivalent. Opposed: better on one and worse "
    "on another. Open: all else; an inconclusive verdict contradicts nothing. Side by side stand equal budgets, sizes and "
    "recipes, on equal machines; crops, flips, patch size and epochs are those that the budget has for each data set. An arm "
    "that one data set alone has is left out."
)


class Agreement(StrEnum):
    ALIKE = "alike"
    OPPOSED = "opposed"
    OPEN = "open"


@dataclass(frozen=True)
class ArmAcross:
    """An arm of a study on several data sets. `findings` by data set, in the order of their names."""

    study: str
    arm: str
    findings: dict[str, Finding]

    @property
    def agreement(self) -> Agreement:
        found = {finding.decision.verdict for finding in self.findings.values()}
        if found >= {Verdict.BETTER, Verdict.WORSE}:
            return Agreement.OPPOSED
        settled = found <= {Verdict.BETTER, Verdict.WORSE, Verdict.EQUIVALENT}
        return Agreement.ALIKE if settled and len(found) == 1 else Agreement.OPEN


def arms_across(comparisons: Iterable[Comparison]) -> list[ArmAcross]:
    """Every arm that comparisons of equal circumstances judge on two data sets or more, in the order of the studies."""
    found = []
    for alike in _alike(comparisons):
        arms = dict.fromkeys(label for one in alike.values() for label in one.findings.arms)
        for arm in arms:
            findings = {data: one.findings.arms[arm] for data, one in alike.items() if arm in one.findings.arms}
            if len(findings) > 1:
                found.append(ArmAcross(next(iter(alike.values())).study, arm, findings))
    return found


def across_table(arms: Sequence[ArmAcross]) -> Table:
    """`study | arm | cifar10 | torch/fashion_mnist | together`; empty where no arm is on two data sets."""
    names = sorted({data for arm in arms for data in arm.findings})
    return [
        {
            "study": arm.study,
            "arm": arm.arm,
            **{data: _cell(arm.findings.get(data)) for data in names},
            "together": str(arm.agreement),
        }
        for arm in arms
    ]


def summary(arms: Sequence[ArmAcross]) -> str:
    """`Verdicts of 34 arms on two data sets or more: alike for 9, opposed for none, open for 25.`"""
    counts = {agreement: sum(arm.agreement is agreement for arm in arms) for agreement in Agreement}
    alike, opposed, still_open = (counts[one] or "none" for one in Agreement)
    return (
        f"Verdicts of {len(arms)} {'arm' if len(arms) == 1 else 'arms'} on two data sets or more: alike for "
        f"{alike}, opposed for {opposed}, open for {still_open}."
    )


def raw(arms: Sequence[ArmAcross]) -> list[dict[str, Any]]:
    """A row for each arm and data set, at full precision."""
    return [
        {
            "study": arm.study,
            "arm": arm.arm,
            "dataset": data,
            "difference_points": None if difference is None else 100 * difference.mean,
            "difference_ci95_low_points": None if interval is None else 100 * interval.low,
            "difference_ci95_high_points": None if interval is None else 100 * interval.high,
            "seeds": 0 if difference is None else difference.n,
            "verdict": finding.decision.verdict.value,
            "together": arm.agreement.value,
        }
        for arm in arms
        for data, finding in arm.findings.items()
        for difference in [finding.decision.difference]
        for interval in [None if difference is None else difference.interval()]
    ]


def _cell(finding: Finding | None) -> str:
    if finding is None:
        return ABSENT
    decision = finding.decision
    return f"{interval_text(decision.difference)}: {', '.join((decision.words, *decision.caveats.words_of_edges))}"


def _alike(comparisons: Iterable[Comparison]) -> list[dict[str, Comparison]]:
    """Comparisons that differ in their data alone, by data set; those that stand alone are left out.

    A budget may have other epochs on other data, so these may differ, unless a data set was trained on for several numbers of
    them. Of several comparisons even then, the last counts: their decoded images differ.
    """
    groups: dict[tuple[Any, ...], list[Comparison]] = defaultdict(list)
    for one in comparisons:
        if one.baseline is not None:
            groups[_circumstances(one)].append(one)
    found = []
    for group in groups.values():
        lengths: dict[float | None, dict[str, Comparison]] = defaultdict(dict)
        several = len({one.data.dataset for one in group}) < len({(one.data.dataset, one.epochs) for one in group})
        for one in group:
            lengths[one.epochs if several else None][one.data.dataset] = one
        found += [dict(sorted(ones.items())) for ones in lengths.values() if len(ones) > 1]
    return found


def _circumstances(one: Comparison) -> tuple[Any, ...]:
    """All that must be equal but the length of training. Crops and flips are the data set's own; so is the patch size."""
    recipe = {
        name: getattr(one.train, name) for name in TrainConfig.model_fields if name not in ("learning_rate", "epochs")
    }
    augmentation = one.data.mixup, one.data.cutmix, one.data.train_images
    environment = one.environment.model_copy(update={"data_sha256": ""}).comparison_key
    recipe |= dict.fromkeys(one.tuned)
    size = one.variant.partition("/")[0]
    shared = (one.study, one.budget, size, one.harness_version, environment, augmentation)
    return *shared, one.match, one.tuned, one.tuning_seeds, tuple(sorted(recipe.items(), key=itemgetter(0)))
