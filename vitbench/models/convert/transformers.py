"""transformers' ViTForImageClassification as a vitbench model."""

from __future__ import annotations

from typing import Any

from torch import nn

from vitbench.config import ViTConfig
from vitbench.models.convert.activation import name_of_activation
from vitbench.models.convert.source import Source, Weights, assemble, check_outputs, refuse, same
from vitbench.models.vit import ViT


def from_transformers(module: nn.Module) -> ViT:
    """A vitbench model with the weights and outputs of transformers' `ViTForImageClassification`, in evaluation mode.

    Version 5's modules (`vit.layers.0.attention.q_proj`) and version 4's (`vit.encoder.layer.0.attention.attention.query`).
    transformers itself is not needed.

    Raises ValueError, with transformers' name of the field, for a module that a `ViTConfig` cannot express.
    """
    peer: Any = module
    if not hasattr(peer, "vit") or getattr(getattr(peer, "config", None), "model_type", "") != "vit":
        raise refuse("module", type(module).__name__, "it is not transformers' ViTForImageClassification")
    theirs = peer.config
    if theirs.hidden_dropout_prob:
        raise refuse(
            "hidden_dropout_prob", theirs.hidden_dropout_prob, "dropout acts inside MLPs too; set it to 0 first"
        )
    if getattr(peer.vit, "pooler", None) is not None:
        raise refuse("pooler", type(peer.vit.pooler).__name__, "the classifier reads the class token")
    version_4 = hasattr(peer.vit, "encoder")
    layers = list(peer.vit.encoder.layer if version_4 else peer.vit.layers)
    mlp = layers[0].intermediate.intermediate_act_fn if version_4 else layers[0].mlp.activation_fn
    config = ViTConfig.model_validate(
        {
            "image_size": theirs.image_size,
            "patch_size": theirs.patch_size,
            "in_channels": theirs.num_channels,
            "width": theirs.hidden_size,
            "depth": len(layers),
            "num_heads": theirs.num_attention_heads,
            "mlp_ratio": theirs.intermediate_size / theirs.hidden_size,
            "num_classes": peer.classifier.out_features if isinstance(peer.classifier, nn.Linear) else 0,
            "qkv_bias": theirs.qkv_bias,
            "activation": name_of_activation("hidden_act", mlp),
            "attention_dropout": theirs.attention_probs_dropout_prob,
            "norm_eps": same("layer_norm_eps", [m.eps for m in peer.modules() if isinstance(m, nn.LayerNorm)]),
        }
    )
    source = Source(peer.state_dict())
    names = _VERSION_4 if version_4 else _VERSION_5
    model = assemble(config, {**_ends(config, source), **_blocks(config, source, names)}, source)
    check_outputs(model, module, lambda images: peer(images).logits)
    return model


_VERSION_5 = {
    "": "vit.layers",
    "qkv": ("attention.q_proj", "attention.k_proj", "attention.v_proj"),
    "norm1": "layernorm_before",
    "attention.proj": "attention.o_proj",
    "norm2": "layernorm_after",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_VERSION_4 = {
    "": "vit.encoder.layer",
    "qkv": ("attention.attention.query", "attention.attention.key", "attention.attention.value"),
    "norm1": "layernorm_before",
    "attention.proj": "attention.output.dense",
    "norm2": "layernorm_after",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}


def _ends(config: ViTConfig, source: Source) -> Weights:
    places = source.take("vit.embeddings.position_embeddings")[0]
    weights: Weights = {
        "class_token": source.take("vit.embeddings.cls_token")[0],
        "position.tables.0.class_token": places[:1],
        "position.tables.0.table": places[1:],
    }
    weights |= source.layer("vit.embeddings.patch_embeddings.projection", "stem.proj")
    weights["stem.proj.weight"] = weights["stem.proj.weight"].flatten(1)
    weights |= source.layer("vit.layernorm", "norm")
    return weights | (source.layer("classifier", "head.classifier") if config.num_classes else {})


def _blocks(config: ViTConfig, source: Source, names: dict[str, Any]) -> Weights:
    weights: Weights = {}
    for i in range(config.depth):
        theirs = f"{names['']}.{i}"
        weights |= source.stacked([f"{theirs}.{name}" for name in names["qkv"]], f"blocks.{i}.attention.qkv")
        for ours in ("norm1", "attention.proj", "norm2", "mlp.fc1", "mlp.fc2"):
            weights |= source.layer(f"{theirs}.{names[ours]}", f"blocks.{i}.{ours}")
    return weights
