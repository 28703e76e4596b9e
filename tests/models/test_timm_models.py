"""Is a model of timm, built from its configuration, the one that timm builds, and is what timm refuses refused in a line?"""

from __future__ import annotations

import pytest
import timm
import torch
from timm.models.resnetv2 import ResNetV2

from vitbench.config import RunConfig, TimmConfig
from vitbench.models import build_model

SMALL = {"image_size": 32, "in_channels": 1, "num_classes": 7}
VIT = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}


def test_it_is_what_timm_makes_of_that_name_and_those_arguments_at_that_seed():
    config = TimmConfig(
        timm="vit_tiny_patch16_224", options=VIT | {"global_pool": "avg", "class_token": False}, **SMALL
    )
    model = build_model(config, seed=5).eval()
    torch.manual_seed(5)
    own = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, in_chans=1, num_classes=7, global_pool="avg", class_token=False, **VIT
    ).eval()
    images = torch.rand(2, 1, 32, 32)
    assert torch.equal(model(images), own(images))
    assert torch.equal(model.features(images), own.forward_head(own.forward_features(images), pre_logits=True))


def test_a_class_of_timms_takes_any_of_its_arguments():
    options = {"layers": [1, 1], "channels": [32, 64], "stem_chs": 32, "basic": True, "bottle_ratio": 1.0}
    model = build_model(TimmConfig(timm="resnetv2.ResNetV2", options=options, **SMALL), seed=1).eval()
    torch.manual_seed(1)
    own = ResNetV2(in_chans=1, num_classes=7, **options).eval()
    assert torch.equal(model(torch.ones(2, 1, 32, 32)), own(torch.ones(2, 1, 32, 32)))


def test_building_one_leaves_the_random_numbers_of_others_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    build_model(TimmConfig(timm="resnet18", options={"channels": [8, 8, 8, 8]}, **SMALL))
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("resnet180", {}, "did you mean resnet"),
        ("resnet18.nope", {}, "resnet18 has no weights 'nope'; give resnet18 alone"),
        ("resnet18.a1_in1", {}, "did you mean resnet18.a1_in1k?"),
        ("vit_tiny_patch16_224.", {}, "vit_tiny_patch16_224 has no weights ''"),
        ("resnetv2.ResNetV3", {}, "no such model class"),
        ("resnetv2.partial", {}, "no such model class"),
        ("resnet18", {"depht": 3}, "cannot be made for images of .32, 32. pixels: TypeError"),
        ("vit_tiny_patch16_224", {"embed_dim": 33, "num_heads": 2}, "AssertionError"),
    ],
)
def test_what_timm_does_not_have_is_refused_in_a_line(name, options, says):
    with pytest.raises(ValueError, match=says) as refused:
        build_model(TimmConfig(timm=name, options=options, **SMALL))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"timm": "resnet18", "options": {"in_chans": 3}}, "is said by in_channels"),
        ({"timm": "resnet18", "options": {"pretrained": True}}, "gives weights that the run would not name"),
        ({"timm": "resnet18", "options": {"features_only": True}}, "without logits"),
        ({"timm": "resnet18", "options": {"act_layer": torch.nn.ReLU}}, "is no JSON"),
        ({"timm": "resnet18", "options": {"drop_rate": float("nan")}}, "is no JSON"),
        ({"timm": "resnet 18"}, "timm"),
        ({"timm": "resnet18", "patch_size": 4}, "TimmConfig has no field 'patch_size'"),
    ],
)
def test_a_configuration_without_meaning_is_refused(fields, says):
    with pytest.raises(ValueError, match=says):
        RunConfig(model={**SMALL, **fields})


def test_equal_configurations_have_equal_ids_whatever_their_options_are_written_as():
    one, other = (
        RunConfig(model=TimmConfig(timm="resnet18", options={"channels": channels, "drop_rate": 0.1}, **SMALL))
        for channels in ([8, 8, 8, 8], (8.0, 8, 8, 8))
    )
    assert one == other and one.run_id == other.run_id and hash(one.model) == hash(other.model)
    assert RunConfig.model_validate_json(one.canonical_json()) == one
