"""Do verdicts hold elsewhere? An arm in several places: on other data, at another size, for longer, on more images."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from vitbench.analysis.comparison.assessment import Assessment
from vitbench.analysis.comparison.changes import changes_text, of_recipe_and_data
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.comparison.findings import Finding
from vitbench.analysis.comparison.together import Together
from vitbench.analysis.statistics.verdicts import Verdict
from vitbench.records import Faults, RecordStore
from vitbench.studies.settings import without

Made = TypeVar("Made")


class Place(NamedTuple):
    """Where arms were judged; of an arm that changes size, epochs or images, where its baseline was."""

    dataset: str
    variant: str
    epochs: float
    train_images: int
    """Of an epoch, without those of validation; 0 where older records say neither that nor a limit: all there are."""

    @classmethod
    def of(cls, comparison: Comparison) -> Place:
        images = comparison.design.train_images or comparison.data.train_images or 0
        return cls(comparison.data.dataset, comparison.variant, comparison.epochs, images)

    @property
    def text(self) -> str:
        """All but the data set: `Micro/4, 4 epochs, 20,000 images`."""
        images = f"{self.train_images:,} images" if self.train_images else "all images"
        return f"{self.variant}, {'1 epoch' if self.epochs == 1 else f'{self.epochs:.4g} epochs'}, {images}"


@dataclass(frozen=True)
class ArmAcross:
    """An arm of a study in several places. `findings`, and `slugs` of comparisons, by place, in one order."""

    study: str
    budget: str
    """And the size of its models: `standard, Micro`. Of the first place."""
    arm: str
    findings: Mapping[Place, Finding]
    slugs: Mapping[Place, str]

    @property
    def together(self) -> Together:
        return Together.of(*(finding.decision.verdict for finding in self.findings.values()))


def same_arms(by_place: Mapping[Place, Assessment]) -> Iterator[ArmAcross]:
    """Every arm that comparisons of one study judge in two places or more, in the order of both.

    Where there are too few seeds for a verdict nothing is judged. At the ceiling or floor the verdict is of the task, not of
    the arm: that place is left out of the arm's.
    """
    first = next(iter(by_place.values())).comparison
    for label in dict.fromkeys(label for assessment in by_place.values() for label in assessment.findings.arms):
        # Of one name, but with another recipe, it is another arm.
        by_recipe: dict[str, dict[Place, Finding]] = defaultdict(dict)
        for place, assessment in by_place.items():
            finding = assessment.findings.arms.get(label)
            if finding is not None and is_of_the_arm(finding.decision.verdict):
                by_recipe[changes_text(of_recipe_and_data(finding.arm.changes))][place] = finding
        for findings in (findings for findings in by_recipe.values() if len(findings) > 1):
            slugs = {place: by_place[place].comparison.slug for place in findings}
            yield ArmAcross(first.study, f"{first.budget}, {_size(first)}", label, findings, slugs)


def is_of_the_arm(verdict: Verdict) -> bool:
    """Whether it can be held against another: not with too few seeds, nor where the task is too easy or too hard."""
    return verdict.is_settled or verdict is Verdict.OPEN


def arms_across(assessments: Iterable[Assessment]) -> list[ArmAcross]:
    """Every arm that comparisons of equal circumstances judge on two data sets or more, in the order of the studies."""
    return [arm for by_place in _on_other_data(assessments) for arm in same_arms(by_place)]


def study_by_study(
    made_of: Callable[[Sequence[Assessment]], Iterable[Made]],
    assessments: Iterable[Assessment],
    store: RecordStore,
    faults: Faults,
) -> list[Made]:
    """What is made of the assessments of each study; one whose records it fails for is left out and told to `faults`."""
    by_study: dict[str, list[Assessment]] = defaultdict(list)
    for assessment in assessments:
        by_study[assessment.comparison.study].append(assessment)
    made: list[Made] = []
    for study in sorted(by_study):
        with faults.leaving_out(store.path(study)):
            made += made_of(by_study[study])
    return made


def agreements(arms: Sequence[ArmAcross]) -> Counter[Together]:
    """How many of the `distinct` arms are which."""
    return Counter(arm.together for arm in distinct(arms))


def distinct(arms: Iterable[ArmAcross]) -> list[ArmAcross]:
    """The same runs against the same once, whichever studies have them."""
    return list({_identity(arm): arm for arm in arms}.values())


def _identity(arm: ArmAcross) -> tuple[Hashable, ...]:
    """Its runs, and how far they are from what they are compared with."""
    return tuple(
        (
            place,
            tuple(sorted(run.identity for run in finding.arm.completed(finding.arm.setting).values())),
            difference.mean,
        )
        for place, finding in arm.findings.items()
        if (difference := finding.decision.difference) is not None
    )


def in_the_order_of_recording(assessments: Iterable[Assessment]) -> list[Assessment]:
    """Those that have a baseline, the last recorded last."""
    with_baseline = (assessment for assessment in assessments if assessment.comparison.baseline is not None)
    return sorted(with_baseline, key=lambda each: max(run.finished for run in each.comparison.records))


def _on_other_data(assessments: Iterable[Assessment]) -> list[dict[Place, Assessment]]:
    """Comparisons that differ in their data alone, by place in the order of data sets; those that stand alone are left out.

    A budget may have another patch size, other crops and epochs on other data, so these may differ, unless a data set has
    several of them: then those that are equal go together. Where several are left, whose images were decoded differently,
    the last recorded counts.
    """
    groups: dict[tuple[Hashable, ...], list[Assessment]] = defaultdict(list)
    for assessment in in_the_order_of_recording(assessments):
        groups[_on_any_data(assessment.comparison)].append(assessment)
    rows = []
    for group in groups.values():
        several = len(group) > len({assessment.comparison.data.dataset for assessment in group})
        parts: dict[tuple[Hashable, ...], dict[str, Assessment]] = defaultdict(dict)
        for assessment in group:
            comparison, data = assessment.comparison, assessment.comparison.data
            by_budget = comparison.variant, data.crop_padding, data.flip, comparison.epochs
            parts[by_budget if several else ()][data.dataset] = assessment
        rows += [
            {Place.of(assessment.comparison): assessment for _, assessment in sorted(by_data.items())}
            for by_data in parts.values()
            if len(by_data) > 1
        ]
    return sorted(rows, key=lambda by_place: next(iter(by_place.values())).comparison.study)


def _on_any_data(comparison: Comparison) -> tuple[Hashable, ...]:
    data, design = comparison.data, comparison.design
    images = ("mixup", "cutmix", "train_images", "validation_fraction")
    environment = comparison.environment.model_copy(update={"data_sha256": ""}).comparison_key
    shared = comparison.study, comparison.budget, _size(comparison), environment, design.tuning_seeds
    of_data = (getattr(data, name) for name in images if name not in design.tuned)
    return *shared, *judged_and_trained(comparison), *of_data


def judged_and_trained(comparison: Comparison) -> tuple[Hashable, ...]:
    """What is equal wherever one arm may be held against itself: the harness, the metric, what is matched, which fields are
    tuned, and the recipe, but for epochs.
    """
    design = comparison.design
    recipe = without(comparison.train, ("learning_rate", "epochs", *design.tuned))
    return comparison.harness_version, comparison.metric.name, design.match, tuple(design.tuned), recipe


def _size(comparison: Comparison) -> str:
    """`Micro` of `Micro/4`."""
    return comparison.variant.partition("/")[0]
