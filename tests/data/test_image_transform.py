"""Are single images changed as timm changes them, by (seed, step, place) alone?"""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import kstest
from timm.data.transforms import RandomResizedCropAndInterpolation
from timm.data.transforms_factory import transforms_imagenet_train

from vitbench.config import DataConfig
from vitbench.data import Augment
from vitbench.data.decode import as_array, fit
from vitbench.data.image_transform import ImageTransform, left_for_batches
from vitbench.data.seeding import draws

MEAN = (0.5, 0.4, 0.3)
CROPS = {"crop_scale": (0.08, 1.0)}


def photograph(height: int = 60, width: int = 80, *, channels: int = 3) -> Image.Image:
    coarse = np.random.default_rng(0).integers(256, size=(height // 10, width // 10, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return image if channels == 3 else image.convert("L")


def transform(
    size: tuple[int, int] = (32, 32), *, seed: int = 0, first_step: int = 0, batch_size: int = 8, **fields: object
):
    mean = MEAN if fields.pop("channels", 3) == 3 else (0.5,)
    return ImageTransform(DataConfig(**fields), size, mean, seed, first_step, batch_size)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"crop_interpolation": "bilinear"},
        {"crop_interpolation": "random", "crop_ratio": (0.5, 2.0)},
        {"auto_augment": "rand-m9-mstd0.5-inc1"},
        {"auto_augment": "rand-m9-mstd0.5-inc1", "crop_interpolation": "random"},
        {"auto_augment": "v0"},
        {"auto_augment": "3a", "color_jitter": 0.3},
        {"color_jitter": 0.4},
    ],
)
def test_images_are_those_of_timms_training_transform_with_the_same_draws(fields, channels):
    changed = transform(**CROPS, **fields, channels=channels)
    primary, secondary, _ = transforms_imagenet_train(
        32,
        scale=(0.08, 1.0),
        ratio=fields.get("crop_ratio"),
        hflip=0.0,
        color_jitter=fields.get("color_jitter"),
        auto_augment=fields.get("auto_augment"),
        interpolation=fields.get("crop_interpolation", "bicubic"),
        mean=MEAN if channels == 3 else (0.5,),
        separate=True,
    )
    image = photograph(channels=channels)
    for place in range(8):
        with draws("crop", 0, 5, place):
            expected = primary(image)
        with draws("auto_augment", 0, 5, place):
            expected = secondary(expected)
        assert np.array_equal(changed(image, 5, place), as_array(expected))


def test_crops_have_the_areas_and_ratios_that_were_asked_for(monkeypatch):
    crops = []
    original = RandomResizedCropAndInterpolation.get_params

    def kept(*arguments):
        crops.append(original(*arguments))
        return crops[-1]

    monkeypatch.setattr(RandomResizedCropAndInterpolation, "get_params", staticmethod(kept))
    changed = transform((2, 2), batch_size=2000, crop_scale=(0.1, 0.5), crop_interpolation="bilinear")
    image = Image.new("RGB", (1000, 1000))
    for place in range(2000):
        changed(image, 0, place)
    heights, widths = np.array([crop[2:] for crop in crops], dtype=float).T
    # No crop of at most half the area of a square is too wide: the first try of ten always stands.
    assert kstest(heights * widths / 1e6, "uniform", (0.1, 0.4)).pvalue > 0.01
    assert kstest(np.log(widths / heights), "uniform", (math.log(3 / 4), math.log(16 / 9))).pvalue > 0.01
    assert len({crop[:2] for crop in crops}) > 1900


def test_draws_depend_on_seed_step_and_place_and_on_nothing_else():
    fields = {**CROPS, "auto_augment": "rand-m9-mstd0.5-inc1"}
    image = photograph()
    first = transform(**fields)(image, 3, 2)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    assert np.array_equal(transform(**fields)(image, 3, 2), first)
    assert np.array_equal(transform(first_step=3, **fields)(image, 0, 2), first)  # as after a resume
    assert not np.array_equal(transform(**fields)(image, 3, 3), first)
    assert not np.array_equal(transform(**fields)(image, 4, 2), first)
    assert not np.array_equal(transform(seed=1, **fields)(image, 3, 2), first)


