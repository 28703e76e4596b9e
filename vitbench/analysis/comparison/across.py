"""Do verdicts hold on other data? Comparisons of equal recipes side by side, and whether they agree."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from vitbench.analysis.comparison.assessment import Assessment
from vitbench.analysis.comparison.changes import changes_text, of_recipe_and_data
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.comparison.findings import Finding
from vitbench.analysis.comparison.together import Together
from vitbench.analysis.statistics.verdicts import Verdict
from vitbench.records import Faults, RecordStore
from vitbench.studies.settings import without


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
    def together(self) -> Together:
        return Together.of(*(finding.decision.verdict for finding in self.findings.values()))


def arms_across(assessments: Iterable[Assessment]) -> list[ArmAcross]:
    """Every arm that comparisons of equal circumstances judge on two data sets or more, in the order of the studies.

    Where there are too few seeds for a verdict nothing is judged. At the ceiling or floor the verdict is of the task, not of
    the arm: that data set is left out of the row.
    """
    arms = []
    for by_data in _side_by_side(assessments):
        first = next(iter(by_data.values())).comparison
        for label in dict.fromkeys(label for assessment in by_data.values() for label in assessment.findings.arms):
            # Of one name, but with another recipe, it is another arm.
            by_recipe: dict[str, dict[str, Finding]] = defaultdict(dict)
            for data, assessment in by_data.items():
                finding = assessment.findings.arms.get(label)
                if finding is not None and is_of_the_arm(finding.decision.verdict):
                    by_recipe[changes_text(of_recipe_and_data(finding.arm.changes))][data] = finding
            for findings in (findings for findings in by_recipe.values() if len(findings) > 1):
                slugs = {data: by_data[data].comparison.slug for data in findings}
                arms.append(ArmAcross(first.study, f"{first.budget}, {_size(first)}", label, findings, slugs))
    return arms


def is_of_the_arm(verdict: Verdict) -> bool:
    """Whether it can be held against another: not with too few seeds, nor where the task is too easy or too hard."""
    return verdict.is_settled or verdict is Verdict.OPEN


def across_studies(assessments: Iterable[Assessment], store: RecordStore, faults: Faults) -> list[ArmAcross]:
    """`arms_across` of each study; one whose records it fails for is left out and told to `faults`."""
    by_study: dict[str, list[Assessment]] = defaultdict(list)
    for assessment in assessments:
        by_study[assessment.comparison.study].append(assessment)
    arms: list[ArmAcross] = []
    for study in sorted(by_study):
        with faults.leaving_out(store.path(study)):
            arms += arms_across(by_study[study])
    return arms


def agreements(arms: Sequence[ArmAcross]) -> Counter[Together]:
    """How many arms are which; the same runs against the same count once, whichever studies have them."""
    return Counter(arm.together for arm in {_identity(arm): arm for arm in arms}.values())


def _identity(arm: ArmAcross) -> tuple[Hashable, ...]:
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


def _side_by_side(assessments: Iterable[Assessment]) -> list[dict[str, Assessment]]:
    """Comparisons that differ in their data alone, by data set; those that stand alone are left out.

    A budget may have another patch size, other crops and epochs on other data, so these may differ, unless a data set has
    several of them: then those that are equal go together. Where several are left, whose images were decoded differently,
    the last recorded counts.
    """
    groups: dict[tuple[Hashable, ...], list[Assessment]] = defaultdict(list)
    with_baseline = (assessment for assessment in assessments if assessment.comparison.baseline is not None)
    for assessment in sorted(with_baseline, key=lambda each: max(run.finished for run in each.comparison.records)):
        groups[_circumstances(assessment.comparison)].append(assessment)
    rows = []
    for group in groups.values():
        several = len(group) > len({assessment.comparison.data.dataset for assessment in group})
        parts: dict[tuple[Hashable, ...], dict[str, Assessment]] = defaultdict(dict)
        for assessment in group:
            comparison, data = assessment.comparison, assessment.comparison.data
            by_budget = comparison.variant, data.crop_padding, data.flip, comparison.epochs
            parts[by_budget if several else ()][data.dataset] = assessment
        rows += [dict(sorted(by_data.items())) for by_data in parts.values() if len(by_data) > 1]
    return sorted(rows, key=lambda by_data: next(iter(by_data.values())).comparison.study)


def _circumstances(comparison: Comparison) -> tuple[Hashable, ...]:
    data, design = comparison.data, comparison.design
    images = ("mixup", "cutmix", "train_images", "validation_fraction")
    recipe = without(comparison.train, ("learning_rate", "epochs", *design.tuned))
    environment = comparison.environment.model_copy(update={"data_sha256": ""}).comparison_key
    shared = comparison.study, comparison.budget, _size(comparison), comparison.harness_version, environment
    tuning = comparison.metric.name, design.match, tuple(design.tuned), design.tuning_seeds
    return *shared, *tuning, recipe, *(getattr(data, name) for name in images if name not in design.tuned)


def _size(comparison: Comparison) -> str:
    """`Micro` of `Micro/4`."""
    return comparison.variant.partition("/")[0]
