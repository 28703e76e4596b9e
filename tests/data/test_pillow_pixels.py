"""Does each operation give Pillow's levels, bit by bit, for images of all kinds and every argument?"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter, ImageOps
from timm.data import auto_augment as timm_policies

from tests.data.pillow import IMAGES, SHAPES, by_pillow, images_of_all_kinds
from vitbench.data.pillow_pixels import (
    BY_NEIGHBOURS,
    BY_TABLE,
    gaussian_blur,
    look_up,
    luma,
    posterize,
    smooth,
)

FACTORS = np.array([0, 0.1, 0.5, 0.999, 1, 1.001, 1.9, 3.7] * 3)
ARGUMENTS = {
    "solarize": np.array([0, 1, 26, 127, 128, 255, 256, 200] * 3, dtype=float),
    "solarize_add": np.array([0, 1, 50, 99, 110, 128, 64, 33] * 3, dtype=float),
    "posterize": np.array([1, 2, 3, 4, 5, 6, 7, 8] * 3, dtype=float),
    "brightness": FACTORS,
    "contrast": FACTORS,
    "color": FACTORS,
    "sharpness": FACTORS,
    "gaussian_blur": np.array([0.1, 0.3, 0.7, 1, 1.4, 2, 3, 6.5] * 3),
}
WHOLE = ("solarize", "solarize_add", "posterize")


@pytest.mark.against("Pillow", "every operation on pixels that timm's policies have, on batches", "exact")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", [*BY_TABLE, *BY_NEIGHBOURS])
def test_each_operation_is_pillows(name, shape):
    images = images_of_all_kinds(shape)
    arguments = ARGUMENTS.get(name, np.zeros(IMAGES))
    before = images.clone()
    change_batch = BY_NEIGHBOURS.get(name) or (lambda images, values: look_up(images, BY_TABLE[name](images, values)))
    result = change_batch(images, arguments)
    change = getattr(timm_policies, name)
    values = [[int(a) if name in WHOLE else float(a) for a in arguments]] if name in ARGUMENTS else []
    assert torch.equal(result, by_pillow(images, change, *values)) and torch.equal(images, before)


@pytest.mark.parametrize("shape", SHAPES)
def test_grey_and_smooth_are_pillows(shape):
    images = images_of_all_kinds(shape)
    assert torch.equal(luma(images), by_pillow(images, lambda image: image.convert("L")))
    assert torch.equal(smooth(images), by_pillow(images, lambda image: image.filter(ImageFilter.SMOOTH)))


def test_no_bits_kept_is_black_where_pillow_13_refuses():
    images = images_of_all_kinds((3, 8, 8))
    bits = np.repeat([0.0, -2, 8, 9], IMAGES // 4)
    result = look_up(images, posterize(images, bits))
    assert not result[: IMAGES // 2].any() and torch.equal(result[IMAGES // 2 :], images[IMAGES // 2 :])


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 5), (3, 2, 2), (1, 3, 3)])
def test_images_of_few_pixels_are_pillows_too(shape):
    images = torch.from_numpy(np.random.RandomState(1).randint(256, size=(4, *shape)).astype(np.uint8))
    assert torch.equal(smooth(images), by_pillow(images, lambda image: image.filter(ImageFilter.SMOOTH)))
    radii = np.array([0.2, 1, 2, 5])
    blurred = by_pillow(images, lambda image, r: image.filter(ImageFilter.GaussianBlur(r)), radii.tolist())
    assert torch.equal(gaussian_blur(images, radii), blurred)
    for name, peer in (("equalize", ImageOps.equalize), ("auto_contrast", ImageOps.autocontrast)):
        assert torch.equal(look_up(images, BY_TABLE[name](images, np.zeros(4))), by_pillow(images, peer)), name


def test_every_function_of_timms_policies_is_there():
    names = {function.__name__ for function in timm_policies.NAME_TO_OP.values()}
    by_another = {"gaussian_blur_rand", "desaturate"}
    moves = {"rotate", "shear_x", "shear_y", "translate_x_rel", "translate_y_rel"}
    in_no_policy = {"translate_x_abs", "translate_y_abs"}
    assert names == {*BY_TABLE, *BY_NEIGHBOURS} | by_another | moves | in_no_policy
    assert timm_policies._RANDOM_INTERPOLATION[1] == Image.Resampling.BICUBIC
