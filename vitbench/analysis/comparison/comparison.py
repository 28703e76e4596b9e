"""What do comparable records hold? Arms, and how far each is from the arm that it is compared with, in fractions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vitbench.analysis.comparison.arm import ArmResult
from vitbench.analysis.statistics.pairing import PairedDifference
from vitbench.analysis.statistics.summary import Summary
from vitbench.config import DataConfig, RunConfig, TrainConfig
from vitbench.records import Design, Environment, Outcome, Record, unpack_correct
from vitbench.records.metrics import TOP1, Metric
from vitbench.studies.match import MATCHES
from vitbench.studies.settings import Setting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Comparison:
    """Records that may be averaged and subtracted: equal in all but what arms change, setting and seed (and epochs, where
    matched).
    """

    study: str
    design: Design
    """That of the last record: the question, what was tuned, what was made equal."""
    slug: str
    """Names its files; unique within the study."""
    title: str
    budget: str
    variant: str
    data: DataConfig
    train: TrainConfig
    """Data and recipe of the base, from which arms may differ. The learning rate, and whatever else is tuned or matched, is
    one of several and means nothing here.
    """
    harness_version: int
    environment: Environment
    """That of the first run that did not fail; what `comparison_key` leaves out may vary."""
    arms: tuple[ArmResult, ...]
    baseline: ArmResult | None
    """None where it has no run."""
    epochs: float
    """The baseline's, and all arms' where `match` is `epochs` and all train on the same images."""
    reached: Mapping[str, int] = field(default_factory=dict)
    """The look that each arm, by label, has reached, where seeds are added until arms are settled."""
    runs_beyond: int = 0
    """Runs of seeds beyond these looks, which do not count yet."""
    metric: Metric = TOP1
    """By which arms are judged: the one that was declared, or another that was asked for."""

    @property
    def metric_is_declared(self) -> bool:
        """Whether arms are judged by what the study declared."""
        return self.metric.name == self.design.metric

    @cached_property
    def earlier_metrics(self) -> dict[str, int]:
        """How many completed runs declared another metric than the study does by now, by its name."""
        completed = (record for record in self.records if record.outcome is Outcome.COMPLETED)
        return dict(Counter(name for record in completed if (name := record.design.metric) != self.design.metric))

    def values(self, arm: ArmResult) -> dict[int, float]:
        """The metric by seed, ascending, at an arm's chosen setting."""
        return arm.metric(self.metric.key, arm.setting)

    def summary(self, arm: ArmResult) -> Summary | None:
        """Of `values`; None where there is none."""
        return Summary.of(self.values(arm).values())

    @property
    def tells_changes(self) -> bool:
        """Whether a record says in what its arm differs from the base: older ones do not."""
        return any(arm.changes is not None for arm in self.arms)

    @cached_property
    def records(self) -> tuple[Record, ...]:
        return tuple(record for arm in self.arms for record in arm.runs.values())

    @property
    def crop_paddings(self) -> list[int]:
        """The base's, and those that follow from it where arms have another image size, ascending."""
        paddings = (run.config.data.crop_padding for run in self.records if self.pads_as_base(run.config))
        return sorted({self.data.crop_padding, *paddings})

    def pads_as_base(self, config: RunConfig) -> bool:
        """Whether a run pads crops by the base's share of the image."""
        sizes = (arm.model.image_hw for arm in self.arms if "image_size" not in (arm.changes or {}))
        size = config.model.image_hw
        return config.data.crop_padding == self.data.resampled(next(sizes, size), size).crop_padding

    def images_of(self, arm: ArmResult) -> int | None:
        """Images that an epoch of an arm trained on; None where its records do not say."""
        if self.design.train_images is None:
            return None
        return round(self.design.fractions.get(arm.name, 1.0) * self.design.train_images)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted({seed for arm in self.arms for seed in arm.seeds}))

    @property
    def has_choice(self) -> bool:
        """Whether more than one setting of the grid was tried."""
        return len({setting for arm in self.arms for setting in self.grid_settings(arm)}) > 1

    @property
    def without_learning(self) -> tuple[float, str] | None:
        """(the accuracy of whoever always answers the most frequent class, what it is called).

        Older records do not say how frequent that is in test: then 1 / number of classes, which is less where classes are
        unequal; None where arms differ in that number.
        """
        classes = {arm.model.num_classes for arm in self.arms}
        equal = 1 / classes.pop() if len(classes) == 1 else 0.0
        if (largest := max(self.environment_values("largest_class"), default=0.0)) > equal:
            return largest, "share of the most frequent class"
        return (equal, "1 / number of classes") if equal else None

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

    @property
    def precision_text(self) -> str:
        """`fp32`, or where arms differ in it, `bf16 and fp32`."""
        values = self.environment_values("precision") if self.design.precisions_differ else ()
        return " and ".join(values or (self.environment.precision,))

    @property
    def compiled_text(self) -> str:
        """`eager`, `compiled`, or where arms differ in it, both."""
        values = self.environment_values("compiled") if self.design.precisions_differ else ()
        return " and ".join("compiled" if value else "eager" for value in values or (self.environment.compiled,))

    @property
    def epochs_text(self) -> str:
        """`11 epochs`, or of whom, and what is equal, where arms have different ones."""
        epochs, design = f"{self.epochs:g} {'epoch' if self.epochs == 1 else 'epochs'}", self.design
        if not design.epochs_differ:
            return epochs
        if design.images_differ:
            return f"{epochs} of the baseline and equal training steps"
        is_matched = design.match != "epochs"
        return f"{epochs} of the baseline" + (f" and equal {MATCHES[design.match]}" if is_matched else "")

    def compared_with(self, arm: ArmResult) -> ArmResult | None:
        """The arm that another is compared with (`Design.compared_with`).

        None for the baseline, or where factors are held, for all that stand in its place; and where that arm has no run.
        """
        design = self.design
        if self.baseline is None or arm is self.baseline:
            return None
        if not design.held_factors:
            return self.baseline
        name = design.compared_with(arm.name) if arm.name in design.factors else arm.name
        return next((other for other in self.arms if other.name == name != arm.name), None)

    @property
    def reference_text(self) -> str:
        """What differences are from, in words."""
        baseline, held = self.baseline, self.design.held_factors
        if baseline is None:
            return ""
        if not held:
            return baseline.label
        levels = (level for factor, level in self.design.factors[baseline.name].items() if factor not in held)
        at_the_same = "on as many images" if self.design.images_differ else f"at the same {' and '.join(held)}"
        return f"{', '.join(levels)} {at_the_same}"

    def at_baseline_setting(self, arm: ArmResult) -> Summary | None:
        """The metric of an arm at the setting that was chosen for what it is compared with."""
        if self.baseline is None:
            return None
        return Summary.of(arm.metric(self.metric.key, self.baseline_setting(arm)).values())

    def baseline_setting(self, arm: ArmResult) -> Setting | None:
        """The setting that was chosen for what an arm is compared with, as the arm has it: its learning rates may be others,
        the same times a scale. None where none was chosen.
        """
        reference, design = self.compared_with(arm) or arm, self.design
        if reference.setting is None:
            return None
        return design.to_arm(arm.name, design.to_grid(reference.name, reference.setting))

    def grid_settings(self, arm: ArmResult) -> tuple[Setting, ...]:
        """An arm's settings as the study's grid has them."""
        return tuple(self.design.to_grid(arm.name, setting) for setting in arm.settings)

    def paired(self, arm: ArmResult, *, at_baseline_setting: bool = False) -> tuple[dict[int, float], dict[int, float]]:
        """The metric by seed of an arm and of what it is `compared_with`, over the seeds that both have, ascending.

        Each at its chosen setting; with `at_baseline_setting`, both at that of the other, over its held-out seeds alone if it
        has any and the arm's own setting is another. Empty where there is nothing to compare with.
        """
        reference = self.compared_with(arm)
        if reference is None:
            return {}, {}
        setting = self.baseline_setting(arm) if at_baseline_setting else arm.setting
        held_out = reference.held_out_seeds if setting != arm.setting else ()
        mine, theirs = arm.metric(self.metric.key, setting), self.values(reference)
        common = sorted(mine.keys() & theirs.keys() & set(held_out or mine))
        return {seed: mine[seed] for seed in common}, {seed: theirs[seed] for seed in common}

    def difference(self, arm: ArmResult, *, at_baseline_setting: bool = False) -> PairedDifference | None:
        """The metric of an arm minus that of what it is compared with, seed by seed, at the settings of `paired`."""
        return PairedDifference.of(*self.paired(arm, at_baseline_setting=at_baseline_setting))

    def correct_bits(self, arm: ArmResult, setting: Setting | None = None) -> dict[int, NDArray[np.bool_]]:
        """Which test images each seed got right, [num_test_images], at the arm's chosen setting or another.

        Seeds whose record has no bits are left out; empty where the number of test images is not known.
        """
        size = self.num_test_images
        if size is None:
            return {}
        completed = arm.completed(arm.setting if setting is None else setting)
        return {seed: unpack_correct(record.correct, size) for seed, record in completed.items() if record.correct}
