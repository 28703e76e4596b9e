"""Which numbers does each figure of a trained model show?

Each function returns what JSON can hold, or raises NoSuchPartError with the reason why it has no meaning for the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitbench.config import ViTConfig
from vitbench.evaluation import attention_maps, similarity
from vitbench.evaluation.accuracy import confusion_counts
from vitbench.evaluation.principal import principal_components
from vitbench.inspection.loaded_model import LoadedModel
from vitbench.inspection.subject import Subject
from vitbench.models import ViT, recording
from vitbench.models.insides import NoSuchPartError, patch_filters, position_tables
from vitbench.models.weights import differing_class

COMPONENTS = 28
"""Of the patch filters (Dosovitskiy et al. 2021, Figure 7)."""
MOST_TILES = 14
"""Of position similarity, a side; of larger grids, so many rows and columns evenly spaced."""
CKA_BATCH = 64
EVALUATION_BATCH = 256
MAP_BYTES = 2**28
"""Attention maps of one block that are in memory at once."""
DIGITS = 6
"""Significant ones that are kept."""


def filters(loaded: LoadedModel) -> dict[str, Any]:
    """Principal components of the patch filters, each over its own range of values."""
    kernels = patch_filters(loaded.vit)
    components, shares = principal_components(kernels, COMPONENTS)
    return {
        "num_filters": len(kernels),
        "patch_size": list(kernels.shape[-2:]),
        "share_of_variance": as_json_numbers(shares),
        "components": as_json_numbers(components),
    }


def position(loaded: LoadedModel) -> dict[str, Any]:
    """Cosine similarity of places: `similarity[i][j][k][l]` is that of the tile in row i and column j with patch (k, l)."""
    tables, config = position_tables(loaded.vit), loaded.vit.config
    rows, columns = config.grid
    tile_rows, tile_columns = _evenly(rows, MOST_TILES), _evenly(columns, MOST_TILES)
    alike = similarity.cosine_similarity(tables[0]).reshape(rows, columns, rows, columns)
    return {
        "position": config.position,
        "num_tables": len(tables),
        "tile_rows": tile_rows,
        "tile_columns": tile_columns,
        "similarity": as_json_numbers(alike[tile_rows][:, tile_columns]),
    }


@torch.inference_mode()
def distance(subject: Subject) -> dict[str, Any]:
    """Mean attention distance in pixels and the share of attention that goes to prefix tokens, by block and head."""
    model, config = subject.loaded.vit, subject.loaded.vit.config
    if config.num_patches == 1:
        raise NoSuchPartError("there is one patch, from which nothing is away")
    between = attention_maps.grid_distances(config.grid, config.patch_hw)
    sums = torch.zeros(2, config.depth, config.num_heads, dtype=torch.float64)

    def add(block: int, maps: Tensor) -> None:
        sums[0, block] += attention_maps.attention_distance(maps, between).sum(dim=0).cpu()
        sums[1, block] += attention_maps.prefix_share(maps, config.num_patches).sum(dim=0).cpu()

    with recording.attention_maps(model, add):
        for images, _ in subject.batches(subject.rows, _batch_size(model)):
            model(images)
    means = sums / len(subject.rows)
    return {
        "distance_pixels": as_json_numbers(means[0]),
        "uniform_pixels": float(between.mean()),
        "prefix_share": as_json_numbers(means[1]),
        "num_prefix_tokens": config.num_prefix_tokens,
        "num_images": len(subject.rows),
    }


@torch.inference_mode()
def rollout(subject: Subject) -> dict[str, Any]:
    """Attention rollout of what the logits read, over patches, as multiples of an even share; [images, rows, columns]."""
    model, config = subject.loaded.vit, subject.loaded.vit.config
    rolled: list[Tensor] = []
    pictures: list[dict[str, Any]] = []
    rows: list[Tensor] = []

    def roll(block: int, maps: Tensor) -> None:
        rolled.append(attention_maps.roll_out(maps, rolled.pop() if block else None))

    with recording.attention_maps(model, roll):
        for images, labels in subject.batches(subject.pictured, _batch_size(model)):
            pictures += subject.pictures(len(pictures), labels, model(images))
            rows.append(_read_rows(config, rolled.pop()))
    patches = torch.cat(rows)[:, config.num_prefix_tokens :]
    return {"reads": READS[config.pool], "images": pictures, **_relative_to_even_share(patches, config)}


def _relative_to_even_share(patches: Tensor, config: ViTConfig) -> dict[str, Any]:
    """Attention to patches, [..., N], as multiples of what each would get were it even; the rest is prefix tokens'."""
    share = patches.sum(dim=-1, keepdim=True)
    return {
        "prefix_share": as_json_numbers(1 - share.squeeze(-1)),
        "relative": as_json_numbers((patches / share * config.num_patches).unflatten(-1, config.grid)),
    }


