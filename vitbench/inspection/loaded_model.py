"""Which trained model does a name stand for: one of a run, or one from elsewhere?"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from vitbench.config import RunConfig
from vitbench.data import DataInfo, ImageData, load, normalise, with_channels
from vitbench.data.loading import OnProgress
from vitbench.models import TimmModel, UserModel, ViT, convert
from vitbench.models.insides import NoSuchPartError
from vitbench.models.weights import find_weights, is_run, load_trained, weights_sha256
from vitbench.text import say


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode, float32, on the CPU, and what is known of its weights."""

    model: ViT | TimmModel | UserModel
    identity: str
    """Name, `run:` and a run_id where they are a run's, `@`, and 8 hex digits of their SHA-256."""
    sha256: str
    run: RunConfig | None = None
    """The run that trained them; None for weights from elsewhere."""
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

    @property
    def vit(self) -> ViT:
        """Raises NoSuchPartError where the model is of timm."""
        if not isinstance(self.model, ViT):
            raise NoSuchPartError(f"{self.model.config.title} is a whole model, whose insides are not looked into")
        return self.model

    def normalised(self, pixels: Tensor) -> Tensor:
        """uint8 [B, C, H, W] as the model takes them: grey repeated where it takes colours, colours made grey where not."""
        return normalise(with_channels(pixels, self.model.config.in_channels), self.mean, self.std)


def load_model(name: str, results: Path, *, in_channels: int | None) -> LoadedModel:
    """The model of a run of `results`, or what `convert.load_named` knows; timm fits a first layer to `in_channels`.

    Raises ValueError where there is none.
    """
    if is_run(name):
        trained = load_trained(find_weights(name, results))
        return LoadedModel(
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
    return LoadedModel(model, convert.weights_identity(name, model), weights_sha256(model))


def tell_unknown_classes(weights: str, info: DataInfo) -> None:
    """Says that a model's classes and those of other data could be compared by their number alone."""
    say(f"{weights} and {info.dataset} do not both name their classes; whether they are the same was not checked")


def load_images(
    loaded: LoadedModel, dataset: str, info: DataInfo, *, data_root: Path | None, download: bool, progress: OnProgress
) -> tuple[LoadedModel, ImageData]:
    """The images at the model's size, as its run evaluated it, and the model for them: weights from elsewhere see them
    normalised as they are.

    Images of another number of channels are repeated or made grey, and that is said. Raises ValueError where they cannot
    be.
    """
    config = loaded.model.config
    if config.in_channels != info.in_channels:
        if {config.in_channels, info.in_channels} != {1, 3}:
            raise ValueError(
                f"run {loaded.name} takes images of {config.in_channels} channels, but those of {info.dataset} have "
                f"{info.in_channels}; give other data"
            )
        how = "grey, and repeated for three channels" if info.in_channels == 1 else "coloured, and made grey"
        say(f"images of {info.dataset} are {how}, which the weights take")
    eval_crop = loaded.run.data.eval_crop if loaded.run else 1.0
    data = load(
        dataset, root=data_root, image_size=config.image_hw, eval_crop=eval_crop, download=download, progress=progress
    )
    return loaded if loaded.run else replace(loaded, mean=data.mean, std=data.std), data
