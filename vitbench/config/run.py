"""What is one run, complete, and which identity (`run_id`) follows from it?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer

from vitbench.config.base import Config, canonical_json, size_text
from vitbench.config.data import CHANNELS_WITH_COLOUR, DataConfig
from vitbench.config.distortions import distortion_names, distortion_objections
from vitbench.config.model import ModelConfig, ModuleConfig, TimmConfig, user_names
from vitbench.config.recipe import TrainConfig
from vitbench.config.vit import FREE, OF_THE_HEAD, ViTConfig

HARNESS_VERSION = 1
"""Raised whenever the harness changes what a run measures; records of different versions are never compared."""


class RunConfig(Config):
    """One run, complete: one arm × one learning rate × one seed × data × recipe."""

    model: ModelConfig = ViTConfig()
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    init: str | None = None
    """Weights to start from, by name and content (`timm:NAME@1a2b3c4d`); None starts from the seed."""
    pretraining: RunConfig | None = None
    """The run, complete, whose weights it starts from; in place of `init`, where both runs belong to one plan."""
    keep_head: bool = False
    """Whether the head of the initial weights is kept; else a new head is drawn from the seed."""
    evaluate: Annotated[tuple[str, ...], BeforeValidator(distortion_names)] = ()
    """Names of `DISTORTIONS`: the final model is evaluated on test images that are changed so, too."""
    harness_version: int = HARNESS_VERSION

    @model_serializer(mode="wrap")
    def _without_empty_evaluate(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A run on plain images alone is written as before there were others, so that its run_id stays."""
        values: dict[str, Any] = handler(self)
        return values if self.evaluate else {name: value for name, value in values.items() if name != "evaluate"}

    def _objections(self) -> Iterator[str]:
        model, data, train = self.model, self.data, self.train
        if (data.mixup or data.cutmix) and train.batch_size % 2:
            yield f"batch_size {train.batch_size} is odd, but mixup and cutmix pair images; use an even one"
        if data.crop_padding > max(model.image_hw):
            yield (
                f"crop_padding {data.crop_padding} is more than image_size {model.image_size}, and most crops would be empty; "
                "make it smaller"
            )
        yield from self._augmentation_objections()
        yield from distortion_objections(
            self.evaluate,
            image_hw=model.image_hw,
            channels=model.in_channels,
            patches=model.num_patches if isinstance(model, ViTConfig) else None,
        )
        yield from self._start_objections()
        if not isinstance(model, ViTConfig):
            whose = "timm's models" if isinstance(model, TimmConfig) else "a user's"
            for_vits = f"is for the blocks of a ViT, not for {whose}; leave it out"
            if train.trainable == "attention":
                yield f"trainable 'attention' {for_vits}"
            if isinstance(model, ModuleConfig) and train.optimizer.lower().endswith("muon"):
                yield f"optimizer {train.optimizer!r} {for_vits.removesuffix('leave it out')}take another, as adamw"
            if train.layer_decay is not None:
                yield f"layer_decay {train.layer_decay} {for_vits}"
        elif train.batch_size == 1 and model.stem == "conv" and model.num_patches == 1:
            yield "batch_size 1 leaves BatchNorm one value, where the stem ends in one patch; use 2 or more"

    def _augmentation_objections(self) -> Iterator[str]:
        model, data = self.model, self.data
        if data.padding_mode == "reflect" and data.crop_padding >= min(model.image_hw):
            yield (
                f"crop_padding {data.crop_padding} is too much to reflect images of {size_text(model.image_size)} pixels; "
                f"use {min(model.image_hw) - 1} or less"
            )
        if data.changes_colours and model.in_channels not in CHANNELS_WITH_COLOUR:
            yield (
                f"{data.changes_colours} is for grey and RGB images, and these have {model.in_channels} channels; leave it "
                "out (crops, flips, erasing, mixup and cutmix are for any)"
            )

    def _start_objections(self) -> Iterator[str]:
        if self.init is not None and self.pretraining is not None:
            yield f"init {self.init!r} has no meaning beside pretraining, which has its own; leave one out"
        from_the_seed = self.init is None and self.pretraining is None
        if self.train.trainable == "attention" and from_the_seed:
            yield "trainable 'attention' leaves the rest as it was drawn; give weights to start from (--init)"
        if self.keep_head and from_the_seed:
            yield "keep_head has no meaning without weights to start from (--init); leave it out"
        if self.train.epochs == 0 and not self.keep_head:
            yield (
                "epochs 0 evaluates what was drawn from the seed; give weights to start from (--init) with their head "
                "(--keep-head), or train longer"
            )
        if self.pretraining is not None:
            yield from self._pretraining_objections(self.pretraining.model)

    def _pretraining_objections(self, source: ModelConfig) -> Iterator[str]:
        model = self.model
        if not (isinstance(model, ViTConfig) and isinstance(source, ViTConfig)):
            yield "pretraining is for ViTs, not for timm's models or a user's; leave it out"
        for name in ViTConfig.model_fields:
            free = name in FREE and not (self.keep_head and name in OF_THE_HEAD)
            if not free and getattr(model, name) != getattr(source, name):
                yield (
                    f"{name} {getattr(model, name)!r} is not that of the pretraining, {getattr(source, name)!r}, from whose "
                    "weights it goes on; make them equal"
                )

    @property
    def is_muon_without_layers(self) -> bool:
        """Whether Muon takes none of the layers, as these are timm's: the AdamW beside it then trains the whole model."""
        return isinstance(self.model, TimmConfig) and self.train.optimizer.lower().endswith("muon")

    @property
    def user_code(self) -> tuple[str, ...]:
        """Names of the user's code that its models have, those of its pretraining included, each once."""
        before = self.pretraining.user_code if self.pretraining else ()
        return tuple(dict.fromkeys([*user_names(self.model), *before]))

    @property
    def field_values(self) -> dict[str, Any]:
        """Every field of model, recipe and data as JSON has it; their names do not overlap."""
        parts = (self.model, self.train, self.data)
        return {name: value for part in parts for name, value in part.model_dump(mode="json").items()}

    @property
    def run_id(self) -> str:
        """First 16 hex digits of the SHA-256 of the canonical JSON."""
        return run_id(self.model_dump(mode="json"))


def run_id(config: dict[str, Any]) -> str:
    """First 16 hex digits of the SHA-256 of a configuration's canonical JSON."""
    return hashlib.sha256(canonical_json(config).encode()).hexdigest()[:16]