READS = {
    "cls": "the class token",
    "gap": "the mean of all patches, since there is no class token",
    "mean_all": "the mean of class token and patches, which is what logits are computed from",
    "map": "the mean of all patches, since there is no class token (the pooling's own attention is left out)",
}
"""Whose row of the rollout is read, by `ViTConfig.pool`."""


def _read_rows(config: ViTConfig, rolled: Tensor) -> Tensor:
    """[B, T, T] → [B, T]."""
    if config.pool == "cls":
        return rolled[:, 0]
    patches = rolled[:, config.num_prefix_tokens :]
    return (torch.cat([rolled[:, :1], patches], dim=1) if config.has_class_token else patches).mean(dim=1)


@torch.inference_mode()
def class_token(subject: Subject) -> dict[str, Any]:
    """The class token's attention to patches in the last block, by head, as multiples of an even share."""
    model, config = subject.loaded.vit, subject.loaded.vit.config
    if not config.has_class_token:
        raise NoSuchPartError(f"pool {config.pool!r}: there is no class token")
    pictures: list[dict[str, Any]] = []
    patches: list[Tensor] = []

    def keep(block: int, maps: Tensor) -> None:
        if block == config.depth - 1:
            patches.append(maps[:, :, 0, config.num_prefix_tokens :].double().cpu())

    with recording.attention_maps(model, keep):
        for images, labels in subject.batches(subject.pictured, _batch_size(model)):
            pictures += subject.pictures(len(pictures), labels, model(images))
    return {"block": config.depth, "images": pictures, **_relative_to_even_share(torch.cat(patches), config)}


@torch.inference_mode()
def cka(subject: Subject, other: Subject | None = None) -> dict[str, Any]:
    """Linear CKA between the layers of the model and those of another, or among its own: [our layers, their layers].

    The other's images are the same, at its model's size.
    """
    if len(subject.rows) < similarity.FEWEST:
        raise NoSuchPartError(f"it needs {similarity.FEWEST} images or more, not {len(subject.rows)}")

    def grams() -> Iterator[tuple[Tensor, Tensor]]:
        for rows in np.array_split(subject.rows, max(1, len(subject.rows) // CKA_BATCH)):
            ours = _grams(subject, rows)
            yield ours, _grams(other, rows) if other else ours

    sides = [side.loaded for side in (subject, other or subject)]
    return {
        "run_ids": [side.name for side in sides],
        "layers": [recording.layers_of(side.model) for side in sides],
        "cka": as_json_numbers(similarity.minibatch_cka(grams())),
        "num_images": len(subject.rows),
    }


def _grams(subject: Subject, rows: NDArray[np.int64]) -> Tensor:
    """Inner products between these images at each of its layers, [layers, B, B]."""
    model = subject.loaded.model
    ((images, _),) = subject.batches(rows, len(rows))
    grams: list[Tensor] = []
    with recording.layer_outputs(model, lambda _, output: grams.append(similarity.gram(output))):
        # All tokens of the last block too, of which the logits may need one.
        (model.tokens if isinstance(model, ViT) else model)(images)
    return torch.stack(grams)


@torch.inference_mode()
def confusion(subject: Subject) -> dict[str, Any]:
    """How many test images of each class (row) were taken for each class (column), over the whole test split."""
    model, labels, num_classes = subject.loaded.model, subject.data.test.labels, subject.data.info.num_classes
    if model.config.num_classes != num_classes:
        raise NoSuchPartError(f"the model knows {model.config.num_classes} classes, these images {num_classes}")
    if difference := differing_class(subject.loaded.class_names, subject.data.class_names):
        raise NoSuchPartError(difference)
    everything = np.arange(len(labels))
    predicted = [model(images).argmax(dim=-1).cpu() for images, _ in subject.batches(everything, EVALUATION_BATCH)]
    counts = confusion_counts(labels, torch.cat(predicted).numpy(), num_classes=num_classes)
    return {
        "classes": [subject.class_name(label) for label in range(num_classes)],
        "counts": counts.tolist(),
        "top1": float(np.trace(counts) / counts.sum()),
        "num_images": len(everything),
    }


OF_WEIGHTS: dict[str, Callable[[LoadedModel], dict[str, Any]]] = {"filters": filters, "position": position}
OF_IMAGES: dict[str, Callable[[Subject], dict[str, Any]]] = {
    "distance": distance,
    "rollout": rollout,
    "class-token": class_token,
    "cka": cka,
    "confusion": confusion,
}


def as_json_numbers(values: Tensor) -> Any:
    """Nested lists of floats of DIGITS significant digits; None where a value is not finite."""
    return _rounded(values.double().cpu().tolist())


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _evenly(count: int, most: int) -> list[int]:
    """Up to `most` of range(count), evenly spaced, the first and the last among them."""
    return [int(i) for i in np.unique(np.linspace(0, count - 1, min(count, most)).round())]


def _batch_size(model: ViT) -> int:
    config = model.config
    return max(1, MAP_BYTES // (8 * config.num_heads * config.num_tokens**2))
