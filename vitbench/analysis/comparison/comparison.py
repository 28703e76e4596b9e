"""Which records may be compared, and how far each arm is from the baseline.

Accuracies are fractions in [0, 1] here; percentage points appear only where something is printed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitbench.analysis.comparison.arm import ArmResult as ArmResult
from vitbench.analysis.comparison.findings import Findings, findings_of
from vitbench.analysis.comparison.grouping import Group, arms_of, groups
from vitbench.analysis.comparison.naming import slug_of, title_of, with_distinct_names
from vitbench.analysis.comparison.notes import notes_about
from vitbench.analysis.statistics.pairing import PairedDifference
from vitbench.analysis.statistics.summary import Summary
from vitbench.analysis.statistics.verdicts import FEWEST_SEEDS
from vitbench.analysis.writing.presentable import presentable
from vitbench.config import DataConfig, TrainConfig
from vitbench.records import Environment, Faults, Outcome, Record, RecordStore, unpack_correct
from vitbench.studies.settings import Setting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class StudyInfo:
    """What a study says about itself now, where that is to go before the `design` in its records."""

    name: str
    question: str
    source: str
    baseline: str
    arms: Sequence[str] = ()


@dataclass(frozen=True)
class Comparison:
    """Records that may be averaged and subtracted: equal in all but model, setting and seed (and epochs, where matched)."""

    study: str
    question: str
    source: str
    slug: str
    """Names its files; unique within the study."""
    title: str
    budget: str
    variant: str
    data: DataConfig
    train: TrainConfig
    """The recipe; its learning_rate, and whatever else is tuned or matched, is one of several and means nothing here."""
    harness_version: int
    environment: Environment
    """That of the first run that did not fail; what `comparison_key` leaves out may vary."""
    arms: tuple[ArmResult, ...]
    baseline: ArmResult | None
    epochs: float
    """The baseline's, and all arms' where `match` is `epochs` and all train on the same images."""
    match: str = "epochs"
    """What was made equal for all arms: `epochs`, `flops` or `time`."""
    tuned: tuple[str, ...] = ()
    """Fields that were tuned with the learning rate."""
    tuning_seeds: int | None = None
    """Settings were chosen on the seeds below this alone; None: on all."""
    factors: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Of a factorial study: arm name to the level that it has of each factor; else empty."""
    fractions: Mapping[str, float] = field(default_factory=dict)
    """The share of the training images that each arm, by name, trained on, for as many steps; empty where all had all."""
    within: Sequence[str] = ()
    """Factors whose level is held where arms are compared."""
    starts: Mapping[str, str] = field(default_factory=dict)
    """Arm name to that of the arm from whose weights it went on."""
    train_images: int | None = None
    """Images that an epoch trained on, and that fractions are of; None where records do not say."""
    notes: tuple[str, ...] = ()

    @cached_property
    def records(self) -> tuple[Record, ...]:
        return tuple(record for arm in self.arms for record in arm.runs.values())

    def images_of(self, arm: ArmResult) -> int | None:
        """Images that an epoch of an arm trained on; None where its records do not say."""
        if self.train_images is None:
            return None
        return round(self.fractions.get(arm.name, 1.0) * self.train_images)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted({seed for arm in self.arms for seed in arm.seeds}))

    @property
    def has_grid(self) -> bool:
        """Whether more than one learning rate was tried."""
        return len({setting[0] for arm in self.arms for setting in arm.settings}) > 1

    @property
    def has_choice(self) -> bool:
        """Whether more than one setting was tried."""
        return len({setting for arm in self.arms for setting in arm.settings}) > 1

    @property
    def noun(self) -> str:
        """What was tuned, in words."""
        return "setting" if self.tuned else "learning rate"

    @property
    def chance(self) -> float | None:
        """1 / number of classes: chance only where classes are equally frequent. None where arms differ in that number."""
        classes = {arm.model.num_classes for arm in self.arms}
        return 1 / classes.pop() if len(classes) == 1 else None

    @cached_property
    def num_test_images(self) -> int | None:
        """From the packed `correct` bits and test_top1 of a record, where both are there and agree."""
        for record in self.records:
            top1 = record.metrics.get("test_top1", 0.0)
            if record.correct and top1 > 0:
                num_bytes = len(record.correct.rstrip("=")) * 3 // 4
                size = round(int(unpack_correct(record.correct, num_bytes * 8).sum()) / top1)
                return size if math.ceil(size / 8) == num_bytes else None
        return None

    def environment_values(self, name: str) -> tuple[Any, ...]:
        """The different values of an environment field over all records, sorted; fields nobody recorded give ()."""
        values = {getattr(record.environment, name, None) for record in self.records} - {None, ""}
        return tuple(sorted(values, key=lambda value: (str(type(value)), value)))

    def compared_with(self, arm: ArmResult) -> ArmResult | None:
        """The arm that another is compared with: the baseline, or where a factor is held, the one of the baseline's level of
        all others.

        None for these themselves, and where it has no run.
        """
        baseline = self.baseline
        if baseline is None or arm is baseline:
            return None
        if not self.within:
            return baseline
        levels = self.factors.get(arm.name, {})
        wanted = {**self.factors[baseline.name], **{name: levels.get(name) for name in self.within}}
        if levels == wanted:
            return None
        return next((other for other in self.arms if self.factors.get(other.name) == wanted), None)

    @property
    def reference(self) -> str:
        """What differences are from, in words."""
        if self.baseline is None:
            return ""
        if not self.within:
            return self.baseline.label
        own = (level for name, level in self.factors[self.baseline.name].items() if name not in self.within)
        held = "on as many images" if self.fractions else f"at the same {' and '.join(self.within)}"
        return f"{', '.join(own)} {held}"

    def at_baseline_setting(self, arm: ArmResult) -> Summary | None:
        """test_top1 of an arm at the setting that was chosen for what it is compared with."""
        reference = self.compared_with(arm) or arm
        return None if self.baseline is None else Summary.of(arm.metric("test_top1", reference.setting).values())

    @cached_property
    def seeds_without_say(self) -> tuple[int, ...]:
        """`seeds_without_say_in` the baseline's choice."""
        return () if self.baseline is None else self.seeds_without_say_in(self.baseline)

    def seeds_without_say_in(self, reference: ArmResult) -> tuple[int, ...]:
        """Seeds of an arm at its chosen setting that had no say in that choice, where they are enough for a verdict.

        At the setting that was best for the arm on some seeds, by luck too, these same seeds make every other arm
        look worse than it is. Empty where nothing was chosen, or on all seeds, or on all but one or two.
        """
        if reference.is_fixed or self.tuning_seeds is None:
            return ()
        completed = reference.completed(reference.setting)
        final = tuple(seed for seed in completed if seed >= self.tuning_seeds)
        return final if len(final) >= FEWEST_SEEDS else ()

    def paired(self, arm: ArmResult, *, at_baseline_setting: bool = False) -> tuple[dict[int, float], dict[int, float]]:
        """test_top1 by seed of an arm and of what it is `compared_with`, over the seeds that both have, ascending.

        Each at its own chosen setting, or the arm too at the other's; where that is not the arm's own, over
        `seeds_without_say_in` it alone, if there are any. Empty where there is nothing to compare with.
        """
        reference = self.compared_with(arm)
        if reference is None:
            return {}, {}
        mine = arm.metric("test_top1", reference.setting if at_baseline_setting else arm.setting)
        theirs = reference.metric("test_top1", reference.setting)
        seeds = sorted(mine.keys() & theirs.keys())
        if at_baseline_setting and arm.setting != reference.setting:
            without_say = self.seeds_without_say_in(reference)
            seeds = [seed for seed in seeds if seed in without_say] if without_say else seeds
        return {seed: mine[seed] for seed in seeds}, {seed: theirs[seed] for seed in seeds}

    def difference(self, arm: ArmResult, *, at_baseline_setting: bool = False) -> PairedDifference | None:
        """test_top1 of an arm minus that of what it is compared with, seed by seed, at the settings of `paired`."""
        return PairedDifference.of(*self.paired(arm, at_baseline_setting=at_baseline_setting))

    @cached_property
    def findings(self) -> Findings:
        """What the statistics say: verdicts, what they rest on, and what the literature says."""
        return findings_of(self)

    def correct_bits(self, arm: ArmResult, setting: Setting | None = None) -> dict[int, NDArray[np.bool_]]:
        """Which test images each seed got right, [num_test_images], at the arm's chosen setting or another.

        Seeds whose record has no bits are left out; empty where the number of test images is not known.
        """
        size = self.num_test_images
        if size is None:
            return {}
        completed = arm.completed(arm.setting if setting is None else setting)
        return {seed: unpack_correct(record.correct, size) for seed, record in completed.items() if record.correct}


