"""For how many epochs each arm trains, so that arms are equal in epochs, in training FLOPs or in training time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vitbench.config import ModelConfig, TrainConfig
from vitbench.costs.macs import count, training_flops_per_image
from vitbench.refusals import one_line
from vitbench.studies.tunable import part_of

MATCHES = {"epochs": "epochs", "flops": "training FLOPs", "time": "training time"}
"""What can be made equal, and what it is called."""


def matched_epochs(
    models: Mapping[str, ModelConfig],
    *,
    baseline: str,
    epochs: float,
    match: str,
    images_per_second: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Epochs of each arm: the baseline's `epochs`, for the others scaled to four significant digits.

    `flops`: in inverse proportion to the training FLOPs of an image. `time`: in proportion to the training images/s of each
    arm; by FLOPs, as an estimate, where there are none. Raises ValueError for a name that is none of MATCHES.
    """
    if match not in MATCHES:
        raise ValueError(f"match {match!r} is not known; use {', '.join(MATCHES)}")
    if match == "epochs":
        return dict.fromkeys(models, epochs)
    if match == "time" and images_per_second is not None:
        speeds = dict(images_per_second)
    else:
        speeds = {arm: 1 / _flops_of(arm, model, match=match) for arm, model in models.items()}
    return {arm: epochs if arm == baseline else _four_digits(epochs * speeds[arm] / speeds[baseline]) for arm in models}


def _flops_of(arm: str, model: ModelConfig, *, match: str) -> int:
    try:
        flops = training_flops_per_image(model)
    except ValueError as error:
        raise ValueError(f"arm {arm!r}: {one_line(error)}") from error
    if not flops:
        raise ValueError(f"match {match!r}: arm {arm!r} has no operation whose FLOPs are counted; use --match epochs")
    return flops


def _four_digits(value: float) -> float:
    """Rounded; an int where that is whole, so that equal runs have equal run_ids."""
    rounded = float(f"{value:.4g}")
    return int(rounded) if rounded.is_integer() else rounded


def training_images(train: TrainConfig, *, train_images: int) -> int:
    """Images in all batches of a run. An epoch has `train_images`; a last, partial batch is dropped."""
    return train.num_steps(train_images // train.batch_size) * train.batch_size


_SAME_TIME = (
    *(
        "weight_decay",
        "warmup_fraction",
        "clip_norm",
        "label_smoothing",
        "ema_decay",
        "layer_decay",
        "min_learning_rate",
    ),
    *("betas", "momentum", "eps", "loss", "schedule", "flip"),
    *("dropout", "attention_dropout", "drop_path", "layer_scale", "norm_eps", "crop_padding", "mixup", "cutmix"),
)
"""Fields that leave the matrix products of a step as they are; only elementwise work may differ."""
_TIMED = ("batch_size", "precision", "compile")
"""Fields of the recipe that arms are timed with."""


def check_is_timed(arm: str, changes: Iterable[str], *, match: str) -> None:
    """Raises ValueError where time is to be equal, and an arm changes what is not timed: a step on random images is."""
    known = {*_SAME_TIME, *_TIMED}
    for name in changes if match == "time" else ():
        if name not in known and part_of(name) != "model":
            raise ValueError(
                f"match 'time': arm {arm!r} changes {name}, whose time is not measured beforehand; use --match flops or epochs"
            )


def check_costs_stay(tuned: Mapping[str, Sequence[float]], models: Mapping[str, ModelConfig], *, match: str) -> None:
    """Raises ValueError where what is made equal for each arm depends on the setting that it is tuned to."""
    for name, values in tuned.items():
        if match == "time" and name not in _SAME_TIME:
            raise ValueError(
                f"tune {name!r} changes the time that an image takes, which --match time makes equal; use --match epochs"
            )
        if part_of(name) == "model" and any(
            count(model.replace(**{name: value})).macs != count(model).macs
            for model in models.values()
            for value in values
        ):
            raise ValueError(
                f"tune {name!r} changes the FLOPs of an image, which --match {match} makes equal; use --match epochs"
            )
