"""Which images are used, how are they split, and how is a training batch augmented?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from vitbench.config.auto_augment import checked_policy
from vitbench.config.base import MOST, MOST_IMAGES, Config, Extent, NotNegative, Positive, Rate


def _ascending(limits: tuple[float, float]) -> tuple[float, float]:
    least, largest = limits
    if least > largest:
        raise ValueError(f"must be the least value and the largest; give ({largest:g}, {least:g})")
    return limits


Share = Annotated[float, Field(gt=0, le=1)]
Shares = Annotated[tuple[Share, Share], AfterValidator(_ascending)]
Ratios = Annotated[tuple[Positive, Positive], AfterValidator(_ascending)]
Policy = Annotated[str, AfterValidator(checked_policy)]
Interpolation = Literal["bilinear", "bicubic", "random"]
PaddingMode = Literal["zeros", "reflect"]
ErasingMode = Literal["pixel", "rand", "const"]
CHANNELS_WITH_COLOUR = (1, 3)
"""Grey and RGB: what `auto_augment` and `color_jitter`, as Pillow defines them, can change."""


class DataConfig(Config):
    """Data set, split and augmentation of a run. Where the images lie is environment."""

    dataset: str = "digits"
    train_images: Annotated[int, Field(gt=0, le=MOST_IMAGES)] | None = None
    """Images of a stratified training subset, drawn by seed after the validation split is cut; None takes all."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    crop_padding: Annotated[int, Field(ge=0, le=MOST)] = 0
    """Pixels of padding before a random crop back to size; 0 is no crop."""
    padding_mode: PaddingMode = "zeros"
    """What the padding of `crop_padding` shows. With `reflect` and 4 pixels it is DeiT III's simple random crop (Touvron et
    al. 2022)."""
    crop_scale: Shares | None = None
    """Random resized crop (Szegedy et al. 2015; torchvision's `RandomResizedCrop`): least and largest share of the image's
    area. None is off; ImageNet recipes take (0.08, 1)."""
    crop_ratio: Ratios = (3 / 4, 4 / 3)
    """Least and largest width : height of a random resized crop."""
    crop_interpolation: Interpolation = "bicubic"
    """Of random resized crops and, as in timm, of `auto_augment`'s rotations, shears and translations. `random` is bilinear
    or bicubic, drawn for each."""
    flip: bool = False
    """Mirror left–right with probability ½."""
    auto_augment: Policy | None = None
    """A policy, as timm writes it: `rand-m9-mstd0.5-inc1` (RandAugment, Cubuk et al. 2020), `original` or `v0` (AutoAugment,
    2019), `3a` (3-Augment, Touvron et al. 2022), `augmix-m3` (AugMix, Hendrycks et al. 2020)."""
    color_jitter: NotNegative = 0.0
    """x: brightness, contrast and saturation are multiplied by factors from [max(0, 1 − x), 1 + x], in random order
    (torchvision's `ColorJitter`); 0 is off."""
    random_erasing: Rate = 0.0
    """Probability that a rectangle of 2 % to 33 % of the normalised image is erased (Zhong et al. 2020, as in timm)."""
    erasing_mode: ErasingMode = "pixel"
    """With what: normal noise for each pixel, one normal colour (`rand`), or the mean (`const`)."""
    mixup: NotNegative = 0.0
    """α of the Beta distribution (Zhang et al. 2018); 0 is off."""
    cutmix: NotNegative = 0.0
    """α of the Beta distribution (Yun et al. 2019); 0 is off."""
    repeated_augmentation: Extent = 1
    """Times that an image comes in one pass, each time augmented anew (Hoffer et al. 2020; DeiT: 3). An epoch has as many
    images as without."""
    eval_crop: Share = 1.0
    """Share of the image's side that evaluation sees, its centre (timm's `crop_pct`)."""

    @property
    def changes_colours(self) -> str:
        """The first field that needs grey or RGB images of 8 bits; empty where none does."""
        return "auto_augment" if self.auto_augment is not None else "color_jitter" if self.color_jitter else ""

    @property
    def policy_has_jitter(self) -> bool:
        """Whether `color_jitter` comes after `auto_augment`: in timm, 3-Augment alone has both."""
        return self.auto_augment is None or "3a" in self.auto_augment

    def _objections(self) -> Iterator[str]:
        if self.crop_scale is not None and self.crop_padding:
            yield (
                f"crop_scale {self.crop_scale} and crop_padding {self.crop_padding} are two crops; "
                "set crop_padding to 0, or leave crop_scale out"
            )
        if self.color_jitter and not self.policy_has_jitter:
            yield (
                f"color_jitter {self.color_jitter:g} has no effect beside auto_augment {self.auto_augment!r}: timm leaves it "
                "out except with 3-Augment; set color_jitter to 0"
            )
        for name, needed, is_used in (
            ("padding_mode", "crop_padding", bool(self.crop_padding)),
            ("crop_ratio", "crop_scale", self.crop_scale is not None),
            (
                "crop_interpolation",
                "crop_scale or auto_augment",
                self.crop_scale is not None or bool(self.auto_augment),
            ),
            ("erasing_mode", "random_erasing", bool(self.random_erasing)),
        ):
            if not is_used and getattr(self, name) != type(self).model_fields[name].default:
                yield f"{name} {getattr(self, name)!r} has no meaning without {needed}; set {needed}, or leave {name} out"

    def with_fields(self, **fields: Any) -> DataConfig:
        """`replace`, but that the one kind of crop takes the place of the other where only one of them is named."""
        if fields.get("crop_scale") is not None:
            fields = {"crop_padding": 0, "padding_mode": "zeros", **fields}
        elif fields.get("crop_padding"):
            fields = {"crop_scale": None, "crop_ratio": type(self).model_fields["crop_ratio"].default, **fields}
        return self.replace(**fields)

    def resampled(self, before: tuple[int, int], after: tuple[int, int]) -> DataConfig:
        """For images of `after` (height, width) instead of `before`: crops are padded by the same share of the height, to the
        nearest pixel.
        """
        padding = int(self.crop_padding * after[0] / before[0] + 0.5)
        return self.replace(crop_padding=padding, padding_mode=self.padding_mode if padding else "zeros")
