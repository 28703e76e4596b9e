"""Are brightness, contrast and saturation varied as torchvision's ColorJitter varies them?"""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torchvision.transforms import ColorJitter
from torchvision.transforms import functional as peer

from tests.data.pillow import IMAGES, SHAPES, by_pillow, images_of_all_kinds
from vitbench.data.color_jitter import color_jitter, draw_jitter

CHANGES = (peer.adjust_brightness, peer.adjust_contrast, peer.adjust_saturation)


@pytest.mark.against("torchvision", "colours of Pillow images, jittered in every order", "exact")
@pytest.mark.parametrize("shape", SHAPES)
def test_images_are_those_of_torchvision_for_the_same_factors(shape):
    images = images_of_all_kinds(shape)
    factors, orders = draw_jitter(np.random.RandomState(0), IMAGES, 0.9)
    orders[:6] = list(permutations(range(3)))

    def change(image: Image.Image, factors: np.ndarray, order: np.ndarray) -> Image.Image:
        for number in order:
            image = CHANGES[number](image, factors[number])
        return image

    before = images.clone()
    assert torch.equal(color_jitter(images, factors, orders), by_pillow(images, change, factors, orders))
    assert torch.equal(images, before)


@pytest.mark.against("torchvision", "factors and orders of ColorJitter: KS and chi-square tests", "p > 0.001")
@pytest.mark.parametrize("strength", [0.3, 1.5])
def test_factors_and_orders_are_distributed_as_torchvisions(strength):
    number = 3000
    factors, orders = draw_jitter(np.random.RandomState(1), number, strength)
    torch.manual_seed(0)
    limits = ColorJitter(strength, strength, strength)
    drawn = [ColorJitter.get_params(limits.brightness, limits.contrast, limits.saturation, None) for _ in range(number)]
    for column in range(3):
        assert stats.ks_2samp(factors[:, column], [values[1 + column] for values in drawn]).pvalue > 0.001
    expected = [tuple(int(i) for i in values[0] if i < 3) for values in drawn]
    ours = [tuple(order) for order in orders.tolist()]
    table = [[found.count(order) for order in permutations(range(3))] for found in (ours, expected)]
    assert stats.chi2_contingency(table).pvalue > 0.001
