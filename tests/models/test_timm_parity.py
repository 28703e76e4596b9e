"""Is it the same Vision Transformer as timm's, with the same weights: outputs and gradients, in float64?"""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from small_models import images_for, small_model, stirred
from timm.layers import SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from vitbench.models import ViT, build_model
from vitbench.variants import variant

FACTORS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # Ours, and timm's way to say it.
    "cls": ({}, {}),
    "gap": ({"pool": "gap"}, {"global_pool": "avg", "class_token": False, "fc_norm": False}),
    "mean_all": ({"pool": "mean_all"}, {"global_pool": "avg", "pool_include_prefix": True, "fc_norm": False}),
    "map": ({"pool": "map"}, {"global_pool": "map", "class_token": False, "fc_norm": False}),
    "no position": ({"position": "none"}, {"pos_embed": "none"}),
    "registers": ({"num_registers": 2}, {"reg_tokens": 2}),
    "registers and gap": (
        {"num_registers": 2, "pool": "gap"},
        {"reg_tokens": 2, "global_pool": "avg", "class_token": False, "fc_norm": False},
    ),
    "qk_norm": ({"qk_norm": True}, {"qk_norm": True}),
    "no qkv_bias": ({"qkv_bias": False}, {"qkv_bias": False}),
    "layer_scale": ({"layer_scale": 0.1}, {"init_values": 0.1}),
    "relu": ({"activation": "relu"}, {"act_layer": "relu"}),
    "gelu_tanh": ({"activation": "gelu_tanh"}, {"act_layer": "gelu_tanh"}),
    "swiglu": ({"activation": "swiglu"}, {"mlp_layer": SwiGLUPacked, "act_layer": "silu", "mlp_ratio": 4.0}),
    "one square image": ({"image_size": 16, "patch_size": 8}, {"img_size": 16, "patch_size": 8}),
    "oblong patches": ({"patch_size": (2, 4)}, {"patch_size": (2, 4)}),
    "grey images": ({"in_channels": 1}, {"in_chans": 1}),
}


def timm_names(model: ViT) -> dict[str, list[str]]:
    """timm's name → ours, whose values lie behind each other along dimension 0."""
    names = {
        "cls_token": ["class_token"],
        "reg_token": ["registers"],
        "pos_embed": ["position.tables.0.class_token", "registers' zeros", "position.tables.0.table"],
        "patch_embed.proj.weight": ["stem.proj.weight"],
        "patch_embed.proj.bias": ["stem.proj.bias"],
        "attn_pool.latent": ["pool.query"],
    }
    for name, _ in model.named_parameters():
        if name.startswith(("blocks.", "norm.")):
            other = name.replace(".attention.", ".attn.").replace(".scale1.", ".ls1.").replace(".scale2.", ".ls2.")
            names[other] = [name]
        elif name.startswith("pool.") and name != "pool.query":
            names[name.replace("pool.", "attn_pool.")] = [name]
        elif name.startswith("head.classifier."):
            names[name.replace("head.classifier.", "head.")] = [name]
    return names


def gathered(parts: list[str], values: dict[str, Tensor], model: ViT) -> Tensor:
    zeros = torch.zeros(model.config.num_registers, model.config.width, dtype=torch.float64)
    return torch.cat(
        [
            zeros if part.endswith("zeros") else values[part]
            for part in parts
            if part.endswith("zeros") or part in values
        ]
    )


def twin(model: ViT, **arguments: Any) -> VisionTransformer:
    config = model.config
    defaults = {
        "img_size": config.image_hw,
        "patch_size": 4,
        "num_classes": config.num_classes,
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.num_heads,
        "mlp_ratio": config.mlp_ratio,
    }
    theirs = VisionTransformer(**{**defaults, **arguments}).double().eval()
    ours, names = dict(model.named_parameters()), timm_names(model)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.copy_(gathered(names[name], ours, model).view_as(parameter))
    return theirs


@pytest.mark.parametrize("factor", FACTORS)
def test_outputs_and_gradients_are_timm_s(factor):
    changes, arguments = FACTORS[factor]
    model = small_model(**changes)
    theirs, names = twin(model, **arguments), timm_names(model)
    for batch in (1, 3):
        images = images_for(model.config, batch)
        torch.testing.assert_close(model(images), theirs(images), rtol=0, atol=1e-9)
    for module in (model, theirs):
        torch.nn.functional.cross_entropy(module(images), torch.tensor([0, 2, 4])).backward()
    compared = set()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    for name, parameter in theirs.named_parameters():
        ours, expected = gathered(names[name], gradients, model), parameter.grad.flatten()
        if name == "pos_embed" and model.config.num_registers:  # timm gives registers places as well
            rows = torch.arange(model.config.num_tokens) - int(model.config.has_class_token)
            kept = (rows < 0) | (rows >= model.config.num_registers)
            ours, expected = ours[kept], parameter.grad[0][kept].flatten()
        torch.testing.assert_close(ours.flatten(), expected, rtol=0, atol=1e-8)
        compared |= set(names[name])
    assert set(gradients) <= compared


def test_patch_norm_is_timm_s_patches_between_two_layer_norms():
    plain, model = small_model(), small_model(stem="patch_norm")
    assert [n for n, _ in model.named_parameters() if "stem" in n and "norm" in n] == [
        "stem.norm_patch.weight",
        "stem.norm_patch.bias",
        "stem.norm_token.weight",
        "stem.norm_token.bias",
    ]
    assert model.stem.norm_patch.normalized_shape == (48,) and model.stem.norm_token.normalized_shape == (16,)
    images, stem = images_for(model.config), model.stem
    patches = torch.nn.functional.unfold(images, kernel_size=4, stride=4).transpose(1, 2)  # channel, row, column

    def norm(x: Tensor, layer: torch.nn.LayerNorm) -> Tensor:
        centred = x - x.mean(dim=-1, keepdim=True)
        return centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt() * layer.weight + layer.bias

    linear = norm(patches, stem.norm_patch) @ stem.proj.weight.T + stem.proj.bias
    torch.testing.assert_close(stem(images), norm(linear, stem.norm_token), rtol=0, atol=1e-12)
    assert sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in plain.parameters()) == 2 * (48 + 16)


@pytest.mark.parametrize(
    ("name", "timm_name"), [("R26+S/32", "vit_small_r26_s32_224"), ("R50+B/16", "vit_base_r50_s16_224")]
)
def test_a_hybrid_s_feature_map_is_timm_s(name, timm_name):
    config = variant(name, depth=1, image_size=64)
    model = stirred(build_model(config)).double().eval()
    theirs = timm.create_model(timm_name, img_size=64, depth=1).double().eval()
    theirs.patch_embed.backbone.load_state_dict(model.stem.backbone.state_dict())
    images = images_for(config, 1)
    ours, expected = model.stem.feature_map(images), theirs.patch_embed.backbone(images)
    assert ours.shape == (1, expected.shape[1], 64 // config.patch_size, 64 // config.patch_size)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)
    theirs.patch_embed.proj.load_state_dict(model.stem.proj.state_dict())
    torch.testing.assert_close(model.stem(images), theirs.patch_embed(images), rtol=1e-9, atol=1e-9)