def test_crops_of_workers_depend_on_the_seed():
    image = photograph()
    first, second = (transform(seed=seed, **CROPS)(image, 3, 2) for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_generators_of_the_caller_go_on_as_if_nothing_had_been_drawn():
    def draw():
        return random.random(), np.random.random(), torch.rand(1).item()

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = [draw(), draw()]
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    before = draw()
    transform(**CROPS, auto_augment="original", color_jitter=0.0)(photograph(), 0, 0)
    assert [before, draw()] == expected


def test_a_policy_changes_no_crop_and_no_mirror():
    """Arms stay paired."""
    image = photograph()
    plain = transform(batch_size=40, **CROPS, flip=True)
    with_policy = transform(batch_size=40, **CROPS, flip=True, auto_augment="rand-m0-n1")
    same = [np.array_equal(plain(image, 0, place), with_policy(image, 0, place)) for place in range(40)]
    assert sum(same) > 10  # with magnitude 0, several operations leave an image as it is


def test_what_is_left_for_batches_is_erasing_and_mixing():
    config = DataConfig(
        **CROPS,
        dataset="pets",
        crop_ratio=(0.5, 2.0),
        crop_interpolation="bilinear",
        flip=True,
        auto_augment="v0",
        random_erasing=0.25,
        erasing_mode="rand",
        mixup=0.8,
        repeated_augmentation=3,
        eval_crop=0.875,
    )
    assert left_for_batches(config) == DataConfig(
        dataset="pets",
        random_erasing=0.25,
        erasing_mode="rand",
        mixup=0.8,
        repeated_augmentation=3,
        eval_crop=0.875,
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_padded_crops_and_mirrors_are_those_that_batches_get(channels):
    """Beside an arm without colours, whose images are changed in batches, one with them is still paired."""
    config = DataConfig(crop_padding=4, flip=True)
    images = [photograph(70 + place, 50 + place, channels=channels) for place in range(8)]
    batch = torch.from_numpy(np.stack([fit(image, (32, 32), channels, "x") for image in images]))
    mean, std = (0.0,) * channels, (1 / 255,) * channels
    augment = Augment(config, num_classes=10, label_smoothing=0.0, mean=mean, std=std)
    expected, _ = augment(batch, torch.zeros(8, dtype=torch.int64), seed=0, step=5)
    changed = transform(crop_padding=4, flip=True, channels=channels)
    pixels = np.stack([changed(image, 5, place) for place, image in enumerate(images)])
    assert torch.equal(torch.from_numpy(pixels).float(), expected.round())


def test_reflected_padding_shows_the_pixels_next_to_the_edge():
    image = Image.fromarray(np.arange(9, dtype=np.uint8).reshape(3, 3))
    shown = {
        tuple(transform((3, 3), crop_padding=1, padding_mode="reflect", channels=1)(image, step, 0)[0, 0])
        for step in range(60)
    }
    # By hand: rows of 4 3 4 5 4 | 1 0 1 2 1 | 4 3 4 5 4 | 7 6 7 8 7 | 4 3 4 5 4, of which three columns are seen.
    rows = [(4, 3, 4, 5, 4), (1, 0, 1, 2, 1), (4, 3, 4, 5, 4)]
    assert shown == {row[left : left + 3] for row in rows for left in range(3)}


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_images_of_many_channels_are_cropped_and_mirrored_alike_in_all_of_them(dtype):
    """As pictures are, to within what Pillow rounds of 8 bits after each of two passes, and not of float32."""
    picture = as_array(photograph())
    scale = 257 if dtype == "uint16" else 1
    pixels = np.concatenate([picture, picture[::-1]]).astype(dtype) * np.array(scale, dtype=dtype)
    changed = transform(**CROPS, flip=True)
    for place in range(8):
        shown = changed(pixels, 2, place)
        assert shown.shape == (6, 32, 32) and shown.dtype == dtype and np.array_equal(shown[:3], shown[:2:-1])
        expected = changed(photograph(), 2, place)
        clipped = np.clip(shown[:3] / scale, 0, 255)
        assert np.abs(clipped - expected).max() <= (0 if dtype == "uint8" else 1.2)


def test_arrays_of_grey_and_rgb_are_the_pictures_that_they_show():
    changed = transform(**CROPS, auto_augment="rand-m9-mstd0.5-inc1")
    assert np.array_equal(changed(as_array(photograph()), 0, 1), changed(photograph(), 0, 1))


@pytest.mark.parametrize(("policy", "channels"), [("rand-m10-n8-p1-inc1", 3), ("v0", 3), ("rand-m10-n8-p1-inc1", 1)])
def test_no_bits_kept_is_a_black_image_where_pillow_13_refuses(policy, channels):
    transform = ImageTransform(
        DataConfig(auto_augment=policy), (8, 8), (0.5,) * channels, seed=0, first_step=0, batch_size=64
    )
    image = Image.new("RGB" if channels == 3 else "L", (8, 8), 100 if channels == 1 else (100, 100, 100))
    changed = [np.asarray(transform(image, 0, place)) for place in range(64)]
    assert any(not pixels.any() for pixels in changed)
