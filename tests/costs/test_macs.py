"""Does the closed form count what one counts by hand?"""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vitbench.config import ViTConfig
from vitbench.costs.counts import Counts
from vitbench.costs.macs import count, count_parts, training_flops_per_image, unread_macs, unread_sentence
from vitbench.models import build_model
from vitbench.variants import variant

TINY = ViTConfig(image_size=8, patch_size=4, in_channels=1, width=6, depth=1, num_heads=2, mlp_ratio=2, num_classes=3)
"""4 patches of 16 pixels and a class token: 5 tokens of 6 channels."""


def test_the_counts_of_a_model_of_one_block_are_those_written_out_by_hand():
    assert count_parts(TINY) == {
        "stem": Counts(params=16 * 6 + 6, macs=4 * 16 * 6, activations=4 * 6),
        "tokens": Counts(params=6),
        "position": Counts(params=5 * 6),
        "blocks.0": Counts(
            params=12 + (6 * 18 + 18) + (6 * 6 + 6) + 12 + (6 * 12 + 12) + (12 * 6 + 6),
            macs=5 * (6 * 18 + 6 * 6 + 6 * 12 + 12 * 6) + 2 * (5 * 5 * 3 + 5 * 5 * 3),
            activations=5 * (18 + 6 + 12 + 6) + 2 * (5 * 5 + 5 * 3),
        ),
        "norm": Counts(params=12),
        "pool": Counts(),
        "head": Counts(params=6 * 3 + 3, macs=6 * 3, activations=3),
    }


def test_attention_pooling_costs_what_one_counts_by_hand():
    params = 6 + (6 * 6 + 6) + (6 * 12 + 12) + (6 * 6 + 6) + 12 + (6 * 12 + 12) + (12 * 6 + 6)
    macs = 6 * 6 + 4 * 6 * 12 + 2 * 2 * 4 * 3 + 6 * 6 + 6 * 12 + 12 * 6
    activations = 6 + 4 * 12 + 2 * (4 + 3) + 6 + 12 + 6
    parts = count_parts(TINY.replace(pool="map"))
    assert parts["pool"] == Counts(params, macs, activations)
    assert parts["tokens"] == Counts()  # there is no class token then


def test_the_parts_add_up_to_the_model_and_training_is_three_forwards_of_two_flops_a_mac():
    config = variant("Ti/16", pool="map", num_registers=4, head="mlp", position="relative", position_site="every_layer")
    parts = list(count_parts(config).values())
    whole = count(config)
    assert whole.params == sum(part.params for part in parts)
    assert whole.macs == sum(part.macs for part in parts)
    assert whole.activations == sum(part.activations for part in parts)
    assert training_flops_per_image(config) == 6 * whole.macs


@pytest.mark.parametrize(("site", "tables"), [("every_layer", 2), ("every_layer_shared", 1)])
def test_relative_position_costs_its_product_with_every_offset_in_every_block(site, tables):
    relative = count_parts(TINY.replace(depth=2, position="relative", position_site=site))
    plain = count_parts(TINY.replace(depth=2, position="none"))
    assert relative["position"] == Counts(params=tables * 7 * 6)  # 4 patches have offsets from −3 to 3
    for block in ("blocks.0", "blocks.1"):
        assert relative[block] == plain[block] + Counts(macs=2 * 4 * 7 * 3, activations=2 * 4 * 7)


def test_the_image_size_changes_macs_and_of_the_parameters_only_the_position_table():
    small, large = (count(variant("Ti/16", image_size=size)) for size in (224, 384))
    assert large.params - small.params == (24**2 - 14**2) * 192
    assert 24**2 / 14**2 < large.macs / small.macs < (24**2 / 14**2) ** 2


@pytest.mark.parametrize("pool", ["cls", "gap", "mean_all", "map"])
@pytest.mark.parametrize("fields", [{}, {"num_registers": 2, "activation": "swiglu"}, {"depth": 1}])
def test_what_pooling_leaves_unread_is_what_the_model_computes_less_than_is_counted(pool, fields):
    config = ViTConfig(
        **{"image_size": 16, "patch_size": 4, "width": 48, "depth": 2, "num_heads": 3, "num_classes": 5, "pool": pool}
        | fields
    )
    with FlopCounterMode(display=False) as counter:
        build_model(config)(torch.zeros(1, 3, 16, 16))
    assert unread_macs(config) == count(config).macs - counter.get_total_flops() // 2
    assert (unread_macs(config) > 0) is (pool == "cls")


def test_what_is_unread_by_hand():
    # Micro/4 at 32 pixels: 65 tokens of 64 channels, of which 64 are not read. Attention 2 × 64 × 65 × 64, projection
    # 64 × 64², MLP 64 × 2 × 64 × 128.
    micro = variant("Micro/4", image_size=32, num_classes=10)
    assert unread_macs(micro) == 532_480 + 262_144 + 1_048_576
    share = f"{100 * 1_843_200 / count(micro).macs:.2g} %"
    assert f"at least {share} (a; b)." in unread_sentence({"a": micro, "b": micro})
    assert unread_sentence({"gap": micro.replace(pool="gap")}) == ""
