"""How do papers train ViTs? Recipes by name: optimizer, schedule, regularisation, augmentation, and parts of the model.

Each is as its authors publish it, and says what of it is not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vitbench.config import TrainConfig, ViTConfig
from vitbench.data.info import DataInfo
from vitbench.text import did_you_mean


@dataclass(frozen=True)
class Recipe:
    """A published recipe. It brings everything but the size of the model."""

    name: str
    summary: str
    source: str
    train: TrainConfig
    """As published: epochs, batch size and learning rate too."""
    data: Mapping[str, Any]
    """Fields of `DataConfig`."""
    not_here: str
    """What the paper or its code does and this recipe does not."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `ViTConfig`."""
    drop_path: Mapping[int, float] = field(default_factory=dict)
    """Where it depends on the size of the model: the least width → its rate."""
    rate_grows_with_batch: bool = False
    """Whether the learning rate is in proportion to the batch size, by the paper."""
    learning_rate_scale: float = 1.0
    """Studies tune over their budget's learning rates times this: LAMB needs other rates than AdamW."""

    def alone(self, fields: Mapping[str, Any]) -> TrainConfig:
        """For one run: as published, but for the fields that the user sets. Raises ValueError for what they cannot be."""
        train = self.train.replace(**fields)
        if self.rate_grows_with_batch and "learning_rate" not in fields:
            train = train.replace(learning_rate=self.train.learning_rate * train.batch_size / self.train.batch_size)
        return train

    def within(self, budget: TrainConfig) -> TrainConfig:
        """For a study: with the epochs, the batch size and the learning rates that its budget affords."""
        kept = ("epochs", "batch_size", "learning_rate", "precision", "compile")
        return self.train.replace(**{name: getattr(budget, name) for name in kept})

    def data_on(self, info: DataInfo) -> dict[str, Any]:
        """Fields of `DataConfig` on a data set. Images are mirrored only where that leaves them what they are, and evaluated
        whole where they cannot be resized.
        """
        whole = {"eval_crop": 1.0} if info.size_step > 1 else {}
        return {"crop_padding": 0, **self.data, "flip": info.flip and self.data.get("flip", False), **whole}

    def model_on(self, base: ViTConfig) -> dict[str, Any]:
        """Fields of `ViTConfig` for a model of the width of `base`."""
        rates = [rate for width, rate in sorted(self.drop_path.items()) if width <= base.width]
        return {**self.model, **({"drop_path": rates[-1]} if rates else {})}


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="deit",
            summary="AdamW, RandAugment, mixup, cutmix, erasing, smoothing, drop path, repeated augmentation; 300 epochs",
            source="Touvron et al. 2021 (DeiT), Table 9, and the defaults of their code",
            train=TrainConfig(
                epochs=300,
                batch_size=1024,
                learning_rate=1e-3,  # 5e-4 × batch / 512
                weight_decay=0.05,
                warmup_fraction=5 / 300,
                min_learning_rate=1e-5,
                clip_norm=None,
                label_smoothing=0.1,
            ),
            rate_grows_with_batch=True,
            data={
                "crop_scale": (0.08, 1.0),
                "flip": True,
                "auto_augment": "rand-m9-mstd0.5-inc1",
                "random_erasing": 0.25,
                "mixup": 0.8,
                "cutmix": 1.0,
                "repeated_augmentation": 3,
                "eval_crop": 0.875,
            },
            model={"drop_path": 0.1},
            not_here="distillation and its token; a rate that changes by epoch: here it does with every step",
        ),
        Recipe(
            name="better-vit",
            summary="AdamW, RandAugment and mixup, both mild; average pooling, fixed 2-D sin-cos positions; 90 epochs",
            source="Beyer et al. 2022 (Better plain ViT baselines for ImageNet-1k) and big_vision's configs/vit_s16_i1k.py",
            train=TrainConfig(
                epochs=90,
                batch_size=1024,
                learning_rate=1e-3,
                # Theirs is 1e-4 a step at the peak, not multiplied by the learning rate; torch's AdamW multiplies.
                weight_decay=0.1,
                warmup_fraction=0.089,  # 10,000 of 90 epochs of 1,251 steps
                clip_norm=1.0,
                label_smoothing=0.0,
            ),
            data={
                "crop_scale": (0.05, 1.0),
                "crop_interpolation": "bilinear",
                "flip": True,
                "auto_augment": "rand-m10-n2-p1",
                "mixup": 0.2,
                "eval_crop": 0.875,
            },
            model={"pool": "gap", "position": "sincos_2d"},
            not_here="RandAugment's cutout, which timm's has not; first moments kept in bf16; the hidden layer of their head, "
            "without which accuracy was the same (76.5 % with it and 76.7 % without, in 90 epochs)",
        ),
        Recipe(
            name="deit3",
            summary="LAMB, binary cross-entropy, 3-Augment, mixup, cutmix, LayerScale, drop path by size; 800 epochs",
            source="Touvron et al. 2022 (DeiT III) and the commands for ImageNet-1k in their README_revenge.md",
            train=TrainConfig(
                epochs=800,
                batch_size=2048,
                learning_rate=3e-3,
                optimizer="lamb",
                weight_decay=0.05,
                warmup_fraction=5 / 800,
                min_learning_rate=1e-5,
                clip_norm=1.0,  # their LAMB clips so by itself
                loss="binary_cross_entropy",
                label_smoothing=0.0,
            ),
            learning_rate_scale=3.0,
            data={
                "crop_scale": (0.08, 1.0),
                "flip": True,
                "auto_augment": "3a",
                "color_jitter": 0.3,
                "mixup": 0.8,
                "cutmix": 1.0,
                "repeated_augmentation": 3,
                "eval_crop": 1.0,
            },
            model={"layer_scale": 1e-4},
            drop_path={0: 0.05, 768: 0.2, 1024: 0.45, 1280: 0.6},
            not_here="training B and larger at 192 or 160 pixels, then 20 epochs at 224; ViT-S's rate of 4e-3; a class "
            "token without position (embed_class_token False); the simple random crop, which they take for ImageNet-21k alone "
            "(crop_padding 4, padding_mode reflect)",
        ),
    )
}


def recipe_named(name: str) -> Recipe:
    """Raises ValueError for a name that stands for none."""
    if name not in RECIPES:
        hint = did_you_mean(name, RECIPES, f"use {', '.join(RECIPES)}")
        raise ValueError(f"recipe {name!r} is not known; {hint}")
    return RECIPES[name]
