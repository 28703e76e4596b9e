"""One run, complete, and the identity (`run_id`) that follows from it."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from vitbench.config.base import Config, canonical_json
from vitbench.config.data import DataConfig
from vitbench.config.model import FREE, OF_THE_HEAD, ModelConfig, TimmConfig, ViTConfig
from vitbench.config.recipe import TrainConfig

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
    """The run, complete, whose weights it starts from: in place of `init` where both are planned together."""
    keep_head: bool = False
    """Whether the head comes with the weights that it starts from; else a new one is drawn from the seed."""
    harness_version: int = HARNESS_VERSION

    @model_validator(mode="after")
    def _pairs_up(self) -> Self:
        if (self.data.mixup or self.data.cutmix) and self.train.batch_size % 2:
            raise ValueError(
                f"batch_size {self.train.batch_size} is odd, but mixup and cutmix pair images; use an even one"
            )
        if self.data.crop_padding > max(self.model.image_hw):
            raise ValueError(
                f"crop_padding {self.data.crop_padding} is more than image_size {self.model.image_size}, and most crops would "
                "be empty; make it smaller"
            )
        self._check_start()
        model = self.model
        if isinstance(model, TimmConfig) and self.train.trainable == "attention":
            raise ValueError("trainable 'attention' is for the blocks of a ViT, not for timm's models; leave it out")
        if isinstance(model, TimmConfig) and self.train.layer_decay is not None:
            raise ValueError(
                f"layer_decay {self.train.layer_decay} is for the blocks of a ViT, not for timm's models; leave it out"
            )
        if (
            isinstance(model, ViTConfig)
            and self.train.batch_size == 1
            and model.stem == "conv"
            and model.num_patches == 1
        ):
            raise ValueError("batch_size 1 leaves BatchNorm one value, where the stem ends in one patch; use 2 or more")
        return self

    def _check_start(self) -> None:
        if self.init is not None and self.pretraining is not None:
            raise ValueError(f"init {self.init!r} has no meaning beside pretraining, which has its own; leave one out")
        from_the_seed = self.init is None and self.pretraining is None
        if self.train.trainable == "attention" and from_the_seed:
            raise ValueError(
                "trainable 'attention' leaves the rest as it was drawn; give weights to start from (--init)"
            )
        if self.keep_head and from_the_seed:
            raise ValueError("keep_head has no meaning without weights to start from (--init); leave it out")
        if self.train.epochs == 0 and not self.keep_head:
            raise ValueError(
                "epochs 0 evaluates what was drawn from the seed; give weights to start from (--init) with their head "
                "(--keep-head), or train longer"
            )
        if self.pretraining is not None:
            self._check_pretraining(self.pretraining.model)

    def _check_pretraining(self, source: ModelConfig) -> None:
        model = self.model
        if not (isinstance(model, ViTConfig) and isinstance(source, ViTConfig)):
            raise ValueError("pretraining is for ViTs, not for timm's models; leave it out")
        for name in ViTConfig.model_fields:
            free = name in FREE and not (self.keep_head and name in OF_THE_HEAD)
            if not free and getattr(model, name) != getattr(source, name):
                raise ValueError(
                    f"{name} {getattr(model, name)!r} is not that of the pretraining, {getattr(source, name)!r}, from whose "
                    "weights it goes on; make them equal"
                )

    @property
    def run_id(self) -> str:
        """First 16 hex digits of the SHA-256 of the canonical JSON."""
        return run_id(self.model_dump(mode="json"))


def run_id(config: dict[str, Any]) -> str:
    """First 16 hex digits of the SHA-256 of a configuration's canonical JSON."""
    return hashlib.sha256(canonical_json(config).encode()).hexdigest()[:16]
