"""How is a model trained? Epochs, batches, optimizer, schedule, precision."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from vitbench.config.base import MOST, Config, Extent, NotNegative, Positive, Rate

Precision = Literal["auto", "fp32", "bf16"]
Compile = Literal["off", "auto", "on"]

OPTIMIZER_OPTIONS: dict[str, tuple[str, ...]] = {
    "adamw": ("betas", "eps"),
    "muon": ("betas", "momentum", "eps"),
    "sgd": ("momentum",),
    "momentum": ("momentum",),
    "lion": ("betas",),
    "lamb": ("betas", "eps"),
}
"""Which options of `TrainConfig` these of timm's optimizers take. Known here, as timm takes seconds to be imported."""


class TrainConfig(Config):
    """How a run is trained. By default: AdamW, cosine schedule with linear warm-up."""

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
    betas: tuple[Rate, Rate] | None = None
    """Decay of the running means of the gradient and its square; None is the optimizer's default. Muon: its AdamW's."""
    momentum: Rate | None = None
    """Of SGD, Muon and their like; None is the optimizer's default: 0.9, and 0.95 for Muon."""
    eps: Positive | None = None
    """Added to the denominator of Adam and its like; None is the optimizer's default. Muon: its AdamW's."""
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of all steps in which the learning rate rises linearly from 0."""
    schedule: Literal["cosine", "linear"] = "cosine"
    """How the learning rate falls after that."""
    min_learning_rate: NotNegative = 0.0
    """The learning rate that the schedule ends at. Where `layer_decay` scales a rate, it scales its end too."""
    clip_norm: Positive | None = 1.0
    """Global gradient norm is clipped to this; None is off."""
    loss: Literal["cross_entropy", "binary_cross_entropy"] = "cross_entropy"
    """What is minimised. `binary_cross_entropy`: each class is a question of its own, a mixed image is of both its classes;
    mean over images and classes (Wightman et al. 2021, section 3; Touvron et al. 2022). Evaluation is by softmax all the same.
    """
    label_smoothing: Rate = 0.0
    """Share of a target that goes to all classes alike, 1/K of it to each."""
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

    def _objections(self) -> Iterator[str]:
        if self.min_learning_rate > self.learning_rate:
            yield (
                f"min_learning_rate {self.min_learning_rate:g} is more than learning_rate {self.learning_rate:g}, from which "
                "the schedule falls; make it smaller"
            )
        name = self.optimizer.lower()
        if name in OPTIMIZER_OPTIONS:
            yield from self.option_objections(OPTIMIZER_OPTIONS[name])
        if name == "sgd" and self.momentum == 0:
            yield "momentum 0 leaves Nesterov's SGD nothing to look ahead with; give optimizer 'momentum' for SGD without"

    def option_objections(self, taken: Collection[str]) -> Iterator[str]:
        """Why its optimizer, which has the options `taken`, cannot be as these values say."""
        for option, value in self.optimizer_options.items():
            if option not in taken:
                has = f"has only {' and '.join(taken)}" if taken else "has no such options"
                yield f"{option} {value}: optimizer {self.optimizer!r} {has}; leave it out"

    @property
    def optimizer_options(self) -> dict[str, Any]:
        """Those of `betas`, `momentum` and `eps` that are not left to the optimizer."""
        return {name: value for name in ("betas", "momentum", "eps") if (value := getattr(self, name)) is not None}

    def num_steps(self, steps_per_epoch: int) -> int:
        """Steps of a run: the nearest whole number, but at least one, unless there is nothing to train."""
        return max(1, round(self.epochs * steps_per_epoch)) if self.epochs else 0
