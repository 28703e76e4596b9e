"""timm's VisionTransformer, plain or on a ResNet (BiT), as a vitbench model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from timm.layers import Attention, AttentionPoolLatent, GluMlp, HybridEmbed, Mlp, PatchEmbed, SwiGLU
from timm.models.resnetv2 import ResNetV2
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from vitbench.config import ViTConfig, as_pair
from vitbench.models.convert.source import Source, activation_name, build, check_dropouts, converted, rate, refuse, same
from vitbench.models.vit import ViT


def from_timm(module: nn.Module) -> ViT:
    """A vitbench model with the weights and outputs of a timm `VisionTransformer` (timm 1.0), in evaluation mode.

    Class token or not; `global_pool` token, avg or map; learned position tables, with or without places for prefix
    tokens, or none; registers, qk-norm, LayerScale, pre-norm, SwiGLU; stems of patches, or R, R26 and R50 hybrids. A class
    token that is not pooled becomes a register, and the places of registers are added to the registers.

    An image that patches do not divide is cropped at its right and bottom there, and is smaller here. Raises ValueError,
    with timm's name of the field, for a module that a `ViTConfig` cannot express.
    """
    return converted(_convert, module, _logits)


def _convert(module: nn.Module) -> ViT:
    if not isinstance(module, VisionTransformer):
        raise refuse("module", type(module).__name__, "it is not timm's VisionTransformer")
    fields = {**_stem(module), **_blocks(module), **_pool(module), **_norms(module), **_dropout(module)}
    return build(module, fields, _move_weights)


def _logits(module: Any, images: Tensor) -> Any:
    height, width = module.patch_embed.img_size
    return module(nn.functional.pad(images, (0, width - images.shape[3], 0, height - images.shape[2])))


def _stem(module: VisionTransformer) -> dict[str, Any]:
    embed = module.patch_embed
    if embed.img_size is None:
        raise refuse("img_size", None, "a model has one image size")
    if isinstance(embed, HybridEmbed):
        fields = _resnet(embed)
    elif isinstance(embed, PatchEmbed):
        if not isinstance(embed.norm, nn.Identity):
            raise refuse("embed_norm_layer", type(embed.norm).__name__, "patches have no norm after their projection")
        if not isinstance(embed.proj, nn.Conv2d) or embed.proj.stride != tuple(embed.patch_size):
            raise refuse("patch_embed.proj", str(embed.proj), "patches lie side by side")
        fields = {"patch_size": tuple(embed.patch_size), "in_channels": embed.proj.in_channels}
    else:
        raise refuse("embed_layer", type(embed).__name__, "stems are PatchEmbed, or HybridEmbed on a ResNetV2")
    pre_norm = not isinstance(module.norm_pre, nn.Identity)
    if (embed.proj.bias is None) != pre_norm:
        raise refuse("pre_norm", pre_norm, "the patch embedding has a bias exactly where there is no pre-norm")
    patch = as_pair(fields["patch_size"])
    image_size = tuple(side - side % length for side, length in zip(embed.img_size, patch, strict=True))
    return {"image_size": image_size, "pre_norm": pre_norm, **fields}


def _resnet(embed: HybridEmbed) -> dict[str, Any]:
    backbone, patch = embed.backbone, tuple(embed.proj.kernel_size)
    root = backbone.stem if isinstance(backbone, ResNetV2) else backbone
    if not isinstance(root, nn.Sequential):
        raise refuse("embed_layer", type(backbone).__name__, "hybrids are patches on a ResNetV2, or on its stem")
    layers = tuple(len(stage.blocks) for stage in backbone.stages) if isinstance(backbone, ResNetV2) else ()
    if patch[0] != patch[1] or (layers and patch != (1, 1)) or tuple(embed.proj.stride) != patch:
        raise refuse("patch_size", patch, "patches are 1 × 1 on a ResNetV2, and square on its stem, side by side")
    convolution = getattr(root, "conv", None)
    if convolution is None:
        raise refuse("stem_type", "deep", "the ResNet starts with one convolution")
    return {
        "stem": "resnet",
        "stem_layers": layers,
        "stem_width": convolution.out_channels,
        "stem_groups": next((m.num_groups for m in backbone.modules() if isinstance(m, nn.GroupNorm)), 32),
        "patch_size": 2 ** (len(layers) + 1) if layers else 4 * patch[0],
        "in_channels": convolution.in_channels,
    }


def _blocks(module: VisionTransformer) -> dict[str, Any]:
    if not len(module.blocks):
        raise refuse("depth", 0, "there is at least one block")
    fields = dict(same("block_fn", [tuple(_block(block).items()) for block in module.blocks]))
    if fields["width"] != module.embed_dim:
        raise refuse("embed_dim", module.embed_dim, f"the blocks are {fields['width']} wide")
    return {"depth": len(module.blocks), **fields}


def _block(block: Any) -> dict[str, Any]:
    if type(block) is not Block:
        raise refuse(
            "block_fn", type(block).__name__, "blocks are timm's Block: attention, then MLP, each after a norm"
        )
    attention, scale = block.attn, block.ls1
    if type(attention) is not Attention or getattr(attention, "gate", None) is not None:
        raise refuse("attn_layer", type(attention).__name__, "attention is plain multi-head attention")
    if not isinstance(getattr(attention, "norm", nn.Identity()), nn.Identity):
        raise refuse("scale_attn_norm", True, "attention has no norm before its projection")
    width = attention.qkv.in_features
    if attention.num_heads * attention.head_dim != width:
        raise refuse("attn_head_dim", attention.head_dim, f"heads have width / heads = {width // attention.num_heads}")
    return {
        "width": width,
        "num_heads": attention.num_heads,
        "qkv_bias": attention.qkv.bias is not None,
        "proj_bias": attention.proj.bias is not None,
        "qk_norm": not isinstance(attention.q_norm, nn.Identity),
        "layer_scale": None if isinstance(scale, nn.Identity) else getattr(scale, "init_values", 1e-5),
        **_mlp(block.mlp, width),
    }


def _mlp(mlp: Any, width: int) -> dict[str, Any]:
    if type(mlp) not in (Mlp, GluMlp, SwiGLU):
        raise refuse("mlp_layer", type(mlp).__name__, "MLPs are Mlp, SwiGLUPacked or SwiGLU")
    if not isinstance(getattr(mlp, "norm", nn.Identity()), nn.Identity):
        raise refuse("scale_mlp_norm", True, "MLPs have no norm inside")
    if not isinstance(mlp.fc2, nn.Linear):
        raise refuse("mlp_layer.fc2", type(mlp.fc2).__name__, "MLPs have linear layers")
    if mlp.fc2.bias is None:
        raise refuse("proj_bias", False, "the layers of an MLP have biases")
    if getattr(mlp, "gate_last", False):
        raise refuse("gate_last", True, "the gate is the first half of a gated MLP's hidden layer")
    if type(mlp) is Mlp:
        activation = activation_name("act_layer", mlp.act)
    else:
        activation = "swiglu"
        x = torch.linspace(-4, 4, 9, dtype=torch.float64, device="cpu")
        if not torch.allclose(mlp.act(x.clone()), nn.functional.silu(x)):
            raise refuse("act_layer", type(mlp.act).__name__, "gated MLPs have SiLU")
    return {"activation": activation, "mlp_ratio": mlp.fc2.in_features / width}


def _pool(module: VisionTransformer) -> dict[str, Any]:
    kind, registers = module.global_pool, module.num_reg_tokens
    pools_prefix = module.pool_include_prefix and module.num_prefix_tokens > 0
    match kind:
        case "token":
            pool, pools_prefix = "cls", False
        case "avg" if pools_prefix and not registers:
            pool, pools_prefix = "mean_all", False
        case "avg":
            pool = "gap"
        case "map":
            pool = "map"
            _check_attention_pool(module)
        case _:
            raise refuse("global_pool", kind, "pooling is token, avg or map")
    if pools_prefix:
        raise refuse("pool_include_prefix", True, f"{kind} pooling leaves registers and an unused class token out")
    demoted = module.has_class_token and pool not in ("cls", "mean_all")
    fields: dict[str, Any] = {"pool": pool, "num_registers": registers + demoted, "position": "none"}
    if module.pos_embed is not None:
        fields["position"] = "learned_1d"
        if pool in ("cls", "mean_all"):
            fields["embed_class_token"] = not module.no_embed_class
    if not isinstance(module.head, nn.Linear | nn.Identity):
        raise refuse("head", type(module.head).__name__, "the classifier is one linear layer")
    if isinstance(module.head, nn.Linear) and module.head.bias is None:
        raise refuse("head.bias", None, "the classifier has a bias")
    return {**fields, "num_classes": getattr(module.head, "out_features", 0)}


def _check_attention_pool(module: VisionTransformer) -> None:
    pool, block = module.attn_pool, module.blocks[0]
    plain = type(pool) is AttentionPoolLatent and pool.pos_embed is None and isinstance(pool.q_norm, nn.Identity)
    if not plain or pool.latent_len != 1 or not isinstance(pool.q, nn.Linear) or pool.mlp is None:
        raise refuse("attn_pool", type(pool).__name__, "it is one query, a projection and an MLP")
    if pool.num_heads != block.attn.num_heads:
        raise refuse("attn_pool.num_heads", pool.num_heads, f"it has as many as the blocks, {block.attn.num_heads}")
    width = module.embed_dim
    if type(pool.mlp) is not type(block.mlp) or _mlp(pool.mlp, width) != _mlp(block.mlp, width):
        raise refuse("attn_pool.mlp", type(pool.mlp).__name__, "it is like the blocks'")


def _norms(module: VisionTransformer) -> dict[str, Any]:
    norms = {"tokens": module.norm, "pooled": module.fc_norm}
    places = [place for place, norm in norms.items() if not isinstance(norm, nn.Identity)]
    if len(places) > 1:
        raise refuse("fc_norm", True, "there is one last norm, before or after pooling")
    inner = [
        m
        for name, m in module.named_modules()
        if "norm" in name.rpartition(".")[2] and not name.startswith("patch_embed.") and not isinstance(m, nn.Identity)
    ]
    for norm in inner:
        if not isinstance(norm, nn.LayerNorm) or norm.bias is None:
            raise refuse("norm_layer", type(norm).__name__, "norms are LayerNorm, with scale and shift")
    return {
        "final_norm": places[0] if places else "none",
        "norm_eps": same("norm_layer.eps", [norm.eps for norm in inner]),
    }


def _dropout(module: VisionTransformer) -> dict[str, Any]:
    """Rates, which must be those of one field each: `dropout` acts at every place but before the classifier."""
    if rate(module.head_drop):
        raise refuse("drop_rate", rate(module.head_drop), "there is no dropout before the classifier")
    if not isinstance(getattr(module, "patch_drop", nn.Identity()), nn.Identity):
        raise refuse("patch_drop_rate", module.patch_drop.prob, "no patches are left out")
    blocks: list[Any] = list(module.blocks)
    inner = [module.pos_drop, *(drop for b in blocks for drop in (b.attn.proj_drop, b.mlp.drop1, b.mlp.drop2))]
    weights = [block.attn.attn_drop for block in blocks]
    paths = [path for block in blocks for path in (block.drop_path1, block.drop_path2)]
    rates = [rate(path) for path in paths]
    linear = np.repeat(np.linspace(0, rates[-1], len(blocks)), 2)
    if not np.allclose(rates, linear, atol=1e-6):
        raise refuse("drop_path_rate", [round(r, 4) for r in rates], "it rises linearly from 0 in the first block")
    check_dropouts(module, [*inner, *weights, *paths])
    return {
        "dropout": same("proj_drop_rate", map(rate, inner)),
        "attention_dropout": same("attn_drop_rate", map(rate, weights)),
        "drop_path": rates[-1],
    }


def _move_weights(module: VisionTransformer, config: ViTConfig, source: Source) -> None:
    if config.stem == "resnet":
        is_stem_alone = "patch_embed.backbone.conv.weight" in source
        source.tree("patch_embed.backbone", "stem.backbone" + ".stem" * is_stem_alone)
        source.layer("patch_embed.proj", "stem.proj")
    else:
        source.patches("patch_embed.proj")
    _move_tokens(module, config, source)
    if config.pre_norm:
        source.layer("norm_pre", "pre_norm")
    for i in range(config.depth):
        block = f"blocks.{i}"
        for norm in ("norm1", "norm2"):
            source.layer(f"{block}.{norm}", f"{block}.{norm}")
        source.tree(f"{block}.attn", f"{block}.attention")
        for scale in ("1", "2") if config.layer_scale is not None else ():
            source.ours[f"{block}.scale{scale}.gamma"] = source.take(f"{block}.ls{scale}.gamma")
        split = f"{block}.mlp.fc1_g.weight" in source
        source.stacked([f"{block}.mlp.fc1{half}" for half in (("_g", "_x") if split else ("",))], f"{block}.mlp.fc1")
        source.layer(f"{block}.mlp.fc2", f"{block}.mlp.fc2")
    if config.final_norm != "none":
        source.layer("norm" if config.final_norm == "tokens" else "fc_norm", "norm")
    if config.pool == "map":
        source.ours["pool.query"] = source.take("attn_pool.latent")[0]
        source.tree("attn_pool", "pool")
    if config.num_classes:
        source.layer("head", "head.classifier")


def _move_tokens(module: VisionTransformer, config: ViTConfig, source: Source) -> None:
    """Class token and registers, to which the positions of registers are added."""
    tokens = [source.take(name)[0] for name in ("cls_token", "reg_token") if name in source]
    if config.position == "learned_1d":
        places = source.take("pos_embed")[0]
        rows = 0 if module.no_embed_class else module.num_prefix_tokens
        embedded = int(config.has_class_token and config.embed_class_token)
        source.ours["position.tables.0.table"] = places[rows:]
        if embedded:
            source.ours["position.tables.0.class_token"] = places[:1]
        if rows:
            prefix = torch.cat(tokens)
            tokens = [prefix[:embedded], prefix[embedded:] + places[embedded:rows]]
    if tokens:
        prefix = torch.cat(tokens)
        first = int(config.has_class_token)
        parts = {"class_token": prefix[:first], "registers": prefix[first:]}
        source.ours |= {name: part for name, part in parts.items() if len(part)}
