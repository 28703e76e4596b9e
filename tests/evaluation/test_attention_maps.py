"""Are distances and rollouts those of maps whose answer is known by hand?"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from vitbench.evaluation.attention_maps import attention_distance, grid_distances, prefix_share, roll_out


def random_maps(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).softmax(dim=-1)


def uniform(tokens: int) -> torch.Tensor:
    return torch.full((1, 1, tokens, tokens), 1 / tokens, dtype=torch.float64)


def test_distances_of_a_grid_are_those_drawn_by_hand():
    # Patches of 4 × 3 pixels: (0, 0), (0, 3), (4, 0), (4, 3).
    expected = [[0, 3, 4, 5], [3, 0, 5, 4], [4, 5, 0, 3], [5, 4, 3, 0]]
    assert grid_distances((2, 2), (4, 3)).tolist() == expected


def test_uniform_attention_has_the_mean_distance_of_the_grid():
    # From a corner of 2 × 2 patches of 4 pixels: 0, 4, 4 and the diagonal.
    found = attention_distance(uniform(4), grid_distances((2, 2), (4, 4)))
    assert found.tolist() == [[pytest.approx((8 + 4 * math.sqrt(2)) / 4)]]
    # Of n places in a row, |i − j| is (n² − 1)/(3n) on average.
    n = 7
    found = attention_distance(uniform(n), grid_distances((1, n), (5, 5)))
    assert found.item() == pytest.approx(5 * (n**2 - 1) / (3 * n))


def test_identity_attention_has_distance_0_and_attention_to_the_right_has_one_patch():
    distances = grid_distances((3, 4), (8, 8))
    assert attention_distance(torch.eye(12)[None, None], distances).item() == 0
    assert attention_distance(torch.eye(64)[None, None], grid_distances((8, 8), (4, 4))).item() == 0
    right = torch.eye(12).roll(1, dims=1)
    right[3::4] = torch.eye(12)[3::4]  # the last of a row has none at its right, and looks at itself
    assert attention_distance(right[None, None], distances).item() == pytest.approx(8 * 9 / 12)


def test_attention_to_prefix_tokens_is_left_out_and_the_rest_scaled():
    distances, maps = grid_distances((2, 3), (4, 4)), random_maps(2, 3, 8, 8)
    patches = maps[..., 2:, 2:].numpy()
    scaled = patches / patches.sum(axis=-1, keepdims=True)
    expected = np.einsum("bhij,ij->bh", scaled, distances.numpy()) / 6
    np.testing.assert_allclose(attention_distance(maps, distances).numpy(), expected, rtol=0, atol=1e-13)
    lost = maps[..., 2:, :2].sum(dim=-1).mean(dim=-1)
    torch.testing.assert_close(prefix_share(maps, 6), lost, rtol=0, atol=1e-13)


def test_a_patch_that_attends_to_the_class_token_alone_has_no_distance_and_does_not_count():
    maps = torch.zeros(1, 1, 3, 3)
    maps[0, 0] = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    assert attention_distance(maps, grid_distances((1, 2), (4, 4))).item() == 4


def roll(*maps: torch.Tensor) -> torch.Tensor:
    rolled = None
    for each in maps:
        rolled = roll_out(each, rolled)
    return rolled


def test_identity_rolls_out_to_itself():
    eye = torch.eye(5, dtype=torch.float64)
    assert torch.equal(roll(*4 * [eye.expand(2, 3, 5, 5)]), eye.expand(2, 5, 5))


def test_uniform_attention_keeps_half_a_layer_and_spreads_the_rest_evenly():
    # ((J/n + I)/2)^L = I/2^L + (1 − 1/2^L) J/n, for J/n is a projection.
    expected = torch.eye(6, dtype=torch.float64) / 2**3 + (1 - 1 / 2**3) / 6
    torch.testing.assert_close(roll(*3 * [uniform(6)])[0], expected, rtol=0, atol=1e-15)


def test_rollout_sums_over_all_paths_from_the_last_layer_to_the_input():
    maps = [random_maps(1, 2, 4, 4, seed=i) for i in range(3)]
    steps = [(each[0].mean(dim=0).numpy() + np.eye(4)) / 2 for each in maps]
    expected = np.zeros((4, 4))
    for top, b, a, bottom in itertools.product(range(4), repeat=4):
        expected[top, bottom] += steps[2][top, b] * steps[1][b, a] * steps[0][a, bottom]
    np.testing.assert_allclose(roll(*maps)[0].numpy(), expected, rtol=0, atol=1e-14)
    np.testing.assert_allclose(roll(*maps)[0].sum(dim=-1).numpy(), 1, rtol=0, atol=1e-14)


def test_rows_that_do_not_add_up_to_1_are_scaled_each_by_its_own_sum():
    # [[2, 1], [0, 4]] + I, halved, is [[1.5, .5], [0, 2.5]]; a division by columns' sums would give another.
    maps = torch.tensor([[[[2.0, 1.0], [0.0, 4.0]]]])
    assert roll_out(maps)[0].tolist() == [[0.75, 0.25], [0, 1]]
