"""Does what a study found on one data set hold on another? Equal recipes side by side, a column for each data set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import itemgetter
from typing import Any

from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.comparison.findings import Finding
from vitbench.analysis.statistics.verdicts import Verdict
from vitbench.analysis.tables.verdicts import Table
from vitbench.analysis.writing.words import ABSENT
from vitbench.config import TrainConfig

RULE = (
    "Difference from the study's baseline in points, with the interval that decided the verdict on that data set alone. "
    "Alike: the same verdict on every data set, be it better, worse or equivalent. Opposed: better on one and worse "
    "on another. Open: all else; a verdict that is open contradicts nothing. Side by side stand equal budgets, sizes and "
    "recipes, on equal machines; crops, flips, patch size and epochs are those that the budget has for each data set. An arm "
    "that has a verdict on one data set alone is left out."
)


class Agreement(StrEnum):
    ALIKE = "alike"
    OPPOSED = "opposed"
    OPEN = "open"


@dataclass(frozen=True)
class ArmAcross:
    """An arm of a study on several data sets. `findings`, and `slugs` of comparisons, by data set in the order of names."""

    study: str
    budget: str
    """And the size of its models: `standard, Micro`."""
    arm: str
    findings: dict[str, Finding]
    slugs: dict[str, str]

    @property
    def agreement(self) -> Agreement:
        verdicts = {finding.decision.verdict for finding in self.findings.values()}
        if verdicts >= {Verdict.BETTER, Verdict.WORSE}:
            return Agreement.OPPOSED
        return Agreement.ALIKE if len(verdicts) == 1 and verdicts.pop().is_settled else Agreement.OPEN


def arms_across(comparisons: Iterable[Comparison]) -> list[ArmAcross]:
    """Every arm that comparisons of equal circumstances judge on two data sets or more, in the order of the studies.

    Where there are too few seeds for a verdict nothing is judged.
    """
    found = []
    for alike in _alike(comparisons):
        first = next(iter(alike.values()))
        for arm in dict.fromkeys(label for one in alike.values() for label in one.findings.arms):
            findings = {
                data: one.findings.arms[arm]
                for data, one in alike.items()
                if arm in one.findings.arms and one.findings.arms[arm].decision.verdict is not Verdict.NONE
            }
            if len(findings) > 1:
                slugs = {data: alike[data].slug for data in findings}
                found.append(ArmAcross(first.study, f"{first.budget}, {_size(first)}", arm, findings, slugs))
    return found


def across_table(arms: Sequence[ArmAcross]) -> Table:
    """`study | budget | arm | cifar10 | torch/fashion_mnist | together`; empty where no arm is on two data sets."""
    names = sorted({data for arm in arms for data in arm.findings})
    return [
        {
            "study": arm.study,
            "budget": arm.budget,
            "arm": arm.arm,
            **{data: _cell(arm.findings.get(data)) for data in names},
            "together": str(arm.agreement),
        }
        for arm in arms
    ]


def summary(arms: Sequence[ArmAcross]) -> str:
    """`Verdicts of 34 arms on two data sets or more: alike for 9, opposed for none, open for 25.`

    The same runs against the same count once, whichever studies have them.
    """
    distinct = {_what_is_compared(arm): arm for arm in arms}.values()
    counts = {agreement: sum(arm.agreement is agreement for arm in distinct) for agreement in Agreement}
    alike, opposed, still_open = (counts[one] or "none" for one in Agreement)
    number = f"{len(distinct)} {'arm' if len(distinct) == 1 else 'arms'}"
    return f"Verdicts of {number} on two data sets or more: alike for {alike}, opposed for {opposed}, open for {still_open}."


def _what_is_compared(arm: ArmAcross) -> tuple[Any, ...]:
    """Its runs, and how far they are from what they are compared with."""
    return tuple(
        (
            data,
            tuple(sorted(run.identity for run in finding.arm.completed(finding.arm.setting).values())),
            difference.mean,
        )
        for data, finding in arm.findings.items()
        if (difference := finding.decision.difference) is not None
    )


def raw(arms: Sequence[ArmAcross]) -> list[dict[str, Any]]:
    """A row for each arm and data set, at full precision."""
    return [
        {
            "study": arm.study,
            "budget": arm.budget,
            "arm": arm.arm,
            "dataset": data,
            "comparison": arm.slugs[data],
            "difference_points": None if difference is None else 100 * difference.mean,
            "interval_low_points": None if decision.interval is None else 100 * decision.interval.low,
            "interval_high_points": None if decision.interval is None else 100 * decision.interval.high,
            "interval_confidence": decision.confidence,
            "difference_ci95_low_points": None if interval is None else 100 * interval.low,
            "difference_ci95_high_points": None if interval is None else 100 * interval.high,
            "seeds": 0 if difference is None else difference.n,
            "verdict": decision.verdict.value,
            "together": arm.agreement.value,
        }
        for arm in arms
        for data, finding in arm.findings.items()
        for decision in [finding.decision]
        for difference in [decision.difference]
        for interval in [None if difference is None else difference.interval()]
    ]


def _cell(finding: Finding | None) -> str:
    if finding is None:
        return ABSENT
    decision = finding.decision
    return f"{decision.difference_text}: {', '.join((decision.words, *decision.caveats.words_of_edges))}"


def _alike(comparisons: Iterable[Comparison]) -> list[dict[str, Comparison]]:
    """Comparisons that differ in their data alone, by data set; those that stand alone are left out.

    A budget may have another patch size, other crops and epochs on other data, so these may differ, unless a data set has
    several of them: then those that are equal go together. Of several even then, whose images were decoded otherwise, the
    last recorded counts.
    """
    groups: dict[tuple[Any, ...], list[Comparison]] = defaultdict(list)
    for one in sorted((one for one in comparisons if one.baseline is not None), key=_last_recorded):
        groups[_circumstances(one)].append(one)
    found = []
    for group in groups.values():
        several = len(group) > len({one.data.dataset for one in group})
        parts: dict[tuple[Any, ...], dict[str, Comparison]] = defaultdict(dict)
        for one in group:
            parts[_of_its_data(one) if several else ()][one.data.dataset] = one
        found += [dict(sorted(ones.items())) for ones in parts.values() if len(ones) > 1]
    return sorted(found, key=lambda alike: next(iter(alike.values())).study)


def _circumstances(one: Comparison) -> tuple[Any, ...]:
    """All that must be equal."""
    recipe = {
        name: getattr(one.train, name) for name in TrainConfig.model_fields if name not in ("learning_rate", "epochs")
    }
    recipe |= {name: getattr(one.data, name) for name in ("mixup", "cutmix", "train_images", "validation_fraction")}
    recipe |= dict.fromkeys(one.tuned)
    environment = one.environment.model_copy(update={"data_sha256": ""}).comparison_key
    shared = (one.study, one.budget, _size(one), one.harness_version, environment)
    return *shared, one.match, one.tuned, one.tuning_seeds, tuple(sorted(recipe.items(), key=itemgetter(0)))


def _of_its_data(one: Comparison) -> tuple[Any, ...]:
    """What may differ from one data set to another."""
    return one.variant, one.data.crop_padding, one.data.flip, one.epochs


def _size(one: Comparison) -> str:
    """`Micro` of `Micro/4`."""
    return one.variant.partition("/")[0]


def _last_recorded(one: Comparison) -> str:
    return max(record.finished for record in one.records)
