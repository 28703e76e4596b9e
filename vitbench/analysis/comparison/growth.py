"""How does the error fall as a model grows in depth, width, patches or MLP alone, or with the training images?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter

from vitbench.analysis.comparison.arm import ArmResult
from vitbench.analysis.comparison.changes import of_recipe_and_data
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.statistics.power_law import PowerLaw, fit_power_law
from vitbench.analysis.statistics.verdicts import FEWEST_SEEDS
from vitbench.config import ViTConfig

SCALED = {
    "depth": ("depth",),
    "width": ("width", "num_heads"),
    "number of patches": ("patch_size",),
    "MLP": ("mlp_ratio",),
}
"""What can grow alone, and the fields that change with it."""
FEWEST_ARMS = 3


@dataclass(frozen=True)
class Series:
    """Arms in which one thing grows, by what it comes to: training FLOPs or training images, ascending."""

    name: str
    unit: str
    arms: tuple[ArmResult, ...]
    sizes: tuple[float, ...]

    @cached_property
    def errors(self) -> dict[int, tuple[float, ...]]:
        """1 − test top-1 of each arm at its own setting, by seed; of the seeds that every arm completed with an error."""
        accuracies = [arm.top1_by_seed for arm in self.arms]
        common = sorted(set.intersection(*map(set, accuracies)))
        by_seed = {seed: tuple(1 - of_arm[seed] for of_arm in accuracies) for seed in common}
        return {seed: errors for seed, errors in by_seed.items() if min(errors) > 0}

    @cached_property
    def law(self) -> PowerLaw | None:
        """None for fewer than three arms or seeds."""
        if len(self.arms) < FEWEST_ARMS or len(self.errors) < FEWEST_SEEDS:
            return None
        return fit_power_law(self.sizes, self.errors)


def series_of(comparison: Comparison) -> list[Series]:
    """What grows alone in a comparison, the baseline among the sizes; empty where nothing does.

    On fractions of the images, each model by its training images; else what differs from the baseline in `SCALED` alone,
    by the training FLOPs of a run.
    """
    groups: dict[str, list[ArmResult]] = defaultdict(list)
    if comparison.design.images_differ:
        for arm in comparison.arms:
            if model := comparison.design.factors.get(arm.name, {}).get("model"):
                groups[model].append(arm)
        return _series(groups, "training images", comparison.images_of)
    baseline = comparison.baseline
    if baseline is None or not isinstance(baseline.model, ViTConfig):
        return []
    for name, fields in SCALED.items():
        alone = [arm for arm in comparison.arms if arm is not baseline and _differs_in(arm, baseline, fields)]
        if alone:
            groups[name] = [baseline, *alone]
    return _series(groups, "training FLOPs", lambda arm: arm.training_flops)


def _series(
    groups: Mapping[str, Iterable[ArmResult]], unit: str, size_of: Callable[[ArmResult], float | None]
) -> list[Series]:
    """Of each group of arms that has two sizes or more."""
    series = []
    for name, arms in groups.items():
        sized = sorted(
            ((float(size), arm) for arm in arms if arm.test_top1 and (size := size_of(arm))), key=itemgetter(0)
        )
        if len({size for size, _ in sized}) > 1:
            series.append(Series(name, unit, tuple(arm for _, arm in sized), tuple(size for size, _ in sized)))
    return series


def _differs_in(arm: ArmResult, baseline: ArmResult, fields: Sequence[str]) -> bool:
    """Whether it is the baseline but for `fields` of the model, the first of them among those that differ."""
    if not isinstance(arm.model, ViTConfig) or of_recipe_and_data(arm.changes) != of_recipe_and_data(baseline.changes):
        return False
    differing = {
        name
        for name in ViTConfig.model_fields
        if name not in arm.fields and getattr(arm.model, name) != getattr(baseline.model, name)
    }
    return fields[0] in differing and differing <= set(fields)