def load_comparisons(
    store_root: str | Path,
    study_infos: Mapping[str, StudyInfo] | None = None,
    *,
    needed: bool = True,
    faults: Faults | None = None,
) -> list[Comparison]:
    """All comparisons under a results folder, by study and slug.

    `faults` (else stderr) are told of what is damaged or cannot be compared; it is left out, and the notes of its study's
    other comparisons say so. Raises ValueError where there is nothing at all, unless it is not `needed`.
    """
    faults = Faults() if faults is None else faults
    store = RecordStore(store_root, faults)
    infos = study_infos or {}
    comparisons: list[Comparison] = []
    for study in store.studies():
        records = store.read(study)
        if not records:
            continue
        remarks = [f"Left out: {remark}" for remark in faults.remarks(store.path(study))]
        with faults.leaving_out(store.path(study)):
            of_study = compare(presentable(records), infos.get(study))
            if remarks:
                of_study = [replace(one, notes=(*one.notes, *remarks)) for one in of_study]
            for one in of_study:
                _ = one.findings  # a failure of its statistics is the study's own
            comparisons += of_study
    if needed and not comparisons and not faults:
        raise ValueError(f"no records under {str(store.root)!r}; run `vitbench run` first")
    from vitbench.analysis.comparison.elsewhere import with_other_verdicts  # it reads comparisons

    return with_other_verdicts(comparisons)


