"""vit-pytorch's ViT and SimpleViT, and the einops-style models before them, as vitbench models."""

from __future__ import annotations

from functools import partial
from math import isqrt, prod
from typing import Any

from einops import rearrange
from torch import nn

from vitbench.config import ViTConfig, as_pair
from vitbench.models.convert.source import Source, activation_name, build, check_dropouts, converted, rate, refuse, same
from vitbench.models.vit import ViT


def from_vit_pytorch(module: nn.Module, *, image_size: int | tuple[int, int] | None = None) -> ViT:
    """A vitbench model with the weights and outputs of vit-pytorch's `ViT` or `SimpleViT`, in evaluation mode.

    `ViT` pooled by class token, by the mean of the patches (`mean` in 1.26), or by the mean with the class token in it
    (`mean` in 1.15 and before: `mean_all` here). Older forms too, back to 0.17: norms in PreNorm wrappers, patches
    without norms, the last norm in the head. Patches are (p1 p2 c) in vit-pytorch and (c p1 p2) in vitbench. vit-pytorch
    is not needed. The modules do not keep their `image_size`, int or (height, width) in pixels: give it where it is not
    square.

    Raises ValueError, with vit-pytorch's name of the field, for a module that a `ViTConfig` cannot express.
    """
    return converted(partial(_convert, image_size=image_size), module)


def _convert(peer: Any, image_size: int | tuple[int, int] | None) -> ViT:
    if not hasattr(peer, "to_patch_embedding") or not hasattr(peer, "transformer"):
        raise refuse("module", type(peer).__name__, "it is not vit-pytorch's ViT or SimpleViT")
    fields = {**_stem(peer, image_size), **_encoder(peer), **_pool_and_head(peer)}
    model = build(peer, fields, _move_weights)
    if fields["position"] == "sincos_2d":
        _copy_sines(model, peer)
    return model


