"""Do two arms of one seed start equal where they are alike, and does nothing but (seed, name) decide?"""

from __future__ import annotations

import hashlib
import math

import pytest
import torch

from tests.models.small_models import small_config, stirred
from vitbench.config import ViTConfig
from vitbench.models import build_model

PAIRS = [
    ({"pool": "cls"}, {"pool": "gap"}),
    ({"pool": "cls"}, {"pool": "map"}),
    ({"pool": "cls"}, {"pool": "mean_all"}),
    ({"position": "learned_1d"}, {"position": "none"}),
    ({"position": "learned_1d"}, {"position": "learned_2d"}),
    ({"position": "relative", "position_site": "every_layer"}, {"position": "sincos_2d"}),
    ({"stem": "patch"}, {"stem": "patch_norm"}),
    ({"stem": "patch"}, {"stem": "conv"}),
    ({"head": "linear"}, {"head": "mlp"}),
    ({"num_registers": 0}, {"num_registers": 2}),
    ({"depth": 3}, {"depth": 2}),
    ({"layer_scale": None}, {"layer_scale": 0.1}),
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_what_two_arms_of_a_seed_share_starts_bit_equal(one, other):
    first = dict(build_model(small_config(**one), seed=3).named_parameters())
    second = dict(build_model(small_config(**other), seed=3).named_parameters())
    shared = [name for name in first if name in second and first[name].shape == second[name].shape]
    assert {"blocks.0.attention.qkv.weight", "blocks.1.mlp.fc2.weight", "head.classifier.weight"} <= set(shared)
    assert set(first) != set(second) or one == {"pool": "cls"}
    for name in shared:
        assert torch.equal(first[name], second[name]), name


def test_seeds_differ_in_every_random_parameter():
    config = small_config(position="relative", position_site="every_layer", pool="map", num_registers=1, head="mlp")
    first, second = (dict(build_model(config, seed=seed).named_parameters()) for seed in (0, 1))
    for name in first:
        assert torch.equal(first[name], second[name]) == (name.endswith("bias") or "norm" in name), name


def test_parameters_of_equal_shape_differ_from_each_other():
    named = dict(build_model(small_config()).named_parameters())
    assert not torch.equal(named["blocks.0.attention.qkv.weight"], named["blocks.1.attention.qkv.weight"])


@pytest.mark.parametrize("stem", [{}, {"stem": "conv"}, {"stem": "resnet", "stem_layers": (1,), "patch_size": 4}])
def test_the_state_of_the_global_generator_plays_no_part(stem):
    torch.manual_seed(0)
    first = build_model(small_config(**stem)).state_dict()
    torch.manual_seed(1)
    torch.rand(7)
    second = build_model(small_config(**stem)).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_first_values_of_a_seed_are_those_of_its_key():
    # key = first 63 bits of SHA-256("7:class_token"), recomputed here.
    seed = int(hashlib.sha256(b"7:class_token").hexdigest()[:16], 16) // 2
    expected = torch.empty(1, 16).normal_(0.0, 0.25, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(build_model(small_config(), seed=7).class_token, expected)


def test_spreads_are_those_of_the_definition():
    model = build_model(ViTConfig(image_size=64, width=256, num_heads=4, depth=1, num_classes=100))
    block, table = model.blocks[0], model.position.tables[0].table
    for layer, fan_in, fan_out in [
        # Glorot & Bengio 2010, eq. 16; q, k and v are three layers of 256 → 256.
        (block.attention.qkv, 256, 256),
        (block.attention.proj, 256, 256),
        (block.mlp.fc1, 256, 1024),
        (block.mlp.fc2, 1024, 256),
        (model.stem.proj, 768, 256),
    ]:
        bound = math.sqrt(6 / (fan_in + fan_out))
        assert 0.99 * bound < layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)
        assert not layer.bias.any()
    assert model.head.classifier.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert table.std().item() == pytest.approx(1 / 16, rel=0.05)
    assert torch.equal(block.norm1.weight, torch.ones(256)) and not block.norm1.bias.any()


@pytest.mark.parametrize(
    ("position", "site"), [("learned_1d", "stem"), ("learned_2d", "stem"), ("relative", "every_layer_shared")]
)
def test_position_tables_of_all_kinds_start_at_one_scale(position, site):
    model = build_model(
        ViTConfig(image_size=128, patch_size=4, width=256, num_heads=4, depth=1, position=position, position_site=site)
    )
    tables = [p for name, p in model.named_parameters() if name.endswith((".table", ".rows", ".columns"))]
    assert tables
    for table in tables:
        assert table.std().item() == pytest.approx(1 / 16, rel=0.05)


def test_no_two_calls_share_storage():
    one, two = build_model(small_config()), build_model(small_config())
    before = two.class_token.clone()
    stirred(one)
    assert torch.equal(two.class_token, before)
