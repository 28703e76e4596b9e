"""Are images rotated, sheared and translated as Pillow does it, bit by bit?"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import auto_augment as timm_policies

from tests.data.pillow import IMAGES, SHAPES, by_pillow, images_of_all_kinds
from vitbench.data import affine as module
from vitbench.data.affine import affine, rotation

SHARES = np.random.RandomState(3).uniform(-0.45, 0.45, IMAGES)
SHARES[:5] = 0, 0.25, -0.25, 0.45, 1 / 32
FILL = (100, 150, 200)


def matrices(name: str, values: np.ndarray, height: int, width: int) -> np.ndarray:
    by_name = {
        "rotate": lambda value: rotation(value, width, height),
        "shear_x": lambda value: (1, value, 0, 0, 1, 0),
        "shear_y": lambda value: (1, 0, 0, value, 1, 0),
        "translate_x_rel": lambda value: (1, 0, value * width, 0, 1, 0),
        "translate_y_rel": lambda value: (1, 0, 0, 0, 1, value * height),
    }
    return np.array([by_name[name](value) for value in values], dtype=np.float64)


@pytest.mark.against("Pillow", "rotations, shears and translations of batches, as timm calls them", "exact")
@pytest.mark.parametrize("bicubic", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["rotate", "shear_x", "shear_y", "translate_x_rel", "translate_y_rel"])
def test_each_move_is_pillows(name, shape, bicubic):
    channels, height, width = shape
    images = images_of_all_kinds(shape)
    values = SHARES * (200 if name == "rotate" else 1)
    options = {
        "fillcolor": FILL[:channels],
        "resample": Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR,
    }
    change = getattr(timm_policies, name)
    expected = by_pillow(images, lambda image, value: change(image, value, **options), values.tolist())
    result = affine(images, matrices(name, values, height, width), bicubic=bicubic, fill=FILL[:channels])
    assert torch.equal(result, expected)


def test_large_batches_are_moved_in_parts_that_fit_into_memory(monkeypatch):
    images = images_of_all_kinds((3, 9, 7))
    moves = matrices("rotate", SHARES * 60, 9, 7)
    whole = affine(images, moves, bicubic=True, fill=FILL)
    monkeypatch.setattr(module, "_PIXELS_AT_ONCE", 5 * 63)
    assert torch.equal(affine(images, moves, bicubic=True, fill=FILL), whole)


def test_any_number_of_channels_is_moved():
    images = torch.cat([images_of_all_kinds((3, 9, 7))] * 2, dim=1)[:, :5]
    moves = matrices("shear_x", SHARES, 9, 7)
    result = affine(images, moves, bicubic=True, fill=(1, 2, 3, 4, 5))
    for channel in range(5):
        part = images[:, channel : channel + 1]
        assert torch.equal(result[:, channel], affine(part, moves, bicubic=True, fill=(channel + 1,))[:, 0])
