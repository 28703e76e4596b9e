"""How does the error fall as one thing grows: a model's depth, its width, its patches, its MLP, or the training images?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from vitbench.analysis.comparison.arm import ArmResult
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.statistics.power_law import PowerLaw, fit_power_law
from vitbench.config import ViTConfig

SCALED = {
    "depth": ("depth",),
    "width": ("width", "num_heads"),
    "number of patches": ("patch_size",),
    "MLP": ("mlp_ratio",),
}
"""What can grow alone, and the fields that change with it."""
FEWEST_POINTS = 3
FEWEST_SEEDS = 3


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
        found = [arm.metric("test_top1", arm.setting) for arm in self.arms]
        common = sorted(set.intersection(*(set(one) for one in found)))
        by_seed = {seed: tuple(1 - one[seed] for one in found) for seed in common}
        return {seed: errors for seed, errors in by_seed.items() if min(errors) > 0}

    @cached_property
    def law(self) -> PowerLaw | None:
        """None for fewer than three arms or seeds."""
        if len(self.arms) < FEWEST_POINTS or len(self.errors) < FEWEST_SEEDS:
            return None
        return fit_power_law(self.sizes, self.errors)


def series_of(comparison: Comparison) -> list[Series]:
    """What grows alone in a comparison, the baseline among the sizes; empty where nothing does.

    On fractions of the images, each model by its training images; else what differs from the baseline in `SCALED` alone,
    by the training FLOPs of a run.
    """
    if comparison.design.fractions:
        return _by_images(comparison)
    baseline = comparison.baseline
    if baseline is None or not isinstance(baseline.model, ViTConfig):
        return []
    found = []
    for name, fields in SCALED.items():
        alone = [arm for arm in comparison.arms if arm is not baseline and _differs_in(arm, baseline, fields)]
        if alone and (series := _series(name, "training FLOPs", [baseline, *alone], lambda arm: arm.training_flops)):
            found.append(series)
    return found


def _by_images(comparison: Comparison) -> list[Series]:
    models: dict[str, list[ArmResult]] = {}
    for arm in comparison.arms:
        model = comparison.design.factors.get(arm.name, {}).get("model")
        if model is not None:
            models.setdefault(model, []).append(arm)
    series = (_series(name, "training images", arms, comparison.images_of) for name, arms in models.items())
    return [one for one in series if one is not None]


def _series(
    name: str, unit: str, arms: Sequence[ArmResult], size_of: Callable[[ArmResult], float | None]
) -> Series | None:
    sized = [(size, arm) for arm in arms if arm.test_top1 and (size := size_of(arm))]
    if len({size for size, _ in sized}) < 2:
        return None
    sized.sort(key=lambda pair: pair[0])
    return Series(name, unit, tuple(arm for _, arm in sized), tuple(float(size) for size, _ in sized))


def _differs_in(arm: ArmResult, baseline: ArmResult, fields: Sequence[str]) -> bool:
    """Whether its model is the baseline's but for `fields`, the first of them among those that differ."""
    if not isinstance(arm.model, ViTConfig):
        return False
    differing = {
        name
        for name in ViTConfig.model_fields
        if name not in arm.fields and getattr(arm.model, name) != getattr(baseline.model, name)
    }
    return fields[0] in differing and differing <= set(fields)
