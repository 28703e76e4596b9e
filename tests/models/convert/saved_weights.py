"""Made-up weights as others save them: in the layouts of the paper's authors (.npz), and as timm saves a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch

Arrays = dict[str, np.ndarray]


WIDTH, DEPTH, HEADS, HIDDEN, CLASSES = 16, 3, 2, 40, 5


def attention(name: str, draw: Any) -> Arrays:
    d = WIDTH // HEADS
    arrays = {}
    for part in ("query", "key", "value"):
        arrays |= {f"{name}/{part}/kernel": draw(WIDTH, HEADS, d), f"{name}/{part}/bias": draw(HEADS, d)}
    return arrays | {f"{name}/out/kernel": draw(HEADS, d, WIDTH), f"{name}/out/bias": draw(WIDTH)}


def dense(name: str, inputs: int, outputs: int, draw: Any) -> Arrays:
    return {f"{name}/kernel": draw(inputs, outputs), f"{name}/bias": draw(outputs)}


def norm(name: str, draw: Any, *shape: int) -> Arrays:
    return {f"{name}/scale": 1 + draw(*shape), f"{name}/bias": draw(*shape)}


def checkpoint(
    layout: str, *, grid: int = 3, patch: int = 4, pool: str = "cls", resnet: tuple[int, ...] | None = None
) -> Arrays:
    """`layout`: `vit` (vision_transformer), `bv` (big_vision), `stacked` (big_vision, layers scanned)."""
    generator = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return generator.normal(scale=0.3, size=shape).astype(np.float32)

    names = ("MultiHeadDotProductAttention_1", "MlpBlock_3", "LayerNorm_2")
    if layout != "vit":
        names = ("MultiHeadDotProductAttention_0", "MlpBlock_0", "LayerNorm_1")
    inputs = 3 if resnet is None else 64 * 4 * 2 ** (len(resnet) - 1) if resnet else 64
    embedding = (1, 1) if resnet else (patch, patch)
    arrays = {"embedding/kernel": draw(*embedding, inputs, WIDTH), "embedding/bias": draw(WIDTH)}
    arrays |= norm("Transformer/encoder_norm", draw, WIDTH) | dense("head", WIDTH, CLASSES, draw)
    if pool == "cls":
        arrays["cls"] = draw(1, 1, WIDTH)
    if layout == "vit":
        arrays["Transformer/posembed_input/pos_embedding"] = draw(1, grid**2 + (pool == "cls"), WIDTH)
    else:
        arrays["pos_embedding"] = draw(1, grid**2, WIDTH)
    blocks = []
    for _ in range(DEPTH):
        block = norm("LayerNorm_0", draw, WIDTH) | norm(names[2], draw, WIDTH) | attention(names[0], draw)
        block |= dense(f"{names[1]}/Dense_0", WIDTH, HIDDEN, draw) | dense(f"{names[1]}/Dense_1", HIDDEN, WIDTH, draw)
        blocks.append(block)
    if layout == "stacked":
        arrays |= {f"Transformer/encoderblock/{leaf}": np.stack([b[leaf] for b in blocks]) for leaf in blocks[0]}
    else:
        arrays |= {f"Transformer/encoderblock_{i}/{leaf}": a for i, b in enumerate(blocks) for leaf, a in b.items()}
    if pool == "map":
        arrays |= {"MAPHead_0/probe": draw(1, 1, WIDTH)} | norm("MAPHead_0/LayerNorm_0", draw, WIDTH)
        arrays |= attention("MAPHead_0/MultiHeadDotProductAttention_0", draw)
        arrays |= dense("MAPHead_0/MlpBlock_0/Dense_0", WIDTH, HIDDEN, draw)
        arrays |= dense("MAPHead_0/MlpBlock_0/Dense_1", HIDDEN, WIDTH, draw)
    return arrays | ({} if resnet is None else backbone(resnet, draw))


def backbone(layers: tuple[int, ...], draw: Any) -> Arrays:
    arrays = {"conv_root/kernel": draw(7, 7, 3, 64)} | norm("gn_root", draw, 64)
    channels = 64
    for stage, num_units in enumerate(layers):
        middle = 64 * 2**stage
        for i in range(num_units):
            name = f"block{stage + 1}/unit{i + 1}"
            shapes = [(1, 1, channels, middle), (3, 3, middle, middle), (1, 1, middle, 4 * middle)]
            for n, shape in enumerate(shapes, start=1):
                arrays |= {f"{name}/conv{n}/kernel": draw(*shape)}
                # Stored with or without leading ones: [1, 1, 1, C] in the oldest files.
                arrays |= norm(f"{name}/gn{n}", draw, *((1, 1, 1) if stage else ()), shape[-1])
            if i == 0:
                arrays |= {f"{name}/conv_proj/kernel": draw(1, 1, channels, 4 * middle)}
                arrays |= norm(f"{name}/gn_proj", draw, 4 * middle)
            channels = 4 * middle
    return arrays


def save(folder: Path, arrays: Arrays, prefix: str = "") -> Path:
    path = folder / "weights.npz"
    np.savez(path, **{f"{prefix}{name}": array for name, array in arrays.items()})
    return path


MODEL: dict[str, Any] = {"img_size": 32, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2}


def save_timm(folder: Path, seed: int = 0) -> str:
    """A checkpoint as timm writes it, and the name that it goes by."""
    torch.manual_seed(seed)
    model = timm.create_model("vit_tiny_patch16_224", **MODEL, num_classes=7)
    timm.models.save_for_hf(model, folder, model_args=MODEL)
    return f"timm:local-dir:{folder}"
