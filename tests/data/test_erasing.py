"""Are rectangles erased as timm's RandomErasing does it?"""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from scipy import stats
from timm.data.random_erasing import RandomErasing

from vitbench.data.erasing import erase

NUMBER = 3000


def erased(shape: tuple[int, int, int], probability: float, mode: str, number: int = NUMBER) -> torch.Tensor:
    draws, noise = np.random.RandomState(0), np.random.RandomState(1)
    return erase(torch.full((number, *shape), 9.0), probability, mode, draws, noise)


def rectangles(images: torch.Tensor) -> np.ndarray:
    """(top, left, height, width) of what is not 9, for the images where something is not."""
    rows = []
    for changed in (images[:, 0] != 9).numpy():
        if changed.any():
            down, right = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
            top, left, height, width = down[0], right[0], len(down), len(right)
            assert changed[top : top + height, left : left + width].all() and changed.sum() == height * width
            rows.append((top, left, height, width))
    return np.array(rows)


@pytest.mark.against("timm", "rectangles of RandomErasing: binomial and KS tests", "p > 0.001")
@pytest.mark.parametrize("size", [(32, 32), (24, 40), (6, 6), (3, 30)])
def test_rectangles_are_distributed_as_timms(size):
    ours = rectangles(erased((1, *size), 0.6, "const"))
    random.seed(0)
    theirs = rectangles(RandomErasing(0.6, mode="const", device="cpu")(torch.full((NUMBER, 1, *size), 9.0)))
    table = [[len(found), NUMBER - len(found)] for found in (ours, theirs)]
    assert stats.chi2_contingency(table).pvalue > 0.001
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > 0.001, column
    assert stats.ks_2samp(ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3]).pvalue > 0.001


def test_pixels_are_normal_noise_a_colour_one_value_per_channel_and_const_the_mean():
    noise = erased((3, 32, 32), 0.99, "pixel", 300)
    values = noise[noise != 9].numpy()
    assert stats.kstest(values, "norm").pvalue > 0.001
    for image in erased((3, 32, 32), 0.99, "rand", 50):
        colours = [set(channel[channel != 9].tolist()) for channel in image]
        assert {len(colour) for colour in colours} <= {0, 1} and (colours[0] != colours[1] or not colours[0])
    const = erased((3, 32, 32), 0.5, "const", 50)
    assert set(const.flatten().tolist()) == {0, 9}


def test_all_channels_of_an_image_lose_the_same_rectangle():
    changed = erased((5, 16, 12), 0.8, "pixel", 50) != 9
    assert (changed == changed[:, :1]).all() and changed.any()


def test_images_given_are_left_alone_and_nothing_is_erased_from_one_pixel():
    images = torch.full((20, 1, 8, 8), 9.0)
    erase(images, 0.9, "const", np.random.RandomState(0), np.random.RandomState(0))
    assert (images == 9).all()
    assert (erased((3, 1, 1), 0.9, "const", 20) == 9).all()
