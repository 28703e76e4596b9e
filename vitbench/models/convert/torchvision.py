"""torchvision's VisionTransformer as a vitbench model."""

from __future__ import annotations

from typing import Any

from torch import nn
from torchvision.models.vision_transformer import VisionTransformer

from vitbench.config import ViTConfig
from vitbench.models.convert.source import Source, activation_name, build, check_dropouts, converted, rate, refuse, same
from vitbench.models.vit import ViT


def from_torchvision(module: nn.Module) -> ViT:
    """A vitbench model with the weights and outputs of a torchvision `VisionTransformer`, in evaluation mode.

    Patches, or the convolutional stem of Xiao et al. 2021 where each layer halves the image and doubles the channels; a
    linear head, or one with a tanh layer (`representation_size`).

    Raises ValueError, with torchvision's name of the field, for a module that a `ViTConfig` cannot express.
    """
    return converted(_convert, module)


def _convert(peer: Any) -> ViT:
    if not isinstance(peer, VisionTransformer):
        raise refuse("module", type(peer).__name__, "it is not torchvision's VisionTransformer")
    fields = {**_stem(peer), **_encoder(peer), **_head(peer), "pool": "cls"}
    return build(peer, fields, _move_weights)


def _stem(peer: Any) -> dict[str, Any]:
    shape = {"image_size": peer.image_size, "patch_size": peer.patch_size, "width": peer.hidden_dim}
    if isinstance(peer.conv_proj, nn.Conv2d):
        return {**shape, "in_channels": peer.conv_proj.in_channels}
    *layers, last = peer.conv_proj
    channels = [layer[0].in_channels for layer in layers] + [last.in_channels]
    settings = [_conv_layer(layer) for layer in layers]
    doubling = [channels[1] * 2**i for i in range(len(layers))]
    if any(s != (3, 2, 1, False, True, True) for s in settings) or channels[1:] != doubling:
        because = "it is 3 × 3 convolutions of stride 2, BatchNorm and ReLU, channels doubling"
        raise refuse("conv_stem_configs", channels[1:], because)
    if 2 ** len(layers) != peer.patch_size:
        raise refuse(
            "conv_stem_configs", len(layers), f"as many layers halve the image as patch_size {peer.patch_size} asks"
        )
    return {**shape, "stem": "conv", "stem_width": channels[1], "in_channels": channels[0]}


def _conv_layer(layer: Any) -> tuple[Any, ...]:
    convolution = layer[0]
    kinds = [type(part) for part in layer]
    size = (convolution.kernel_size[0], convolution.stride[0], convolution.padding[0])
    batch_norm = kinds[1:] == [nn.BatchNorm2d, nn.ReLU]
    return (*size, convolution.bias is not None, batch_norm, batch_norm and layer[1].eps == 1e-5)


def _encoder(peer: Any) -> dict[str, Any]:
    blocks = list(peer.encoder.layers)
    dropouts = [peer.encoder.dropout, *(drop for b in blocks for drop in (b.dropout, b.mlp[2], b.mlp[4]))]
    check_dropouts(peer, dropouts)
    norms = [m for m in peer.encoder.modules() if isinstance(m, nn.LayerNorm)]
    if len(norms) != 2 * len(blocks) + 1:
        raise refuse("norm_layer", peer.norm_layer, "norms are LayerNorm")
    return {
        "depth": len(blocks),
        "num_heads": same("num_heads", [b.self_attention.num_heads for b in blocks]),
        "mlp_ratio": same("mlp_dim", [b.mlp[0].out_features for b in blocks]) / peer.hidden_dim,
        "activation": same("activation_layer", [activation_name("activation_layer", b.mlp[1]) for b in blocks]),
        "norm_eps": same("norm_layer.eps", [norm.eps for norm in norms]),
        "dropout": same("dropout", map(rate, dropouts)),
        "attention_dropout": same("attention_dropout", [b.self_attention.dropout for b in blocks]),
    }


def _head(peer: Any) -> dict[str, Any]:
    if isinstance(peer.heads, nn.Identity):
        return {"num_classes": 0}
    if isinstance(peer.heads, nn.Linear):  # what fine-tuning often puts there
        return {"num_classes": peer.heads.out_features}
    layers = {name: type(layer).__name__ for name, layer in peer.heads.named_children()}
    if layers not in ({"head": "Linear"}, {"pre_logits": "Linear", "act": "Tanh", "head": "Linear"}):
        raise refuse("heads", layers, "the classifier is linear, or linear after a tanh layer")
    if peer.heads.head.bias is None:
        raise refuse("heads.head.bias", None, "the classifier has a bias")
    hidden = getattr(peer.heads, "pre_logits", None)
    if hidden is not None and hidden.out_features != peer.hidden_dim:
        raise refuse(
            "representation_size", hidden.out_features, f"the hidden layer is as wide as the model, {peer.hidden_dim}"
        )
    return {"head": "linear" if hidden is None else "mlp", "num_classes": peer.heads.head.out_features}


def _move_weights(peer: Any, config: ViTConfig, source: Source) -> None:
    if config.stem == "patch":
        source.patches("conv_proj")
    else:
        source.layer("conv_proj.conv_last", "stem.proj")
        for i in range(len(peer.conv_proj) - 1):
            source.tree(f"conv_proj.conv_bn_relu_{i}.0", f"stem.layers.{3 * i}")
            source.tree(f"conv_proj.conv_bn_relu_{i}.1", f"stem.layers.{3 * i + 1}")
    source.places(source.take("encoder.pos_embedding")[0], class_token=True)
    source.ours["class_token"] = source.take("class_token")[0]
    layers = {
        "ln_1": "norm1",
        "self_attention.out_proj": "attention.proj",
        "ln_2": "norm2",
        "mlp.0": "mlp.fc1",
        "mlp.3": "mlp.fc2",
    }
    for i in range(config.depth):
        theirs, ours = f"encoder.layers.encoder_layer_{i}", f"blocks.{i}"
        for leaf in ("weight", "bias"):
            source.ours[f"{ours}.attention.qkv.{leaf}"] = source.take(f"{theirs}.self_attention.in_proj_{leaf}")
        for their_layer, our_layer in layers.items():
            source.layer(f"{theirs}.{their_layer}", f"{ours}.{our_layer}")
    source.layer("encoder.ln", "norm")
    if config.num_classes:
        source.layer("heads" if isinstance(peer.heads, nn.Linear) else "heads.head", "head.classifier")
        if config.head == "mlp":
            source.layer("heads.pre_logits", "head.hidden")
