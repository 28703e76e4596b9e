"""Is the code named that puts out infinite values, or none, and no other?"""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

from tests.inspection import bad_parts as parts
from vitbench.config import ModuleConfig, ViTConfig
from vitbench.inspection.lost_numbers import code_that_loses_numbers
from vitbench.models import build_model
from vitbench.user_code import register

BASE = ViTConfig(image_size=16, patch_size=4, width=32, depth=3, num_heads=2, num_classes=10)
IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def model_of(**roles: object) -> nn.Module:
    return build_model(BASE.replace(**{role: register(code, role) for role, code in roles.items()}))


@pytest.mark.parametrize(
    ("roles", "named"),
    [
        ({"position": parts.LostBias}, r"position LostBias@\w{8}\.attention_bias \(position\)"),
        ({"position": parts.NothingSeen}, r"position NothingSeen@\w{8}\.attention_bias \(position\)"),
        ({"position": parts.LostTurn}, r"position LostTurn@\w{8}\.rotate \(position\)"),
        ({"activation": parts.lost}, r"activation lost@\w{8}"),
        ({"head": parts.LostBeforeLogits}, r"head LostBeforeLogits@\w{8}\.pre_logits \(head\)"),
        ({"head": parts.LostLayerBeforeLogits}, r"head LostLayerBeforeLogits@\w{8}\.pre_logits"),
        ({"mlp": parts.LostInTraining}, r"mlp LostInTraining@\w{8} \(blocks\.0\.mlp\)"),
        ({"position": parts.Neighbourhood, "pool": parts.LostPool}, r"pool LostPool@\w{8} \(pool\)"),
        ({"position": parts.LostBias, "pool": parts.LostPool}, r"position LostBias@\w{8}\.attention_bias \(position\)"),
        ({"position": parts.Neighbourhood}, ""),
    ],
)
def test_the_first_code_that_loses_numbers_is_named(roles, named):
    assert re.fullmatch(named, code_that_loses_numbers(model_of(**roles), IMAGES))


def test_a_whole_model_is_named_by_its_module():
    name = register(parts.LostModel, "module")
    config = ModuleConfig(module=name, image_size=16, in_channels=3, num_classes=10)
    assert code_that_loses_numbers(build_model(config), IMAGES) == f"module {name}"


def test_what_computes_with_weights_that_were_lost_is_not_to_blame():
    model = model_of(position=parts.NoPosition, mlp=parts.ReZero)
    for parameter in model.parameters():
        nn.init.constant_(parameter, float("nan"))
    assert code_that_loses_numbers(model, IMAGES) == ""


def test_what_fails_on_numbers_that_another_lost_is_not_to_blame():
    assert "LostTurn" in code_that_loses_numbers(model_of(position=parts.LostTurn, pool=parts.RefusesNaN), IMAGES)


def test_looking_moves_no_generator_and_goes_on_watching_nothing():
    model, state = model_of(mlp=parts.DrawsInEvaluation), torch.get_rng_state()
    code_that_loses_numbers(model, IMAGES)
    assert torch.equal(torch.get_rng_state(), state)
    assert isinstance(model(IMAGES), Tensor) and not model.training
