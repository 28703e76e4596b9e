"""Weights by the name that a user gives them, `timm:NAME` or a file, and by their content."""

from __future__ import annotations

import hashlib
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

import timm
from timm.models import is_model_pretrained

from vitbench.models.convert.npz import from_npz
from vitbench.models.convert.timm import from_timm
from vitbench.models.vit import ViT


@lru_cache(maxsize=1)
def load_named(name: str, *, in_channels: int) -> ViT:
    """The model that `name` stands for, in float32, not to be changed by its callers.

    `timm:NAME`: any ViT that timm can create with its weights, from its hub or cache (`vit_tiny_patch16_224`,
    `hf-hub:org/model`, `local-dir:/folder`); its first layer is fitted to `in_channels` by timm. `FILE.npz`: a
    checkpoint of the paper's authors. Raises ValueError where there is no such model, or it cannot be had.
    """
    model = _from_timm(name, in_channels) if name.startswith("timm:") else _from_file(name)
    if model.config.in_channels != in_channels:
        raise ValueError(
            f"init {name!r} is for images of {model.config.in_channels} channels, but the data's have {in_channels}"
        )
    return model.float()


def identity(name: str, model: ViT) -> str:
    """What was loaded, wherever it lies: the name without folders, `@`, and 8 hex digits of its weights' SHA-256."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(f"{key}{list(value.shape)}".encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    kind, _, rest = name.rpartition(":")
    label = f"timm:{Path(rest).name if kind.endswith('local-dir') else name.removeprefix('timm:')}"
    return f"{label if name.startswith('timm:') else Path(name).name}@{digest.hexdigest()[:8]}"


def _from_timm(name: str, in_channels: int) -> ViT:
    model_name = name.removeprefix("timm:")
    if ":" not in model_name:
        if not timm.is_model(model_name):
            close = get_close_matches(model_name, timm.list_models("*vit*", pretrained=True), n=3)
            hint = f"did you mean {' or '.join(f'timm:{c}' for c in close)}?" if close else "see timm.list_models()"
            raise ValueError(f"init {name!r} is no model of timm; {hint}")
        if not is_model_pretrained(model_name):
            raise ValueError(
                f"init {name!r}: timm has no weights for this model; see timm.list_models(pretrained=True)"
            )
    try:
        peer = timm.create_model(model_name, pretrained=True, in_chans=in_channels)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"init {name!r} cannot be loaded: {reason} (timm looks at the Hugging Face hub and in its cache, HF_HOME; "
            "a folder can be given as timm:local-dir:FOLDER)"
        ) from error
    try:
        return from_timm(peer)
    except ValueError as error:
        raise ValueError(f"init {name!r}: {error}") from error


def _from_file(name: str) -> ViT:
    if not name.endswith(".npz"):
        raise ValueError(f"init {name!r} is neither timm:NAME nor a checkpoint FILE.npz")
    return from_npz(name)
