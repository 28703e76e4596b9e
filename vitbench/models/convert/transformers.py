"""transformers' ViTForImageClassification as a vitbench model."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from vitbench.config import ViTConfig
from vitbench.models.convert.source import Source, activation_name, build, converted, refuse, same
from vitbench.models.vit import ViT


def from_transformers(module: nn.Module) -> ViT:
    """A vitbench model with the weights and outputs of transformers' `ViTForImageClassification`, in evaluation mode.

    Version 5's modules (`vit.layers.0.attention.q_proj`) and version 4's (`vit.encoder.layer.0.attention.attention.query`).
    transformers itself is not needed.

    Raises ValueError, with transformers' name of the field, for a module that a `ViTConfig` cannot express.
    """
    return converted(_convert, module, _logits)


def _logits(peer: Any, images: Tensor) -> Any:
    peer.set_attn_implementation("sdpa")  # its eager attention takes the softmax in float32, whatever the model's dtype
    return peer(images).logits


def _convert(peer: Any) -> ViT:
    is_vit = getattr(getattr(peer, "config", None), "model_type", "") == "vit"
    if not is_vit or not hasattr(peer, "vit") or not hasattr(peer, "classifier"):
        raise refuse("module", type(peer).__name__, "it is not transformers' ViTForImageClassification")
    theirs = peer.config
    if getattr(peer.vit, "pooler", None) is not None:
        raise refuse("pooler", type(peer.vit.pooler).__name__, "the classifier reads the class token")
    names = _names(peer)
    layers = [peer.get_submodule(f"{names['blocks']}.{i}") for i in range(theirs.num_hidden_layers)]
    for module in peer.modules():
        # Not the configuration's rate: modules keep the one that they were built with.
        if isinstance(module, nn.Dropout) and module.p:
            raise refuse("hidden_dropout_prob", module.p, "it does not act between an MLP's layers; load with 0")
    fields = {
        "image_size": theirs.image_size,
        "patch_size": theirs.patch_size,
        "in_channels": theirs.num_channels,
        "width": theirs.hidden_size,
        "depth": len(layers),
        "num_heads": theirs.num_attention_heads,
        "mlp_ratio": theirs.intermediate_size / theirs.hidden_size,
        "num_classes": peer.classifier.out_features if isinstance(peer.classifier, nn.Linear) else 0,
        "qkv_bias": theirs.qkv_bias,
        "activation": activation_name("hidden_act", layers[0].get_submodule(names["activation"])),
        "attention_dropout": same("attention_probs_dropout_prob", map(_attention_dropout, layers)),
        "norm_eps": same("layer_norm_eps", [m.eps for m in peer.modules() if isinstance(m, nn.LayerNorm)]),
    }
    return build(peer, fields, _move_weights)


_VERSION_5 = {
    "blocks": "vit.layers",
    "activation": "mlp.activation_fn",
    "qkv": ("attention.q_proj", "attention.k_proj", "attention.v_proj"),
    "norm1": "layernorm_before",
    "attention.proj": "attention.o_proj",
    "norm2": "layernorm_after",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_VERSION_4 = {
    **_VERSION_5,
    "blocks": "vit.encoder.layer",
    "activation": "intermediate.intermediate_act_fn",
    "qkv": ("attention.attention.query", "attention.attention.key", "attention.attention.value"),
    "attention.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}


def _names(peer: Any) -> dict[str, Any]:
    return _VERSION_4 if hasattr(peer.vit, "encoder") else _VERSION_5


def _attention_dropout(layer: Any) -> float:
    """Version 5 and version 4 keep it in places of their own."""
    inner = getattr(layer.attention, "attention", layer.attention)
    return float(getattr(inner, "attention_dropout", getattr(inner, "dropout_prob", 0.0)))


def _move_weights(peer: Any, config: ViTConfig, source: Source) -> None:
    names = _names(peer)
    source.patches("vit.embeddings.patch_embeddings.projection")
    source.places(source.take("vit.embeddings.position_embeddings")[0], class_token=True)
    source.ours["class_token"] = source.take("vit.embeddings.cls_token")[0]
    for i in range(config.depth):
        theirs = f"{names['blocks']}.{i}"
        source.stacked([f"{theirs}.{name}" for name in names["qkv"]], f"blocks.{i}.attention.qkv")
        for ours in ("norm1", "attention.proj", "norm2", "mlp.fc1", "mlp.fc2"):
            source.layer(f"{theirs}.{names[ours]}", f"blocks.{i}.{ours}")
    source.layer("vit.layernorm", "norm")
    if config.num_classes:
        source.layer("classifier", "head.classifier")
