"""Do an arm and the one it is compared with see the same images, in the same order and with the same pixels?

Batches are drawn from seed and epoch alone, so equal seeds see equal ones, but for what the fields below change.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from vitbench.analysis.comparison.arm import ArmResult
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.writing.words import listed

OTHER_STEPS = ("batch_size",)
"""An epoch has the same images in the same order, cut into other batches."""
OTHER_ORDER = ("dataset", "train_images", "validation_fraction", "repeated_augmentation")
"""Other images, or in another order."""
OTHER_PIXELS = (
    *("image_size", "crop_scale", "crop_ratio", "crop_interpolation", "crop_padding", "padding_mode", "flip"),
    *("auto_augment", "color_jitter", "random_erasing", "erasing_mode", "mixup", "cutmix"),
)
"""The same images in the same order, changed in another way before the model sees them."""
OTHER_TEST_PIXELS = ("eval_crop",)
"""Test images alone are changed in another way."""


def about_images(comparison: Comparison) -> Iterator[str]:
    """A sentence on the arms whose batches are not those of what they are compared with; none where all are equal."""
    labels: dict[tuple[str, tuple[str, ...], str], list[str]] = defaultdict(list)
    for arm in comparison.arms:
        reference = comparison.compared_with(arm)
        if reference is None or arm.name in comparison.design.starts:
            continue  # what starts from another arm's weights saw that arm's images before its own
        differing = _differing(arm, reference)
        for what, fields in differing.items():
            labels[what, fields, reference.label].append(arm.label)
    for (what, fields, reference_label), names in labels.items():
        yield f"{listed(names)}: {_SENTENCES[what].format(reference=reference_label, fields=listed(fields))}"


_SENTENCES = {
    "steps": "each epoch has the images of {reference} in the same order, but other ones in a step ({fields}).",
    "order": "other images than {reference}, or in another order ({fields}): equal seeds share the validation split and the "
    "initial weights alone.",
    "pixels": "the images of {reference} in the same order, but changed in another way ({fields}).",
    "test": "test images are not shown to it as to {reference} ({fields}).",
}


def _differing(arm: ArmResult, reference: ArmResult) -> dict[str, tuple[str, ...]]:
    """What is not equal, by the keys of `_SENTENCES`, with the fields that make it so."""
    mine, theirs = _values(arm), _values(reference)
    resampled = reference.config.data.resampled(reference.model.image_hw, arm.model.image_hw)
    theirs["crop_padding"] = resampled.crop_padding  # the same share of the image
    differ = {name for name in mine if mine[name] != theirs.get(name)}
    kinds = {"order": OTHER_ORDER, "steps": OTHER_STEPS, "pixels": OTHER_PIXELS, "test": OTHER_TEST_PIXELS}
    differing = {what: tuple(name for name in fields if name in differ) for what, fields in kinds.items()}
    return {
        what: fields for what, fields in differing.items() if fields and not (what == "steps" and differing["order"])
    }


def _values(arm: ArmResult) -> dict[str, Any]:
    """What decides the batches of an arm, at its chosen setting."""
    data, train = arm.config.data, arm.config.train
    values = {name: getattr(data, name) for name in type(data).model_fields}
    return {**values, "batch_size": train.batch_size, "image_size": arm.model.image_hw}
