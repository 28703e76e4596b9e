"""Which images are used, how are they split, and how is a training batch augmented?"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from vitbench.config.base import MOST, MOST_IMAGES, Config, NotNegative


class DataConfig(Config):
    """Data set, split and augmentation of a run. Where the images lie is environment."""

    dataset: str = "digits"
    train_images: Annotated[int, Field(gt=0, le=MOST_IMAGES)] | None = None
    """Images of a stratified training subset, drawn by seed after the validation split is cut; None takes all."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    crop_padding: Annotated[int, Field(ge=0, le=MOST)] = 0
    """Pixels of zero padding before a random crop back to size; 0 is no crop."""
    flip: bool = False
    """Mirror left–right with probability ½."""
    mixup: NotNegative = 0.0
    """α of the Beta distribution (Zhang et al. 2018); 0 is off."""
    cutmix: NotNegative = 0.0
    """α of the Beta distribution (Yun et al. 2019); 0 is off."""

    def resampled(self, before: tuple[int, int], after: tuple[int, int]) -> DataConfig:
        """For images of `after` (height, width) instead of `before`: crops are padded by the same share of the height, to the
        nearest pixel.
        """
        return self.replace(crop_padding=int(self.crop_padding * after[0] / before[0] + 0.5))
