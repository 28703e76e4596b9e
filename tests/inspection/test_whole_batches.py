"""Which models are told to need their batch whole? Those with BatchNorm, wherever it comes from, and no others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.inspection import bad_parts
from tests.models import users_parts
from vitbench.config import TimmConfig, ViTConfig
from vitbench.inspection.whole_batches import batch_dependence
from vitbench.models import build_model
from vitbench.user_code import register

SMALL = ViTConfig(
    image_size=32, in_channels=1, patch_size=16, width=32, depth=1, num_heads=2, num_classes=4, pool="gap"
)


def has_batch_norm(config: object) -> bool:
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in build_model(config).modules())


@pytest.mark.parametrize(
    "changes",
    [{}, {"stem": "patch_norm"}, {"stem": "conv", "stem_width": 8}, {"stem": "resnet", "stem_layers": (1, 1)}],
    ids=lambda changes: changes.get("stem", "patch"),
)
def test_of_our_models_it_is_known_without_building_them(changes):
    config = SMALL.replace(**{"patch_size": 8, **changes})
    assert bool(batch_dependence(config)) == has_batch_norm(config)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "convnext_atto", "mixer_s32_224", "resnetv2_18"])
def test_of_models_of_timm_the_first_batch_norm_is_named(name):
    config = TimmConfig(timm=name, image_size=32, in_channels=3, num_classes=4)
    reason = batch_dependence(config)
    assert bool(reason) == has_batch_norm(config) and ("BatchNorm" in reason) == bool(reason)


@pytest.mark.parametrize(
    ("role", "part", "says"),
    [
        ("norm", bad_parts.BatchNorm, "(BatchNorm1d)"),
        ("pool", bad_parts.SeesNeighboursInTraining, "logits that depend on the other images of the batch"),
        ("mlp", bad_parts.ReZero, ""),
        ("mlp", bad_parts.TwiceInTraining, ""),
    ],
)
def test_of_users_parts_a_forward_pass_tells(role, part, says):
    reason = batch_dependence(SMALL.replace(**{role: register(part, role)}))
    assert (says in reason) if says else not reason


class Centre(nn.Module):
    """Less a mean over all tokens that it ever saw in training."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(config.width))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean.lerp_(x.detach().flatten(0, -2).mean(0), 0.1)
        return x - self.mean


def test_a_buffer_that_each_forward_pass_changes_would_change_once_a_slice():
    reason = batch_dependence(SMALL.replace(norm=register(Centre, "norm")))
    assert reason.endswith("mean, which each forward pass changes")


@pytest.mark.parametrize(("role", "part"), users_parts.PARTS[:6])
def test_good_parts_are_not_refused(role, part):
    assert batch_dependence(SMALL.replace(**{role: register(part, role)})) == ""
