"""Is torchvision's VisionTransformer the same model here?"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import vit_b_16
from torchvision.models.vision_transformer import ConvStemConfig, VisionTransformer

from tests.models.convert.agreement import AGREEMENT, assert_agree, assert_drops_alike, random_weights
from vitbench.models import convert
from vitbench.variants import variant

SMALL: dict[str, Any] = {
    "image_size": 16,
    "patch_size": 4,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 16,
    "mlp_dim": 40,
    "num_classes": 5,
}


def conv(out_channels: int, *, stride: int = 2, kernel_size: int = 3) -> ConvStemConfig:
    return ConvStemConfig(out_channels=out_channels, kernel_size=kernel_size, stride=stride)


MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {"pool": "cls", "stem": "patch", "norm_eps": 1e-6}),
    "tanh layer in the head": ({"representation_size": 16}, {"head": "mlp"}),
    "conv stem": ({"conv_stem_configs": [conv(6), conv(12)]}, {"stem": "conv", "stem_width": 6}),
    "another epsilon": ({"norm_layer": partial(nn.LayerNorm, eps=1e-3)}, {"norm_eps": 1e-3}),
    "one patch": ({"patch_size": 16}, {"patch_size": 16}),
}


@pytest.mark.against("torchvision", "logits and all gradients, patches and conv stem", AGREEMENT)
@pytest.mark.parametrize("name", MODELS)
def test_outputs_and_gradients_are_torchvision_s(name):
    arguments, fields = MODELS[name]
    model = assert_agree(convert.from_torchvision, random_weights(VisionTransformer(**SMALL | arguments)))
    assert {field: getattr(model.config, field) for field in fields} == fields


def test_its_base_model_is_ours():
    with torch.device("meta"):
        peer = vit_b_16()
    assert convert.from_torchvision(peer).config == variant("B/16")


@pytest.mark.against("torchvision", "where training drops out, by a dropout that counts", "1e-9")
def test_training_drops_out_where_torchvision_does(monkeypatch):
    assert_drops_alike(convert.from_torchvision, VisionTransformer(**SMALL, dropout=0.1), monkeypatch)


@pytest.mark.parametrize("head", [nn.Linear(16, 7), nn.Identity()])
def test_a_head_that_was_replaced_for_fine_tuning_is_converted(head):
    peer = VisionTransformer(**SMALL)
    peer.heads = head
    assert_agree(convert.from_torchvision, random_weights(peer))


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (
            nn.Sequential(OrderedDict(drop=nn.Dropout(0.5), head=nn.Linear(16, 5))),
            "^heads.drop 0.5 cannot be expressed",
        ),
        (nn.Sequential(OrderedDict(head=nn.Linear(16, 5, bias=False))), "^heads.head.bias None cannot be expressed"),
    ],
)
def test_another_head_is_refused(head, says):
    peer = VisionTransformer(**SMALL)
    peer.heads = head
    with pytest.raises(ValueError, match=says):
        convert.from_torchvision(peer)


def test_rates_of_dropout_are_kept():
    config = convert.from_torchvision(VisionTransformer(**SMALL, dropout=0.1, attention_dropout=0.2)).config
    assert (config.dropout, config.attention_dropout) == (0.1, 0.2)


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("representation_size", {"representation_size": 8}),
        ("conv_stem_configs", {"conv_stem_configs": [conv(6), conv(6)]}),
        ("conv_stem_configs", {"conv_stem_configs": [conv(6), conv(12, kernel_size=1)]}),
        ("conv_stem_configs", {"conv_stem_configs": [conv(6), conv(12), conv(24, stride=1)]}),
        ("conv_stem_configs", {"patch_size": 8, "conv_stem_configs": [conv(6), conv(12)]}),
        ("norm_layer", {"norm_layer": nn.RMSNorm}),
    ],
)
def test_what_cannot_be_expressed_is_refused_by_torchvision_s_name_of_the_field(field, arguments):
    peer = VisionTransformer(**SMALL | arguments)
    with pytest.raises(ValueError, match=rf"^{field} .* cannot be expressed: "):
        convert.from_torchvision(peer)


def test_another_nonlinearity_is_refused():
    peer = VisionTransformer(**SMALL)
    for layer in peer.encoder.layers:
        layer.mlp[1] = nn.SiLU()
    with pytest.raises(ValueError, match=r"^activation_layer 'SiLU' cannot be expressed: activations are gelu"):
        convert.from_torchvision(peer)
