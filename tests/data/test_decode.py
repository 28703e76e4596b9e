"""Does a stored image become the array that PIL and torchvision would make of it?"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as reference

from vitbench.data.decode import fit


def picture(height: int, width: int, channels: int = 3) -> Image.Image:
    shape = (height, width, 3) if channels == 3 else (height, width)
    return Image.fromarray(np.random.default_rng(1).integers(256, size=shape, dtype=np.uint8))


def test_an_image_of_the_right_size_is_untouched():
    image = picture(6, 9)
    assert np.array_equal(fit(image, (6, 9), 3, "x"), np.asarray(image).transpose(2, 0, 1))


@pytest.mark.parametrize("stored", [(40, 61), (61, 40), (33, 33), (20, 27), (17, 300), (32, 45)])
def test_resize_and_crop_agree_with_torchvision(stored):
    image = picture(*stored)
    resized = reference.resize(image, 32, interpolation=reference.InterpolationMode.BICUBIC)
    expected = reference.pil_to_tensor(reference.center_crop(resized, [32, 32]))
    assert torch.equal(torch.from_numpy(fit(image, (32, 32), 3, "x")), expected)


@pytest.mark.parametrize("stored", [(40, 61), (61, 40), (10, 100), (20, 9), (100, 100)])
def test_a_size_that_is_not_square_is_covered_and_cropped(stored):
    image = Image.new("L", stored[::-1], 200)
    result = fit(image, (24, 10), 1, "x")
    assert result.shape == (1, 24, 10) and (result == 200).all()


def test_grey_becomes_three_equal_channels_in_a_coloured_set():
    result = fit(picture(5, 5, channels=1), (5, 5), 3, "x")
    assert np.array_equal(result[0], result[1]) and np.array_equal(result[0], result[2])


def test_black_and_white_becomes_0_and_255():
    image = Image.fromarray(np.array([[0, 255], [255, 0]], dtype=np.uint8)).convert("1")
    assert fit(image, (2, 2), 1, "x").tolist() == [[[0, 255], [255, 0]]]


def test_a_coloured_image_in_a_grey_set_is_refused_by_name():
    with pytest.raises(ValueError, match=r"^image 'cat/1.png' is coloured \(RGB\)"):
        fit(picture(5, 5), (5, 5), 1, "cat/1.png")


def test_sixteen_bits_are_refused_by_name():
    deep = Image.fromarray(np.full((4, 4), 40000, dtype=np.uint16))
    with pytest.raises(ValueError, match=r"^image 'deep.png' has mode I;16.* convert it to 8 bits$"):
        fit(deep, (4, 4), 1, "deep.png")
