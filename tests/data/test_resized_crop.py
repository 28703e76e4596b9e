"""Is a random resized crop drawn as torchvision draws it, and resized as Pillow resizes it?"""

from __future__ import annotations

import random
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from timm.data.transforms import RandomResizedCropAndInterpolation

from tests.data.pillow import IMAGES, SHAPES, by_pillow, images_of_all_kinds
from vitbench.data.resized_crop import Boxes, draw_boxes, resized_crop

RATIO = (3 / 4, 4 / 3)


def boxes_of(batch: int, size: tuple[int, int], scale=(0.08, 1.0), ratio=RATIO, seed=0) -> Boxes:
    return draw_boxes(np.random.RandomState(seed), batch, size, scale, ratio)


@pytest.mark.against("Pillow", "crops resized to the image's size, bilinear and bicubic, on batches", "exact")
@pytest.mark.parametrize("shape", SHAPES)
def test_a_crop_is_resized_as_by_pillow(shape):
    _, height, width = shape
    images = images_of_all_kinds(shape)
    boxes = boxes_of(IMAGES, (height, width))
    bicubic = np.arange(IMAGES) % 2 == 1

    def change(image: Image.Image, top: int, left: int, h: int, w: int, cubic: bool) -> Image.Image:
        box = image.crop((left, top, left + w, top + h))
        return box.resize((width, height), Image.Resampling.BICUBIC if cubic else Image.Resampling.BILINEAR)

    expected = by_pillow(images, change, boxes.top, boxes.left, boxes.height, boxes.width, bicubic)
    assert torch.equal(resized_crop(images, boxes, bicubic), expected)


def test_the_whole_image_is_left_as_it_is():
    images = images_of_all_kinds((3, 9, 7))
    zeros = np.zeros(IMAGES, dtype=np.int64)
    whole = Boxes(zeros, zeros, zeros + 9, zeros + 7)
    for kind in (np.uint8, np.float32):
        typed = torch.from_numpy(images.numpy().astype(kind))
        assert torch.equal(resized_crop(typed, whole, zeros == 0), typed)


@pytest.mark.against("Pillow", "crops of float images resized, with mode F", "1e-6")
def test_images_of_other_types_and_channels_are_resized_without_steps():
    images = torch.cat([images_of_all_kinds((3, 9, 7))] * 2, dim=1)[:, :4]
    boxes, cubic = boxes_of(IMAGES, (9, 7)), np.ones(IMAGES, dtype=bool)
    floats = resized_crop(images.float() / 255, boxes, cubic)
    assert floats.dtype == torch.float32 and floats.shape == images.shape
    for i, channel in product(range(IMAGES), range(4)):
        top, left, height, width = boxes.top[i], boxes.left[i], boxes.height[i], boxes.width[i]
        box = Image.fromarray(images[i, channel].numpy().astype(np.float32) / 255)
        box = box.crop((left, top, left + width, top + height)).resize((7, 9), Image.Resampling.BICUBIC)
        np.testing.assert_allclose(floats[i, channel].numpy(), np.asarray(box), atol=1e-6)


@pytest.mark.against("timm", "boxes of RandomResizedCropAndInterpolation, by two-sample KS tests", "p > 0.001")
@pytest.mark.parametrize(
    ("size", "scale", "ratio"),
    [
        ((32, 32), (0.08, 1.0), RATIO),
        ((40, 24), (0.35, 1.0), RATIO),
        ((32, 32), (0.9, 1.0), (0.25, 0.5)),  # which often takes ten tries, and the fallback
        ((9, 64), (0.5, 0.9), RATIO),  # which always does
    ],
)
def test_boxes_are_distributed_as_timms(size, scale, ratio):
    number = 4000
    boxes = boxes_of(number, size, scale, ratio)
    image = Image.new("L", size[::-1])
    random.seed(5)
    expected = np.array([RandomResizedCropAndInterpolation.get_params(image, scale, ratio) for _ in range(number)])
    ours = np.stack([boxes.top, boxes.left, boxes.height, boxes.width], axis=1)
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], expected[:, column]).pvalue > 0.001, column
    area = [(rows[:, 2] * rows[:, 3]) for rows in (ours, expected)]
    assert stats.ks_2samp(*area).pvalue > 0.001


def test_boxes_lie_within_the_image_and_reach_its_corners():
    boxes = boxes_of(2000, (8, 6), scale=(0.2, 1.0))
    assert (boxes.top >= 0).all() and (boxes.top + boxes.height <= 8).all() and (boxes.height > 0).all()
    assert (boxes.left >= 0).all() and (boxes.left + boxes.width <= 6).all() and (boxes.width > 0).all()
    assert boxes.top.min() == 0 and (boxes.top + boxes.height).max() == 8
    assert boxes.left.min() == 0 and (boxes.left + boxes.width).max() == 6


def test_an_image_of_one_pixel_has_one_crop():
    boxes = boxes_of(50, (1, 1), scale=(0.01, 1.0))
    assert set(boxes.height) == set(boxes.width) == {1} and not boxes.top.any() and not boxes.left.any()
