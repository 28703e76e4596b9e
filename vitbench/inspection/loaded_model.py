"""Weights as commands are given them: those of a run, or from elsewhere."""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from vitbench.config import RunConfig
from vitbench.data import DataInfo, normalise, with_channels
from vitbench.models import TimmModel, ViT, convert
from vitbench.models.weights import find_weights, is_run, load_trained, weights_sha256


@dataclass(frozen=True)
class Weights:
    """A model in evaluation mode, float32, on the CPU, and what is known of it."""

    model: ViT | TimmModel
    identity: str
    """Name, `run:` and a run_id where they are a run's, `@`, and 8 hex digits of their SHA-256."""
    sha256: str
    run: RunConfig | None = None
    """What trained them, where that is a run."""
    run_id: str = ""
    """That run's, as it was when they were written."""
    mean: tuple[float, ...] = ()
    """With `std`, per channel, of pixels in [0, 1]: what images are normalised with. Of weights from elsewhere empty."""
    std: tuple[float, ...] = ()
    class_names: tuple[str, ...] = ()
    """By label; empty where they are not known."""

    @property
    def name(self) -> str:
        """The run_id; of weights from elsewhere the identity."""
        return self.run_id or self.identity

    def on(self, mean: tuple[float, ...], std: tuple[float, ...]) -> Weights:
        """For images with these statistics, which weights from elsewhere see normalised with them."""
        return self if self.run is not None else replace(self, mean=mean, std=std)

    def normalised(self, pixels: Tensor) -> Tensor:
        """uint8 [B, C, H, W] as the model takes them: grey repeated where it takes colours, colours made grey where not."""
        return normalise(with_channels(pixels, self.model.config.in_channels), self.mean, self.std)


def open_weights(name: str, results: Path, *, in_channels: int | None) -> Weights:
    """Those of a run of `results`, or what `convert.load_named` knows; timm fits a first layer to `in_channels`.

    Raises ValueError where there are none.
    """
    if is_run(name):
        trained = load_trained(find_weights(name, results))
        return Weights(
            model=trained.model,
            identity=trained.identity,
            sha256=trained.weights_sha256,
            run=trained.config,
            run_id=trained.run_id,
            mean=trained.mean,
            std=trained.std,
            class_names=trained.class_names,
        )
    model = copy.deepcopy(convert.load_named(name, in_channels=in_channels)).eval()  # it is not ours to move
    return Weights(model, convert.weights_identity(name, model), weights_sha256(model))


def tell_unknown_classes(weights: str, info: DataInfo) -> None:
    """Says that a model's classes could be held against those of other data by their number alone."""
    print(
        f"vitbench: {weights} and {info.dataset} do not both name their classes; whether they are the same was not checked",
        file=sys.stderr,
        flush=True,
    )


def tell_channels(weights: Weights, info: DataInfo) -> None:
    """Says how images of other channels than the weights take are shown to them; raises ValueError where they cannot be."""
    channels = weights.model.config.in_channels
    if channels == info.in_channels:
        return
    if {channels, info.in_channels} != {1, 3}:
        raise ValueError(
            f"run {weights.name} takes images of {channels} channels, but those of {info.dataset} have {info.in_channels}; "
            "give other data"
        )
    how = "grey, and repeated for three channels" if info.in_channels == 1 else "coloured, and made grey"
    print(f"vitbench: images of {info.dataset} are {how}, which the weights take", file=sys.stderr, flush=True)
