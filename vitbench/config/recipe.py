"""How is a model trained? Epochs, batches, optimizer, schedule, precision."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from vitbench.config.base import MOST, Config, Extent, NotNegative, Positive, Rate

Precision = Literal["auto", "fp32", "bf16"]
Compile = Literal["off", "auto", "on"]


class TrainConfig(Config):
    """The recipe that every arm of a study shares. AdamW, cosine schedule with linear warm-up."""

    epochs: Annotated[int | float, Field(ge=0, le=MOST)] = 20
    """Passes over the training images; 2.5 ends half-way through the third, at the nearest whole step.

    0 trains nothing: the initial weights are evaluated with their head.
    """
    batch_size: Extent = 128
    learning_rate: Positive = 1e-3
    weight_decay: NotNegative = 0.05
    """Not applied to biases, norms, tokens and position tables."""
    optimizer: str = "adamw"
    """Any name that timm's optimizer factory knows. `muon` takes the weights of the blocks' linear layers, AdamW the rest."""
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of all steps in which the learning rate rises linearly from 0."""
    schedule: Literal["cosine", "linear"] = "cosine"
    """How the learning rate falls to 0 after that."""
    clip_norm: Positive | None = 1.0
    """Global gradient norm is clipped to this; None is off."""
    label_smoothing: Rate = 0.0
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Per step, of an exponential moving average of the weights that is evaluated in their place; None is off.

    After step t, counted from 0, the decay is min(ema_decay, (1 + t) / (10 + t)).
    """
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """For fine-tuning: the learning rate of a block is this times that of the block after it (Clark et al. 2020). None is off.

    The last norm, pooling and head have the whole rate, stem, tokens and position tables as a block before the first
    (as in BEiT: Bao et al. 2022).
    """
    trainable: Literal["all", "attention"] = "all"
    """For fine-tuning: `attention` trains the blocks' attention and the head alone (Touvron et al. 2022, section 4)."""
    precision: Precision = "auto"
    """`auto` takes bf16 where it is measured to be fast; what was taken is in the record's environment."""
    compile: Compile = "off"
    """torch.compile: `on` fails where it cannot, `auto` runs eagerly there and the environment says so."""

    @field_validator("epochs")
    @classmethod
    def _whole_as_int(cls, epochs: int | float) -> int | float:
        """One canonical form: 2.0 is 2, so that equal configurations have equal ids."""
        return int(epochs) if epochs == int(epochs) else epochs

    def num_steps(self, steps_per_epoch: int) -> int:
        """Steps of a run: the nearest whole number, but at least one, unless there is nothing to train."""
        return max(1, round(self.epochs * steps_per_epoch)) if self.epochs else 0