def _stem(peer: Any, image_size: int | tuple[int, int] | None) -> dict[str, Any]:
    embedding = peer.to_patch_embedding
    rearranged, *layers = embedding if isinstance(embedding, nn.Sequential) else [embedding]
    kinds = tuple(type(layer) for layer in layers)
    stems: dict[tuple[type, ...], str] = {(nn.Linear,): "patch", (nn.LayerNorm, nn.Linear, nn.LayerNorm): "patch_norm"}
    if kinds not in stems:
        names = [kind.__name__ for kind in kinds]
        raise refuse("to_patch_embedding", names, "it is Linear, or LayerNorm, Linear, LayerNorm")
    linear = next(layer for layer in layers if isinstance(layer, nn.Linear))
    lengths = getattr(rearranged, "axes_lengths", {})
    patch = (lengths.get("p1", 0), lengths.get("p2", 0))
    if not all(patch) or "(p1 p2 c)" not in getattr(rearranged, "pattern", ""):
        raise refuse("to_patch_embedding.0", str(rearranged), "it is einops' Rearrange to '(p1 p2 c)'")
    places: int = peer.pos_embedding.shape[-2] - _num_class_tokens(peer)
    if image_size is None:
        image_size = isqrt(places * prod(patch))
        if image_size**2 != places * prod(patch) or any(image_size % length for length in patch):
            raise ValueError(
                f"image_size is missing: {places} patches of {patch} make no square image; give (height, width)"
            )
    if prod(side // length for side, length in zip(as_pair(image_size), patch, strict=True)) != places:
        raise ValueError(f"image_size {image_size} does not give the {places} patches of {patch} that the module has")
    return {
        "stem": stems[kinds],
        "patch_size": patch,
        "in_channels": linear.in_features // prod(patch),
        "image_size": image_size,
        "width": linear.out_features,
    }


def _num_class_tokens(peer: Any) -> int:
    token = getattr(peer, "cls_token", None)
    return 0 if token is None else token.numel() // token.shape[-1]


def _parts(layer: Any) -> tuple[Any, Any]:
    """(norm, what it precedes) of an attention or MLP layer: with the norm inside, or in a PreNorm wrapper around it."""
    if hasattr(layer, "fn"):
        return layer.norm, layer.fn
    return (layer.norm, layer) if hasattr(layer, "norm") else (layer.net[0], layer)


def _out(attention: Any) -> Any:
    return attention.to_out[0] if isinstance(attention.to_out, nn.Sequential) else attention.to_out


def _encoder(peer: Any) -> dict[str, Any]:
    layers = list(peer.transformer.layers)
    fields = dict(same("transformer.layers", [tuple(_block(*layer).items()) for layer in layers]))
    embedding = getattr(peer, "dropout", None)
    inner = [m for layer in layers for m in layer.modules() if isinstance(m, nn.Dropout)]
    check_dropouts(peer, [embedding, *inner])
    return {"depth": len(layers), **fields, "dropout": same("emb_dropout", [rate(embedding), fields["dropout"]])}


def _block(attention_layer: Any, mlp_layer: Any) -> dict[str, Any]:
    attention, mlp = _parts(attention_layer)[1], _parts(mlp_layer)[1]
    width, inner = attention.to_qkv.in_features, attention.to_qkv.out_features // 3
    if inner != width:
        raise refuse("dim_head", inner // attention.heads, f"heads × dim_head is the width, {width}")
    out = _out(attention)
    if not isinstance(out, nn.Linear):
        raise refuse("to_out", type(out).__name__, "attention ends in a projection; use more than one head")
    linears = [layer for layer in mlp.net if isinstance(layer, nn.Linear)]
    nonlinear = [m for m in mlp.net if not isinstance(m, nn.Linear | nn.LayerNorm | nn.Dropout)]
    if len(linears) != 2 or len(nonlinear) != 1:
        raise refuse(
            "FeedForward.net", [type(m).__name__ for m in mlp.net], "it is two linear layers and a nonlinearity"
        )
    return {
        "num_heads": attention.heads,
        "mlp_ratio": linears[0].out_features / width,
        "activation": activation_name("FeedForward.net", nonlinear[0]),
        "qkv_bias": attention.to_qkv.bias is not None,
        "proj_bias": out.bias is not None,
        "attention_dropout": rate(getattr(attention, "dropout", None)),
        "dropout": _dropout(attention, mlp),
    }


def _dropout(attention: Any, mlp: Any) -> Any:
    """After the projection and after each layer of the MLP; SimpleViT has none."""
    drops = [m for part in (attention.to_out, mlp) for m in part.modules() if isinstance(m, nn.Dropout)]
    if drops and len(drops) != 3:
        raise refuse("dropout", len(drops), "it acts after the projection and after both layers of the MLP, or nowhere")
    return same("dropout", [rate(drop) for drop in drops] or [0.0])


def _pool_and_head(peer: Any) -> dict[str, Any]:
    classes, before = _num_class_tokens(peer), getattr(peer.transformer, "norm", None)
    if peer.pool not in ("cls", "mean") or (peer.pool == "cls" and not classes):
        raise refuse("pool", peer.pool, "it is cls or mean")
    head = next((h for n in ("mlp_head", "linear_head") if (h := getattr(peer, n, None)) is not None), None)
    layers = list(head) if isinstance(head, nn.Sequential) else [head]
    *after, classifier = layers or [None]
    known = isinstance(classifier, nn.Linear) and len(after) < 2 and all(isinstance(m, nn.LayerNorm) for m in after)
    if head is not None and not known:
        raise refuse("mlp_head", [type(layer).__name__ for layer in layers], "it is Linear, or LayerNorm and Linear")
    if before is not None and after:
        raise refuse("mlp_head", "LayerNorm", "there is one last norm, before or after pooling")
    return {
        "pool": "cls" if peer.pool == "cls" else "mean_all" if classes else "gap",
        "position": "learned_1d" if isinstance(peer.pos_embedding, nn.Parameter) else "sincos_2d",
        "num_classes": 0 if classifier is None else classifier.out_features,
        "final_norm": "tokens" if before is not None else "pooled" if after else "none",
        "norm_eps": same("LayerNorm.eps", [m.eps for m in peer.modules() if isinstance(m, nn.LayerNorm)]),
    }


def _move_weights(peer: Any, config: ViTConfig, source: Source) -> None:
    names = {"patch": ["proj"], "patch_norm": ["norm_patch", "proj", "norm_token"]}[config.stem]
    for i, name in enumerate(names, start=1):
        source.layer(f"to_patch_embedding.{i}", f"stem.{name}")
    height, width = config.patch_hw
    for name in ("stem.proj.weight", "stem.norm_patch.weight", "stem.norm_patch.bias"):
        if name in source.ours:
            pixels = source.ours[name]
            source.ours[name] = rearrange(pixels, "... (p1 p2 c) -> ... (c p1 p2)", p1=height, p2=width)
    if "cls_token" in source:
        token = source.take("cls_token")
        if config.has_class_token:
            source.ours["class_token"] = token.reshape(1, -1)
    if config.position == "learned_1d":
        table = rearrange(source.take("pos_embedding"), "... n d -> (... n) d")
        source.places(table, class_token=config.has_class_token)
    their_names = {module: name for name, module in peer.named_modules()}
    for i, (attention_layer, mlp_layer) in enumerate(peer.transformer.layers):
        (norm1, attention), (norm2, mlp) = _parts(attention_layer), _parts(mlp_layer)
        first, second = (layer for layer in mlp.net if isinstance(layer, nn.Linear))
        ours = {
            "norm1": norm1,
            "attention.qkv": attention.to_qkv,
            "attention.proj": _out(attention),
            "norm2": norm2,
            "mlp.fc1": first,
            "mlp.fc2": second,
        }
        for name, layer in ours.items():
            source.layer(their_names[layer], f"blocks.{i}.{name}")
    head = "linear_head" if hasattr(peer, "linear_head") else "mlp_head"
    if config.final_norm != "none":
        source.layer("transformer.norm" if config.final_norm == "tokens" else f"{head}.0", "norm")
    if config.num_classes:
        layers = getattr(peer, head)
        source.layer(f"{head}.{len(layers) - 1}" if isinstance(layers, nn.Sequential) else head, "head.classifier")


def _copy_sines(model: ViT, peer: Any) -> None:
    """Theirs are computed in float32, ours in float64 and then rounded: they differ in the last bit, and must not."""
    ours = model.get_buffer("position.tables.0.table")
    if ours.is_meta or peer.pos_embedding.is_meta:
        return
    theirs = peer.pos_embedding.to(ours)
    if not theirs.shape == ours.shape or (theirs - ours).abs().max() > 1e-4:
        raise refuse("pos_embedding", list(theirs.shape), "it is the sines and cosines of sincos_2d")
    ours.copy_(theirs)
