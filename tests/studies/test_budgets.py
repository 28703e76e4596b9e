"""Does a budget augment and evaluate as its source did?"""

from __future__ import annotations

import pytest

from vitbench.config import DataConfig
from vitbench.data import DataInfo, describe
from vitbench.studies import BUDGETS, Overrides, load_study
from vitbench.studies.resolved_study import resolve_study

PHOTOGRAPHS = DataInfo(
    dataset="photographs@12345678",
    image_size=(224, 224),
    in_channels=3,
    num_classes=10,
    train_images=50_000,
    test_images=1_000,
    crop_padding=28,
    flip=True,
)


def data_of(budget: str, info: DataInfo) -> DataConfig:
    resolved = resolve_study(load_study("pooling"), BUDGETS[budget], info, Overrides())
    return resolved.arms[resolved.baseline].data


def test_paper_takes_inception_crops_mirrors_them_and_evaluates_the_middle_224_of_256_pixels():
    """As big_vision's `vit_i21k.py` has it: inception_crop(224), flip_lr; resize_small(256), central_crop(224)."""
    data = data_of("paper", PHOTOGRAPHS)
    assert (data.crop_scale, data.crop_ratio, data.crop_padding, data.flip) == ((0.05, 1.0), (3 / 4, 4 / 3), 0, True)
    assert 224 / data.eval_crop == 256
    assert data.auto_augment is None and not data.mixup and not data.random_erasing


@pytest.mark.parametrize(
    ("budget", "crop_padding", "flip"), [("smoke", 28, True), ("quick", 0, False), ("standard", 28, True)]
)
def test_smaller_budgets_crop_and_mirror_as_they_did(budget, crop_padding, flip):
    data = data_of(budget, PHOTOGRAPHS)
    assert data == DataConfig(
        dataset="photographs@12345678", train_images=data.train_images, crop_padding=crop_padding, flip=flip
    )


def test_built_in_sets_are_augmented_as_they_were_under_every_budget():
    for budget in BUDGETS:
        data = data_of(budget, describe("digits"))
        assert data == DataConfig(train_images=data.train_images)
