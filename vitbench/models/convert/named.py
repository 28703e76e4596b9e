"""Weights by the name that a user gives them, `timm:NAME` or a file, and by their content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

import timm
import torch
from timm.models import is_model_pretrained
from torch import nn

from vitbench.config import Activation, Position
from vitbench.models.convert.npz import from_npz
from vitbench.models.convert.timm import from_timm
from vitbench.models.vit import ViT
from vitbench.models.weights import SUFFIX, load_trained
from vitbench.text import printable


@dataclass(frozen=True, kw_only=True)
class Hints:
    """What a `FILE.npz` may not tell, as `from_npz` says; `image_size` counts only where it does not. None: not asked for."""

    image_size: int | tuple[int, int] | None = None
    activation: Activation | None = None
    position: Position | None = None


def load_named(name: str, *, in_channels: int | None, hints: Hints = Hints()) -> ViT:
    """The model that `name` stands for, in float32, not to be changed by its callers.

    `timm:NAME`: any ViT that timm can create with its weights, from its hub or cache (`vit_tiny_patch16_224`,
    `hf-hub:org/model`, `local-dir:/folder`); its first layer is fitted to `in_channels` by timm, to three where that is
    None. `FILE.npz`: a checkpoint of the paper's authors, read with the `hints`. `FILE.safetensors`: what a run was left
    with. Raises ValueError where there is no such model, it cannot be had, or takes other than `in_channels`.
    """
    if name.endswith(SUFFIX):
        trained = load_trained(name).model
        if not isinstance(trained, ViT):
            raise ValueError(f"init {name!r} is {trained.config.title}; start from a ViT")
        model = trained
    elif name.startswith("timm:"):
        model = _from_timm(name, in_channels or 3)
    else:
        check_name(name, field="init")
        activation = hints.activation or "gelu_tanh"
        model = from_npz(name, image_size_if_untold=hints.image_size, activation=activation, position=hints.position)
    if in_channels not in (None, model.config.in_channels):
        raise ValueError(
            f"init {name!r} is for images of {model.config.in_channels} channels, but the data's have {in_channels}"
        )
    return model.float()


def weights_identity(name: str, model: nn.Module) -> str:
    """What was loaded, wherever it lies: the name without folders, `@`, and 8 hex digits of its weights' SHA-256.

    Of a run's weights the name is `run:` and its run_id.
    """
    if name.endswith(SUFFIX):
        return load_trained(name).identity
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(f"{key}{list(value.shape)}".encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    kind, _, rest = name.rpartition(":")
    label = f"timm:{Path(rest).name if kind.endswith('local-dir') else name.removeprefix('timm:')}"
    return f"{printable(label if name.startswith('timm:') else Path(name).name)}@{digest.hexdigest()[:8]}"


@lru_cache(maxsize=1)
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
        # What cannot be expressed is refused before anything is downloaded.
        with torch.device("meta"):
            shapes = _create(name, model_name, in_channels, pretrained=False)
        _converted(name, shapes)
    return _converted(name, _create(name, model_name, in_channels, pretrained=True))


def _create(name: str, model_name: str, in_channels: int, *, pretrained: bool) -> nn.Module:
    try:
        return timm.create_model(model_name, pretrained=pretrained, in_chans=in_channels)
    # Hub, safetensors, torch, JSON and the model's constructor each raise errors of another kind.
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"init {name!r} cannot be loaded: {reason} (timm looks at the Hugging Face hub and in its cache, HF_HOME; "
            "a folder can be given as timm:local-dir:FOLDER)"
        ) from error


def _converted(name: str, peer: nn.Module) -> ViT:
    try:
        return from_timm(peer)
    except ValueError as error:
        raise ValueError(f"init {name!r}: {error}") from error


def check_name(name: str, *, field: str) -> None:
    """Raises ValueError where `field`, an argument of a command, names no weights from elsewhere."""
    if not name.startswith("timm:") and not name.endswith((SUFFIX, ".npz")):
        raise ValueError(
            f"{field} {name!r} is neither timm:NAME, nor a run_id, nor a FILE{SUFFIX} or FILE.npz; a run_id has 16 hex "
            "digits, of which 4 are enough"
        )
