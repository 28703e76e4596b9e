"""A vitbench model as timm's VisionTransformer: the way back from `from_timm`."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from timm.layers import SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitbench.config import ViTConfig
from vitbench.models.convert.source import refuse
from vitbench.models.positions import ADDITIVE
from vitbench.models.vit import ViT

POOLS = {"cls": "token", "gap": "avg", "mean_all": "avg", "map": "map"}
ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_tanh", "quick_gelu": "quick_gelu", "relu": "relu", "swiglu": "silu"}
TOLERANCE = 1e-8
"""Between logits in float64, relative to the largest."""


def to_timm(model: ViT) -> VisionTransformer:
    """timm's `VisionTransformer` (timm 1.0) with the weights and outputs of `model`, in evaluation mode.

    Stems of patches; position none, or any that is added at the stem, whose values become timm's table. Raises ValueError,
    with the field, for what timm's module cannot express: positions in attention or in every layer, other stems, an MLP as
    head, registers beside `mean_all`, users' parts.
    """
    config = model.config
    _check(config)
    weights = _weights(model)
    example = next(iter(weights.values()))
    with torch.random.fork_rng(devices=[]):  # its layers draw values that are overwritten
        module = VisionTransformer(**arguments(config), **_layers(config)).to(example)
    module.load_state_dict(weights)
    module.eval()
    _check_outputs(model, module)
    return module


def arguments(config: ViTConfig) -> dict[str, Any]:
    """Of timm's `VisionTransformer`, but for those that are classes."""
    gated = 2 if config.activation == "swiglu" else 1
    return {
        "img_size": list(config.image_hw),
        "patch_size": list(config.patch_hw),
        "in_chans": config.in_channels,
        "num_classes": config.num_classes,
        "global_pool": POOLS[config.pool],
        "pool_include_prefix": config.pool == "mean_all",
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.num_heads,
        "mlp_ratio": gated * config.mlp_width / config.width,
        "qkv_bias": config.qkv_bias,
        "qk_norm": config.qk_norm,
        "init_values": config.layer_scale,
        "class_token": config.has_class_token,
        "pos_embed": "none" if config.position == "none" else "learn",
        "reg_tokens": config.num_registers,
        "pre_norm": config.pre_norm,
        "final_norm": config.final_norm != "none",
        "fc_norm": config.final_norm == "pooled",
        "pos_drop_rate": config.dropout,
        "proj_drop_rate": config.dropout,
        "attn_drop_rate": config.attention_dropout,
        "drop_path_rate": config.drop_path,
        "act_layer": ACTIVATIONS[config.activation],
    }


def _layers(config: ViTConfig) -> dict[str, Any]:
    gated = {"mlp_layer": SwiGLUPacked} if config.activation == "swiglu" else {}
    return {"norm_layer": partial(nn.LayerNorm, eps=config.norm_eps), **gated}


def _check(config: ViTConfig) -> None:
    if config.user_parts:
        role, name = next(iter(config.user_parts.items()))
        raise refuse(role, name, "timm's module has no users' parts")
    if config.stem != "patch":
        raise refuse("stem", config.stem, "timm's patches go through one linear layer")
    if config.position != "none" and (config.position not in ADDITIVE or config.position_site != "stem"):
        raise refuse(
            "position",
            f"{config.position}, {config.position_site}",
            "timm's VisionTransformer adds one table at the stem",
        )
    if config.head != "linear":
        raise refuse("head", config.head, "timm's head is one linear layer")
    if not config.proj_bias:
        raise refuse("proj_bias", False, "timm's projections have biases where those of its MLPs have")
    if config.pool == "mean_all" and config.num_registers:
        raise refuse(
            "num_registers", config.num_registers, "timm's average with the class token takes registers in too"
        )


def _weights(model: ViT) -> dict[str, Tensor]:
    """timm's names to the model's values."""
    config, ours = model.config, {name: value.detach() for name, value in model.state_dict().items()}
    height, width = config.patch_hw
    theirs = {
        "patch_embed.proj.weight": ours["stem.proj.weight"].unflatten(1, (config.in_channels, height, width)),
        **_below(ours, "stem.proj.bias", "patch_embed.proj.bias"),
        **_below(ours, "pre_norm", "norm_pre"),
        **_below(ours, "norm", "fc_norm" if config.final_norm == "pooled" else "norm"),
        **_below(ours, "head.classifier", "head"),
    }
    for name, token in (("cls_token", model.class_token), ("reg_token", model.registers)):
        if token is not None:
            theirs[name] = token.detach()[None]
    if config.position != "none":
        with torch.no_grad():
            theirs["pos_embed"] = model.position.tables[0]()[None].to(theirs["patch_embed.proj.weight"].dtype)
    for i in range(config.depth):
        for inside, there in (("attention", "attn"), ("scale1", "ls1"), ("scale2", "ls2")):
            theirs |= _below(ours, f"blocks.{i}.{inside}", f"blocks.{i}.{there}")
        for same in ("norm1", "norm2", "mlp"):
            theirs |= _below(ours, f"blocks.{i}.{same}", f"blocks.{i}.{same}")
    if config.pool == "map":
        theirs |= {n: value for n, value in _below(ours, "pool", "attn_pool").items() if n != "attn_pool.query"}
        theirs["attn_pool.latent"] = ours["pool.query"][None]
    return theirs


def _below(ours: dict[str, Tensor], name: str, theirs: str) -> dict[str, Tensor]:
    """What lies at `name` or below, called `theirs`."""
    return {
        theirs + key.removeprefix(name): value
        for key, value in ours.items()
        if key == name or key.startswith(f"{name}.")
    }


@torch.no_grad()
def _check_outputs(model: ViT, module: VisionTransformer) -> None:
    """Raises ValueError unless copies in float64 have equal logits on random images."""
    config = model.config
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, config.in_channels, *config.image_hw, generator=generator, dtype=torch.float64)
    ours, theirs = (copy.deepcopy(each).cpu().double().eval()(images) for each in (model, module))
    error = (ours - theirs).abs().max() / ours.abs().max().clamp(min=1.0)
    if not error <= TOLERANCE:
        raise refuse("model", "ViT", f"timm's module has other outputs, by {float(error):.1e}")
