"""How much may a study spend? The base variant, recipe, learning-rate grids, seeds and data of each budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vitbench.config import TrainConfig, divisors


@dataclass(frozen=True)
class Scale:
    """What a budget does on one kind of data. The grids are ascending; `short` is a part of `grid`."""

    size: str
    max_grid: int
    """The base patch is the smallest power of two that gives at most this many patches a side."""
    train: TrainConfig
    grid: tuple[float, ...]
    short: tuple[float, ...]
    train_images: int | None = None
    seeds: int | None = None
    """Of every arm, where it is not the budget's number."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `DataConfig` that it sets; what it leaves suits the data set (`data_settings`)."""
    epochs: Mapping[str, int] = field(default_factory=dict)
    """Epochs of the built-in sets, which differ in size and difficulty: family (`shapes` for `shapes/quadrant`) to epochs."""

    def variant_on(self, image_size: tuple[int, int]) -> str:
        """The base variant: the scale's size, with a patch that suits images of (height, width)."""
        return f"{self.size}/{base_patch(image_size, max_grid=self.max_grid)}"


@dataclass(frozen=True)
class Budget:
    """`built_in` is for digits and all shapes, `images` for any other data."""

    name: str
    summary: str
    datasets: tuple[str, ...]
    seeds: int
    built_in: Scale
    images: Scale
    tuning_seeds: int | None = None
    """Settings are chosen on so many seeds; the others run at chosen settings alone. None: on all."""
    extend: int = 0
    """Steps by which the grid grows, at most, on a side at whose edge some arm is best."""

    def scale_on(self, dataset: str) -> Scale:
        """What it does on a data set."""
        return self.built_in if _family(dataset) in ("digits", "shapes") else self.images

    def seeds_on(self, dataset: str) -> int:
        """Of every arm on a data set."""
        return self.scale_on(dataset).seeds or self.seeds

    def recipe_on(self, dataset: str) -> tuple[TrainConfig, Mapping[str, Any]]:
        """(how it trains on a data set, the fields of `DataConfig` that it sets)."""
        scale = self.scale_on(dataset)
        return scale.train.replace(epochs=scale.epochs.get(_family(dataset), scale.train.epochs)), scale.data


def _family(dataset: str) -> str:
    """`shapes` of `shapes/quadrant`."""
    return dataset.split("/")[0]


CUSTOM = "custom"
"""The budget that single runs of `vitbench train` are recorded under."""

_TINY = TrainConfig(epochs=1, batch_size=64)
_QUICK = TrainConfig(batch_size=64)
_PAPER = TrainConfig(epochs=20, batch_size=128, label_smoothing=0.1)
# Muon: +10 points over AdamW after 3 epochs of CIFAR-10 (benchmarks/LOG.md, 'the standard recipe').
_STANDARD = TrainConfig(epochs=20, batch_size=128, label_smoothing=0.1, optimizer="muon")
# Dosovitskiy et al. 2021, Table 3 (ImageNet); the rates are Figure 9's.
_IMAGENET = TrainConfig(epochs=300, batch_size=4096, learning_rate=3e-3, weight_decay=0.3, compile="auto")
_IMAGENET_CROPS = {
    "crop_padding": 0,
    "crop_scale": (0.05, 1.0),
    "crop_interpolation": "bilinear",
    "eval_crop": 0.875,
}
"""Inception crops, beside which images are mirrored, as in the paper's own code (vision_transformer, `input_pipeline.py`: 5 to
100 % of the area, bilinear); the middle 224 of 256 pixels in evaluation (big_vision, `vit_i21k.py`). No RandAugment.
"""
# Short runs learn more from images as they are.
_AS_STORED = {"crop_padding": 0, "flip": False}
_GRID = (5e-4, 1e-3, 2e-3, 4e-3)

BUDGETS: dict[str, Budget] = {
    budget.name: budget
    for budget in (
        Budget(
            name="smoke",
            summary="seconds: one epoch of a Nano model on few images; shows that everything runs, nothing else",
            datasets=("digits",),
            seeds=2,
            built_in=Scale("Nano", 4, _TINY, (1e-3, 3e-3), (1e-3,), train_images=256),
            images=Scale("Nano", 4, _TINY, (1e-3, 3e-3), (1e-3,), train_images=512),
        ),
        Budget(
            name="quick",
            summary="minutes on a laptop: a Micro model on digits, 8 seeds; or on 10,000 images of your own, 3 seeds",
            # One data set with eight seeds settles most arms; two with three settled 8 %, and took longer (benchmarks/LOG.md).
            datasets=("digits",),
            seeds=3,
            # Its baselines end near 90 %: below the ceiling, where arms can differ (tests/studies/test_difficulty.py).
            built_in=Scale("Micro", 4, _QUICK, (1e-3, 2e-3, 4e-3), (2e-3,), seeds=8, epochs={"digits": 5, "shapes": 5}),
            images=Scale("Micro", 8, _QUICK.replace(epochs=6), (1e-3, 2e-3, 4e-3), (2e-3,), 10_000, data=_AS_STORED),
        ),
        Budget(
            name="standard",
            summary="hours on a CPU, minutes on a GPU: a 192 × 6 model, 20 epochs on all of your images; every arm tuned",
            datasets=("digits", "shapes"),
            seeds=5,
            tuning_seeds=2,
            extend=1,
            built_in=Scale("Mini", 8, _QUICK, _GRID, (1e-3, 2e-3, 4e-3), epochs={"digits": 80, "shapes": 25}),
            images=Scale("Small32", 8, _STANDARD, _GRID, (5e-4, 1e-3, 2e-3)),
        ),
        Budget(
            name="paper",
            summary="the paper's own scale: ViT-B/16 at 224 pixels, 300 epochs (give --data)",
            datasets=(),
            seeds=3,
            tuning_seeds=1,
            extend=1,
            built_in=Scale("B", 14, _PAPER, (8e-4,), (8e-4,)),
            images=Scale("B", 14, _IMAGENET, (3e-4, 8e-4, 3e-3), (3e-3,), data=_IMAGENET_CROPS),
        ),
    )
}
"""`quick` is the default."""


def base_patch(image_size: tuple[int, int], *, max_grid: int) -> int:
    """The smallest power of two that divides the image into at most `max_grid` patches a side, else the largest.

    A power of two, so that a ResNet stem can have the same stride; for odd sizes, the smallest divisor that fits.
    """
    common = [p for p in divisors(min(image_size)) if max(image_size) % p == 0]
    powers = [p for p in common if p & (p - 1) == 0]
    sides = common if powers[-1] == 1 else powers
    return next((p for p in sides if max(image_size) // p <= max_grid), sides[-1])
