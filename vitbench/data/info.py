"""What is known of a data set before any image is read: sizes, counts, and the augmentation that suits it.

Imports no torch: `vitbench list` and `plan` use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from vitbench.config import CHANNELS_WITH_COLOUR, DISTORTIONS, DataConfig
from vitbench.user_code import SHAPE

Dtype = Literal["uint8", "uint16", "float32"]
"""Of stored pixels."""


class DataInfo(BaseModel):
    """One data set as stored. Sizes are pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    """The name that goes into the configuration: it never depends on where the data lie."""
    image_size: tuple[int, int]
    """Native (height, width); 224 × 224 where images are larger than 64 pixels or differ in size."""
    in_channels: int
    dtype: Dtype = "uint8"
    num_classes: int
    train_images: int
    test_images: int
    crop_padding: int
    """Recommended `DataConfig.crop_padding`."""
    flip: bool
    """Recommended `DataConfig.flip`."""
    size_step: int = 1
    """Images are square, with sides that are a multiple of so many pixels; 1: any size."""
    class_counts: tuple[int, ...] = ()
    """Training images by class; empty where all classes have equally many, or one more than others."""

    @property
    def model_shape(self) -> dict[str, Any]:
        """Fields of a model that its images decide."""
        return {name: getattr(self, name) for name in SHAPE}

    def images_left(self, validation_fraction: float) -> int:
        """Training images outside the validation split. Raises ValueError where that would be empty."""
        each, more = divmod(self.train_images, self.num_classes)
        counts = self.class_counts or [each + (label < more) for label in range(self.num_classes)]
        return self.train_images - validation_images(counts, validation_fraction)

    def augmentation_objection(self, config: DataConfig) -> str:
        """Why these images cannot be augmented so, in one line with the remedy; empty where they can."""
        if config.eval_crop != 1 and self.size_step > 1:
            return (
                f"eval_crop {config.eval_crop:g} would blur the cells of {self.dataset} into each other; leave it out"
            )
        field = config.changes_colours
        if field and self.dtype != "uint8":
            needs = f"is for images of 8 bits, and those of {self.dataset} are {self.dtype}"
        elif field and self.in_channels not in CHANNELS_WITH_COLOUR:
            needs = f"is for grey and RGB images, and those of {self.dataset} have {self.in_channels} channels"
        else:
            return ""
        return f"{field} {needs}; leave it out (crops, flips, erasing, mixup and cutmix are for any)"

    def distortion_objection(self, evaluate: Sequence[str]) -> str:
        """Why test images cannot be distorted so, in one line with the remedy; empty where they can."""
        if "jpeg" not in evaluate:
            return ""
        if self.dtype != "uint8":
            needs = f"is for images of 8 bits, and those of {self.dataset} are {self.dtype}"
        elif self.in_channels not in CHANNELS_WITH_COLOUR:
            needs = f"is for grey and RGB images, and those of {self.dataset} have {self.in_channels} channels"
        else:
            return ""
        return f"evaluate 'jpeg' {needs}; leave it out (all others are for any)"

    def makes_labels_wrong(self, config: DataConfig) -> list[str]:
        """Fields of an augmentation after which a label need not be true: mirrored characters are others, and of shapes it is
        the place that decides. None where nothing is known of the images.
        """
        if self.dataset not in KNOWN:
            return []
        policy = config.auto_augment
        moving = {
            "crop_padding": config.crop_padding > 0,
            "crop_scale": config.crop_scale is not None,
            "auto_augment": policy is not None and "3a" not in policy,
            "random_erasing": config.random_erasing > 0,
            "cutmix": config.cutmix > 0,
        }
        fields = [name for name, is_used in moving.items() if self._is_labelled_by_place and is_used]
        return [*fields, *(["flip"] if config.flip and not self.flip else [])]

    def moves_what_labels_tell(self, evaluate: Sequence[str]) -> list[str]:
        """Distortions after which a label need not be true, as it is the place that decides."""
        return [name for name in evaluate if self._is_labelled_by_place and DISTORTIONS[name].moves]

    @property
    def _is_labelled_by_place(self) -> bool:
        return self.dataset.partition("/")[0] == "shapes"


def validation_images(class_counts: Sequence[int], fraction: float) -> int:
    """Size of the validation split: `fraction` of all images, but at least one of every class that has two, and never a
    class's last. `class_counts` are images by class.

    Raises ValueError where it would be empty: no class has two.
    """
    counts = [count for count in class_counts if count]
    with_two = sum(count > 1 for count in counts)
    if not with_two:
        raise ValueError(
            f"validation split would be empty: each of the {len(counts)} classes has one training image; "
            "give two or more of a class"
        )
    return min(max(round(fraction * sum(counts)), with_two), sum(counts) - len(counts))


BUILT_IN: dict[str, str] = {
    "digits": "scikit-learn's handwritten digits: real, 8×8 grey, 10 classes, 1,198 train and 599 test images",
    "shapes": "generated, 32×32 grey, 4 classes: which half do the discs fill? Without position information, chance",
    "shapes/relation": "generated, 32×32 grey, 4 classes: is the disc left of, right of, above or below the square? Harder",
    "shapes/quadrant": "generated, 32×32 grey, 4 classes: in which quadrant is the disc? Harder than `shapes`",
    "shapes/majority": "generated, 32×32 grey, 4 classes: in which half are most discs? No model can pass 93 %",
}
"""Data sets that need no files, by name: what they are, in one line."""

# Padding is an eighth of the side, as He et al. (2016) pad CIFAR by 4. Not for digits of 8 pixels, which fill their frame:
# a crop halves what a short run learns. Nor for Fashion-MNIST, whose articles all lie alike in theirs: crops cost short
# runs ten points (benchmarks/LOG.md). Characters are never flipped: mirrored, they are other characters. Shapes are neither
# cropped, which would move them off their cells, nor flipped, which would turn "left" into "right" under the old label.
KNOWN: dict[str, DataInfo] = {
    name: DataInfo(
        dataset=name,
        image_size=(size, size),
        in_channels=channels,
        num_classes=classes,
        train_images=train,
        test_images=test,
        crop_padding=padding,
        flip=flip,
        size_step=size if name.startswith("shapes") else 1,
    )
    for name, size, channels, classes, train, test, padding, flip in (
        ("digits", 8, 1, 10, 1198, 599, 0, False),
        *((name, 32, 1, 4, 4000, 1000, 0, False) for name in BUILT_IN if name.startswith("shapes")),
        ("torch/cifar10", 32, 3, 10, 50000, 10000, 4, True),
        ("torch/cifar100", 32, 3, 100, 50000, 10000, 4, True),
        ("torch/mnist", 28, 1, 10, 60000, 10000, 3, False),
        ("torch/fashion_mnist", 28, 1, 10, 60000, 10000, 0, True),
        ("torch/kmnist", 28, 1, 10, 60000, 10000, 3, False),
        ("torch/qmnist", 28, 1, 10, 60000, 60000, 3, False),
    )
}
"""Data sets that never change, by name: the built-in ones and some that torchvision reads."""
