"""Do the closed forms of comparators count what runs, and is every other model of timm counted by what runs?"""

from __future__ import annotations

import pytest
import torch

from vitbench.config import TimmConfig
from vitbench.costs import count
from vitbench.costs.comparators import closed_form
from vitbench.costs.counters import NORMS, count_timm, fvcore_operations
from vitbench.models import build_model

BASIC = {"basic": True, "bottle_ratio": 1.0}
CLOSED = [
    ("resnetv2.ResNetV2", {"layers": [2, 2], "channels": [32, 64], "stem_chs": 32, **BASIC}, 32, 3),
    ("resnetv2.ResNetV2", {"layers": [1, 2, 1], "channels": [64, 64, 96], "stem_chs": 32, **BASIC}, (28, 36), 1),
    ("resnetv2_18", {"layers": [2, 1], "channels": [24, 40], "stem_chs": 16}, 28, 1),
    ("mlp_mixer.MlpMixer", {"patch_size": 4, "num_blocks": 3, "embed_dim": 48}, 32, 3),
    ("mlp_mixer.MlpMixer", {"patch_size": 7, "num_blocks": 1, "embed_dim": 40}, 28, 1),
]


@pytest.mark.parametrize(("name", "options", "image_size", "channels"), CLOSED)
def test_closed_forms_are_what_two_counters_see_of_the_built_model(name, options, image_size, channels):
    config = TimmConfig(timm=name, options=options, image_size=image_size, in_channels=channels, num_classes=10)
    expected = closed_form(config)
    assert count(config) == expected == count_timm(config)
    model = build_model(config).eval()
    operations = fvcore_operations(model, torch.zeros(1, channels, *config.image_hw))
    uncounted = (*NORMS, "adaptive_avg_pool2d")
    assert sum(macs for name, macs in operations[""].items() if name not in uncounted) == expected.macs
    assert sum(p.numel() for p in model.parameters()) == expected.params


def test_a_mixer_by_hand():
    # 4 patches of 16 pixels × 8 channels; tokens 4 → 4 → 4 at 8 channels, channels 8 → 32 → 8 at 4 tokens; 10 classes.
    config = TimmConfig(
        timm="mlp_mixer.MlpMixer",
        options={"patch_size": 4, "num_blocks": 1, "embed_dim": 8},
        image_size=8,
        in_channels=1,
        num_classes=10,
    )
    assert count(config).macs == 4 * 16 * 8 + 8 * (4 * 4 + 4 * 4) + 4 * (8 * 32 + 32 * 8) + 8 * 10


def test_others_are_counted_by_what_runs_as_timm_publishes_it():
    # timm's results table: 1.82 GMACs and 11.69 M parameters.
    counts = count(TimmConfig(timm="resnet18"))
    assert counts.params == 11_689_512 and counts.macs == pytest.approx(1.82e9, rel=0.005)
    assert closed_form(TimmConfig(timm="mlp_mixer.MlpMixer", options={"embed_dim": 8})) is None


@pytest.mark.parametrize("options", [{}, {"global_pool": ""}])
def test_what_cannot_run_on_such_images_is_refused_in_a_line(options):
    with pytest.raises(ValueError, match="timm 'vgg11' cannot") as refused:
        count(TimmConfig(timm="vgg11", image_size=8, options=options))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnetv2_18", {"layers": 3, "channels": [8], "stem_chs": 8}),
        ("mlp_mixer.MlpMixer", {"patch_size": "x", "num_blocks": 1, "embed_dim": 8}),
        ("mlp_mixer.MlpMixer", {"patch_size": 0, "num_blocks": 1, "embed_dim": 8}),
    ],
)
def test_options_of_the_wrong_kind_are_refused_in_the_words_of_timm(name, options):
    with pytest.raises(ValueError, match=f"timm '{name}' with options .* cannot be made") as refused:
        count(TimmConfig(timm=name, image_size=32, options=options))
    assert "\n" not in str(refused.value)
