"""Are the einops-style models, vit-pytorch's of today and the ones before, the same models here?"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest
import torch
from torch import nn

from tests.models.convert.agreement import AGREEMENT, assert_agree, assert_drops_alike, random_weights
from tests.models.convert.einops_reference import EinopsViT
from vitbench.models import build_model, convert
from vitbench.models.convert.source import refuse
from vitbench.variants import variant

REFERENCE: dict[str, Any] = {"num_classes": 5, "dim": 16, "depth": 2, "heads": 2, "mlp_dim": 40}
SMALL: dict[str, Any] = {**REFERENCE, "dim_head": 8}
SHAPES: dict[str, dict[str, Any]] = {
    "square": {"image_size": (12, 12), "patch_size": (4, 4)},
    "one grey patch a row": {"image_size": (8, 4), "patch_size": (4, 4), "channels": 1},
    "oblong": {"image_size": (8, 12), "patch_size": (2, 4)},
}
peers = pytest.importorskip("vit_pytorch", reason="vit-pytorch comes with the extra `test`")


@pytest.mark.against("einops-style reference", "logits and all gradients, both poolings", AGREEMENT)
@pytest.mark.parametrize(("pool", "ours"), [("cls", "cls"), ("mean", "mean_all")])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_reference_model_is_the_same_here_in_both_of_its_forms(shape, pool, ours):
    peer = random_weights(EinopsViT(**REFERENCE | SHAPES[shape], pool=pool))
    model = assert_agree(convert.from_vit_pytorch, peer, image_size=SHAPES[shape]["image_size"])
    config = model.config
    assert (config.pool, config.stem, config.position) == (ours, "patch_norm", "learned_1d")
    assert (config.final_norm, config.qkv_bias, config.norm_eps) == ("pooled", False, 1e-5)


@pytest.mark.against("einops-style reference", "B/16 at 224: 197 × 768 tokens", "1e-3 of float32")
def test_the_reference_s_base_model_runs_as_197_tokens_of_768_channels():
    # float32 and default weights here: float64 at this size is tested by the small ones.
    peer = EinopsViT(
        image_size=(224, 224),
        patch_size=(16, 16),
        num_classes=1000,
        dim=768,
        depth=12,
        heads=12,
        mlp_dim=3072,
        pool="cls",
    ).eval()
    model = convert.from_vit_pytorch(peer)
    fields = {"stem": "patch_norm", "qkv_bias": False, "final_norm": "pooled", "norm_eps": 1e-5}
    assert model.config == variant("B/16", **fields)
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tokens, expected = model.tokens(images), peer.tokens(images)
    assert tokens.shape == expected.shape == (1, 197, 768)
    torch.testing.assert_close(tokens, expected, rtol=0, atol=1e-3)


@pytest.mark.against("vit-pytorch", "logits and all gradients, ViT and SimpleViT", AGREEMENT)
@pytest.mark.parametrize(("pool", "ours"), [("cls", "cls"), ("mean", "gap")])
@pytest.mark.parametrize("shape", SHAPES)
def test_vit_is_the_same_here_with_both_poolings(shape, pool, ours):
    peer = random_weights(peers.ViT(**SMALL | SHAPES[shape], pool=pool))
    model = assert_agree(convert.from_vit_pytorch, peer, image_size=SHAPES[shape]["image_size"])
    assert (model.config.pool, model.config.final_norm, model.config.qkv_bias) == (ours, "tokens", False)


@pytest.mark.against("vit-pytorch", "logits and all gradients, ViT and SimpleViT", AGREEMENT)
@pytest.mark.parametrize("shape", SHAPES)
def test_simple_vit_is_the_same_here(shape):
    peer = random_weights(peers.SimpleViT(**SMALL | SHAPES[shape]))
    model = assert_agree(convert.from_vit_pytorch, peer, image_size=SHAPES[shape]["image_size"])
    assert (model.config.pool, model.config.position, model.config.proj_bias) == ("gap", "sincos_2d", False)


def test_patches_without_norms_are_the_paper_s_stem():
    peer = peers.ViT(**SMALL, image_size=12, patch_size=4)
    rearranged, _, linear, _ = peer.to_patch_embedding
    peer.to_patch_embedding = nn.Sequential(rearranged, linear)
    assert assert_agree(convert.from_vit_pytorch, random_weights(peer)).config.stem == "patch"


def test_the_mean_of_today_leaves_the_class_token_out_and_the_one_before_did_not():
    # lucidrains/vit-pytorch#226.
    shape = SHAPES["square"]
    old, new = EinopsViT(**REFERENCE | shape, pool="mean"), peers.ViT(**SMALL | shape, pool="mean")
    assert [convert.from_vit_pytorch(peer).class_token is None for peer in (old, new)] == [False, True]


@pytest.mark.against("vit-pytorch", "where training drops out, by a dropout that counts", "1e-9")
def test_training_drops_out_where_vit_pytorch_does(monkeypatch):
    peer = peers.ViT(**SMALL | SHAPES["square"], dropout=0.1, emb_dropout=0.1)
    assert_drops_alike(convert.from_vit_pytorch, peer, monkeypatch)


@pytest.mark.parametrize(
    "module", ["learnable_memory_vit", "parallel_vit", "local_vit", "simple_flash_attn_vit", "deepvit"]
)
def test_its_other_models_are_refused_in_one_line(module):
    other = importlib.import_module(f"vit_pytorch.{module}")
    kind = next(v for k, v in vars(other).items() if "vit" in k.lower() and isinstance(v, type))
    settings = {"image_size": 12, "patch_size": 4, **SMALL}
    peer = kind(**{name: settings[name] for name in inspect.signature(kind).parameters if name in settings})
    with pytest.raises(ValueError, match="cannot be expressed") as refusal:
        convert.from_vit_pytorch(peer)
    assert "\n" not in str(refusal.value)


def test_rates_of_dropout_are_kept():
    config = convert.from_vit_pytorch(peers.ViT(**SMALL | SHAPES["square"], dropout=0.1, emb_dropout=0.1)).config
    assert (config.dropout, config.attention_dropout) == (0.1, 0.1)


def other_forward(peer: Any) -> None:
    peer.to_latent = nn.Tanh()


def other_dropout(peer: Any) -> None:
    peer.to_latent = nn.Dropout(0.5)


def other_activation(peer: Any) -> None:
    peer.transformer.layers[0][1].net[2] = peer.transformer.layers[1][1].net[2] = nn.SiLU()


def other_block(peer: Any) -> None:
    peer.transformer.layers[1][1].net[2] = nn.ReLU()


def other_head(peer: Any) -> None:
    peer.mlp_head = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 5))


def other_stem(peer: Any) -> None:
    peer.to_patch_embedding = nn.Conv2d(3, 16, 4, stride=4)


def other_pool(peer: Any) -> None:
    peer.pool = "max"


def two_last_norms(peer: Any) -> None:
    peer.mlp_head = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 5))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (other_forward, "ViT cannot be expressed: with equal weights, logits differ"),
        (other_dropout, "to_latent 0.5 cannot be expressed: nothing drops out"),
        (other_activation, "FeedForward.net 'SiLU'"),
        (other_block, "transformer.layers"),
        (other_head, "mlp_head"),
        (other_stem, "to_patch_embedding"),
        (other_pool, "pool 'max'"),
        (two_last_norms, "mlp_head 'LayerNorm'"),
    ],
)
def test_what_cannot_be_expressed_is_refused_by_name(change, says):
    peer = peers.ViT(**SMALL | SHAPES["square"])
    change(peer)
    with pytest.raises(ValueError, match=f"^{says}"):
        convert.from_vit_pytorch(peer)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"dim_head": 4}, "dim_head 4 cannot be expressed"),
        ({"heads": 1, "dim_head": 16}, "to_out 'Identity' cannot be expressed"),
        ({"dropout": 0.1}, r"emb_dropout \[0.0, 0.1\] cannot be expressed"),
        ({"image_size": (8, 12)}, "image_size is missing: 6 patches"),
    ],
)
def test_arguments_that_cannot_be_expressed_are_refused_by_name(arguments, says):
    peer = peers.ViT(**SMALL | {"image_size": 12, "patch_size": 4} | arguments)
    with pytest.raises(ValueError, match=f"^{says}"):
        convert.from_vit_pytorch(peer)


def test_an_image_size_that_the_module_does_not_have_is_refused():
    with pytest.raises(ValueError, match=r"^image_size 16 does not give the 9 patches"):
        convert.from_vit_pytorch(peers.ViT(**SMALL | SHAPES["square"]), image_size=16)


@pytest.mark.parametrize("function", ["from_vit_pytorch", "from_transformers", "from_torchvision", "from_timm"])
def test_a_module_of_another_make_is_refused(function):
    with pytest.raises(ValueError, match=r"^module 'Linear' cannot be expressed"):
        getattr(convert, function)(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"^module 'ViT' cannot be expressed"):
        getattr(convert, function)(build_model(variant("Nano/2")))


def test_a_refusal_is_one_line_with_field_value_and_reason():
    assert str(refuse("norm_layer", "RmsNorm", "norms are LayerNorm")) == (
        "norm_layer 'RmsNorm' cannot be expressed: norms are LayerNorm"
    )