def compare(records: Iterable[Record], info: StudyInfo | None = None) -> list[Comparison]:
    """The comparisons that the records of one study fall into, by slug.

    Without `info`, question, source, baseline and arm order are those in the last record's design; a design without a
    baseline leaves that to the first arm recorded.
    """
    comparisons = [_comparison(group, info) for group in groups(records)]
    return sorted(with_distinct_names(comparisons), key=lambda one: one.slug)


def _comparison(group: Group, info: StudyInfo | None) -> Comparison:
    first, design = group.records[0], group.design
    measured = next((record for record in group.records if record.outcome is not Outcome.FAILED), first)
    info = info or StudyInfo(first.study, design.question, design.source, design.baseline, design.arms)
    baseline_name = info.baseline or first.arm
    arms = _in_order(arms_of(group), [baseline_name, *info.arms])
    baseline = next((arm for arm in arms if arm.name == baseline_name), None)
    comparison = Comparison(
        study=first.study,
        question=info.question,
        source=info.source,
        slug=slug_of(first, design),
        title=title_of(first, design),
        budget=first.budget,
        variant=first.variant,
        data=next((record for record in group.records if record.arm == design.baseline), first).config.data,
        train=first.config.train,
        harness_version=first.config.harness_version,
        environment=measured.environment,
        arms=arms,
        baseline=baseline,
        epochs=design.epochs.get(design.baseline, first.config.train.epochs),
        match=design.match,
        tuned=tuple(design.tuned),
        tuning_seeds=design.tuning_seeds,
        factors=design.factors,
        fractions=design.fractions,
        within=("images",) if design.fractions else design.within,
        starts=design.starts,
        train_images=design.train_images,
    )
    return replace(comparison, notes=tuple(notes_about(comparison, baseline_name, info.arms)))


def _in_order(arms: Iterable[ArmResult], names: Sequence[str]) -> tuple[ArmResult, ...]:
    """In the order of their names; arms of other names last, as they came."""
    return tuple(sorted(arms, key=lambda arm: names.index(arm.name) if arm.name in names else len(names)))
