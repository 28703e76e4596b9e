"""The checkpoints of the paper's authors (.npz: vision_transformer, How to train your ViT, big_vision) as vitbench models."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from math import isqrt
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import EinopsError, rearrange
from numpy.typing import NDArray
from torch import Tensor

from vitbench.config import Activation, Position, ViTConfig, as_pair
from vitbench.models.convert.source import Source
from vitbench.models.vit import ViT

_PREFIXES = ("opt/target/", "params/img/", "params/", "")
_BLOCK = "Transformer/encoderblock_{}"
_TABLES = ("Transformer/posembed_input/pos_embedding", "pos_embedding")
"""With a place for the class token (vision_transformer), and without (big_vision)."""
_OUT = "h d width -> width (h d)"


def from_npz(
    path: str | PathLike[str],
    *,
    image_size: int | tuple[int, int] | None = None,
    image_size_if_untold: int | tuple[int, int] | None = None,
    activation: Activation = "gelu_tanh",
    position: Position | None = None,
) -> ViT:
    """A vitbench model with the weights of one of the authors' checkpoints, hybrids included, in evaluation mode.

    The file says everything but three things. `image_size`, int or (height, width) in pixels: from the position table
    where its grid is square, otherwise `image_size_if_untold`. `activation`: their GELU is JAX's default, the tanh
    approximation; timm loads the same files into its exact GELU. `position`: needed where there is no table,
    `sincos_2d` or `none`.

    One known difference: their ResNets divide weights by σ + 1e-5 and norm groups with ε = 1e-6, where the stem here,
    timm's, has 1e-8 inside the root and 1e-5.

    Raises ValueError for a file that is not such a checkpoint, or holds what a `ViTConfig` cannot express.
    """
    source = Source(_read(path))
    try:
        fields = _fields(path, source)
        table = next((source[name].shape for name in _TABLES if name in source), None)
        if table is None and position not in ("sincos_2d", "none"):
            raise ValueError(f"position {position!r}: {path} has no position table; give sincos_2d or none")
        places = 0
        if table is not None:
            position = "learned_1d"
            fields["embed_class_token"] = fields["pool"] != "cls" or _TABLES[0] in source
            places = table[-2] - int(fields["pool"] == "cls" and fields["embed_class_token"])
        side = isqrt(max(places, 0))
        if image_size is None and side and side**2 == places:
            height, width = as_pair(fields["patch_size"])
            image_size = side * height, side * width
        image_size = image_size or image_size_if_untold
        if image_size is None:
            raise ValueError(
                f"image_size is missing: {path} does not tell it ({places} places are no square grid); give it"
            )
        fields |= {"image_size": image_size, "position": position, "activation": activation}
        config = ViTConfig.model_validate(fields)
        if table is not None and config.num_patches != places:
            raise ValueError(
                f"image_size {config.image_size} gives {config.num_patches} patches, but {path} holds {places} places; "
                "give the image size that it was trained at"
            )
        _move_stem(config, source)
        _move_tokens(config, source)
        _move_blocks(config, source)
        _move_head(config, source)
    except (EinopsError, IndexError, TypeError) as error:  # of arrays of another rank
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} is not a checkpoint of a ViT: {reason}") from error
    return source.model(config)


def _read(path: str | PathLike[str]) -> dict[str, Tensor]:
    arrays: Mapping[str, NDArray[Any]]
    try:
        with Path(path).open("rb") as file:  # np.load leaves its own open where it refuses the file
            arrays = np.load(file)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise ValueError("it is a single array (.npy)")
            prefix = next((p for p in _PREFIXES if f"{p}embedding/kernel" in arrays), None)
            # The state of an optimizer, which may lie beside the weights, is not read.
            weights = {n: arrays[n] for n in arrays if prefix is not None and n.startswith(prefix)}
    # Of a file that is missing, empty, cut off, damaged, or holds Python objects.
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as npz: {' '.join(str(error).split())}") from error
    if prefix is None:
        raise ValueError(f"{path} is not a checkpoint of a ViT: it has no embedding/kernel")
    for name, array in weights.items():
        if array.dtype.kind not in "fiu" and not _is_bfloat16(array):
            raise ValueError(f"{path} is not a checkpoint of a ViT: {name} holds {array.dtype}, which are no weights")
    return _unstacked({name.removeprefix(prefix): _tensor(array) for name, array in weights.items()})


def _is_bfloat16(array: NDArray[Any]) -> bool:
    """NumPy does not know bfloat16 and reads it as two bytes without a meaning."""
    return array.dtype.kind == "V" and array.dtype.itemsize == 2 and array.dtype.names is None


def _tensor(array: NDArray[Any]) -> Tensor:
    if _is_bfloat16(array):
        return torch.from_numpy(np.asarray(array, order="C").view(np.int16)).view(torch.bfloat16).float()
    is_double = array.dtype.kind == "f" and array.dtype.itemsize >= 8
    return torch.from_numpy(np.asarray(array, dtype=np.float64 if is_double else np.float32, order="C"))


def _unstacked(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """Arrays that big_vision stores for all layers at once, [L, ...], under the names they have when stored one by one."""
    stack = "Transformer/encoderblock/"
    for name in [name for name in arrays if name.startswith(stack)]:
        leaf = name.removeprefix(stack)
        arrays |= {f"{_BLOCK.format(i)}/{leaf}": layer for i, layer in enumerate(arrays.pop(name))}
    return arrays


def _names(source: Source) -> tuple[str, str, str]:
    """(attention, MLP, second norm) in a block: vision_transformer numbers its modules together, big_vision by kind."""
    if f"{_BLOCK.format(0)}/LayerNorm_1/scale" in source:
        return "MultiHeadDotProductAttention_0", "MlpBlock_0", "LayerNorm_1"
    return "MultiHeadDotProductAttention_1", "MlpBlock_3", "LayerNorm_2"


def _fields(path: str | PathLike[str], source: Source) -> dict[str, Any]:
    """The fields of a ViTConfig that follow from the weights alone."""
    shapes = {name: tuple(weight.shape) for name, weight in source.theirs.items()}
    attention, mlp, _ = _names(source)
    heads = source[f"{_BLOCK.format(0)}/{attention}/query/kernel"].shape[1]
    hidden = source[f"{_BLOCK.format(0)}/{mlp}/Dense_0/kernel"].shape[-1]
    if len(shapes["embedding/kernel"]) != 4:
        raise ValueError(
            f"{path} is not a checkpoint of a ViT: embedding/kernel is {list(shapes['embedding/kernel'])}, not [height, "
            "width, C, D]"
        )
    height, width, channels, dim = shapes["embedding/kernel"]
    fields = {
        "width": dim,
        "depth": len({m[1] for name in shapes if (m := re.match(r"Transformer/encoderblock_(\d+)/", name))}),
        "num_heads": heads,
        "mlp_ratio": hidden / dim,
        "num_classes": shapes.get("head/kernel", (0,))[-1],
        "pool": "map" if "MAPHead_0/probe" in shapes else "cls" if "cls" in shapes else "gap",
        "head": "mlp" if "pre_logits/kernel" in shapes else "linear",
    }
    if "conv_root/kernel" in shapes:
        return fields | _resnet(shapes)
    return fields | {"patch_size": (height, width), "in_channels": channels}


def _resnet(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    units = [tuple(map(int, m.groups())) for name in shapes if (m := re.match(r"block(\d+)/unit(\d+)/conv1", name))]
    layers = tuple(max(unit for block, unit in units if block == b) for b in sorted({block for block, _ in units}))
    _, _, channels, stem_width = shapes["conv_root/kernel"]
    height, width, inputs, _ = shapes["embedding/kernel"]
    if height != width or (height > 1 if layers else inputs != stem_width):
        raise ValueError(
            f"embedding/kernel {shapes['embedding/kernel']} cannot be expressed: hybrids have 1 × 1 patches, or square ones "
            "on the root alone"
        )
    return {
        "stem": "resnet",
        "stem_layers": layers,
        "stem_width": stem_width,
        "patch_size": 2 ** (len(layers) + 1) if layers else 4 * height,
        "in_channels": channels,
    }


def _convolution(source: Source, theirs: str, ours: str) -> None:
    source.ours[f"{ours}.weight"] = rearrange(source.take(f"{theirs}/kernel"), "h w i o -> o i h w")


def _norm(source: Source, theirs: str, ours: str) -> None:
    for their_leaf, leaf in (("scale", "weight"), ("bias", "bias")):
        values = source.take(f"{theirs}/{their_leaf}")
        source.ours[f"{ours}.{leaf}"] = values.flatten()  # group norms have been stored as [1, 1, 1, C]


def _dense(source: Source, theirs: str, ours: str) -> None:
    source.ours[f"{ours}.weight"] = source.take(f"{theirs}/kernel").T
    source.ours[f"{ours}.bias"] = source.take(f"{theirs}/bias")


def _heads(source: Source, theirs: Sequence[str], ours: str, pattern: str = "width h d -> (h d) width") -> None:
    """Projections of attention, whose kernels are split by heads, as one."""
    kernels = [rearrange(source.take(f"{name}/kernel"), pattern) for name in theirs]
    source.ours[f"{ours}.weight"] = torch.cat(kernels)
    source.ours[f"{ours}.bias"] = torch.cat([source.take(f"{name}/bias").flatten() for name in theirs])


def _move_stem(config: ViTConfig, source: Source) -> None:
    source.ours["stem.proj.bias"] = source.take("embedding/bias")
    if config.stem == "patch":
        source.ours["stem.proj.weight"] = rearrange(source.take("embedding/kernel"), "h w i o -> o (i h w)")
        return
    _convolution(source, "embedding", "stem.proj")
    _convolution(source, "conv_root", "stem.backbone.stem.conv")
    _norm(source, "gn_root", "stem.backbone.stem.norm")
    for stage, num_blocks in enumerate(config.stem_layers):
        for block in range(num_blocks):
            theirs, ours = f"block{stage + 1}/unit{block + 1}", f"stem.backbone.stages.{stage}.blocks.{block}"
            for i in (1, 2, 3):
                _convolution(source, f"{theirs}/conv{i}", f"{ours}.conv{i}")
                _norm(source, f"{theirs}/gn{i}", f"{ours}.norm{i}")
            if f"{theirs}/conv_proj/kernel" in source:
                _convolution(source, f"{theirs}/conv_proj", f"{ours}.downsample.conv")
                _norm(source, f"{theirs}/gn_proj", f"{ours}.downsample.norm")


def _move_tokens(config: ViTConfig, source: Source) -> None:
    if config.has_class_token:
        source.ours["class_token"] = source.take("cls")[0]
    for name in _TABLES:
        if name in source:
            table = rearrange(source.take(name), "... n d -> (... n) d")
            source.places(table, class_token=config.has_class_token and config.embed_class_token)


def _move_blocks(config: ViTConfig, source: Source) -> None:
    attention, mlp, norm2 = _names(source)
    for i in range(config.depth):
        theirs, ours = _BLOCK.format(i), f"blocks.{i}"
        _norm(source, f"{theirs}/LayerNorm_0", f"{ours}.norm1")
        qkv = [f"{theirs}/{attention}/{name}" for name in ("query", "key", "value")]
        _heads(source, qkv, f"{ours}.attention.qkv")
        _heads(source, [f"{theirs}/{attention}/out"], f"{ours}.attention.proj", _OUT)
        _norm(source, f"{theirs}/{norm2}", f"{ours}.norm2")
        for n in (0, 1):
            _dense(source, f"{theirs}/{mlp}/Dense_{n}", f"{ours}.mlp.fc{n + 1}")


def _move_head(config: ViTConfig, source: Source) -> None:
    _norm(source, "Transformer/encoder_norm", "norm")
    if config.pool == "map":
        attention = "MAPHead_0/MultiHeadDotProductAttention_0"
        source.ours["pool.query"] = rearrange(source.take("MAPHead_0/probe"), "... n d -> (... n) d")
        _heads(source, [f"{attention}/query"], "pool.q")
        _heads(source, [f"{attention}/key", f"{attention}/value"], "pool.kv")
        _heads(source, [f"{attention}/out"], "pool.proj", _OUT)
        _norm(source, "MAPHead_0/LayerNorm_0", "pool.norm")
        for n in (0, 1):
            _dense(source, f"MAPHead_0/MlpBlock_0/Dense_{n}", f"pool.mlp.fc{n + 1}")
    if config.head == "mlp":
        _dense(source, "pre_logits", "head.hidden")
    if config.num_classes:
        _dense(source, "head", "head.classifier")
