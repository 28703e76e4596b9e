"""A trained model's features of a data set: whose weights, which images at which size, and the file they go to."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitbench.commands.display import is_live
from vitbench.config import DataConfig, RunConfig, block_width
from vitbench.data import ImageData, Images, StreamedImages, describe, load, normalise, with_channels
from vitbench.evaluation.exports import check_export, export
from vitbench.evaluation.features import feature_batches
from vitbench.kernels import native
from vitbench.models import TimmModel, ViT, convert
from vitbench.models.weights import find_weights, is_run, load_trained, weights_sha256
from vitbench.profiling.device import Device, open_device
from vitbench.records import Environment, describe_environment

PRECISIONS = ("fp32", "bf16")
SPLITS = ("train", "test")


@dataclass(frozen=True)
class Trunk:
    """A trained model in evaluation mode on its device, and the data set whose images it is given."""

    model: ViT | TimmModel
    weights: str
    """Name, `run:` and a run_id where they are a run's, `@`, and 8 hex digits of their SHA-256."""
    run: RunConfig | None
    """What trained them, where that is a run."""
    run_id: str
    """That run's, as it was when they were written; else empty."""
    weights_sha256: str
    image_size: tuple[int, int]
    data: ImageData
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: Device
    precision: str
    environment: Environment

    def facts(self) -> dict[str, Any]:
        """All that features depend on, as JSON has it."""
        return {
            "weights": self.weights,
            "weights_sha256": self.weights_sha256,
            "dataset": self.data.info.dataset,
            "data_sha256": self.data.sha256,
            "image_size": list(self.image_size),
            "mean": list(self.mean),
            "std": list(self.std),
            "precision": self.precision,
        }

    def batches(self, split: str, *, batch_size: int) -> Iterator[NDArray[np.float32]]:
        """Pre-logits of every image of `train` or `test`, in the data set's order: float32 [B, D], on the CPU."""
        images: Images | StreamedImages = getattr(self.data, split)
        pixels = images.batches(np.arange(len(images)), batch_size, self.device.torch_device)
        found = feature_batches(
            self.model.features,
            (self._normalised(batch) for batch, _ in pixels),
            autocast=partial(self.device.autocast, self.precision),
        )
        yield from _shown(found, f"features of {split}", len(images))

    def _normalised(self, pixels: Tensor) -> Tensor:
        return normalise(with_channels(pixels, len(self.mean)), self.mean, self.std)


@dataclass(frozen=True)
class TrunkRequest:
    """Whose features of which images, and what computes them."""

    name: str
    """A run_id of `results` or its beginning, a file, or `timm:NAME`."""
    dataset: str
    data_root: Path | None
    download: bool
    batch_size: int
    device: str
    precision: str
    threads: int | None
    results: Path


def open_trunk(request: TrunkRequest) -> Trunk:
    """The weights that are asked for, and the data at their size.

    Images of another number of channels are repeated or made grey for a run's weights, and that is said; timm's are given a
    first layer that takes them. Raises ValueError for what is not there.
    """
    name, dataset, data_root, download = request.name, request.dataset, request.data_root, request.download
    precision = request.precision
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is not known here; use {' or '.join(PRECISIONS)}")
    opened = open_device(request.device)
    if request.threads:
        torch.set_num_threads(request.threads)
    info = describe(dataset, root=data_root, download=download)
    run, run_id, normalisation = None, "", None
    if is_run(name):
        trained = load_trained(find_weights(name, request.results))
        model, run, run_id, sha256 = trained.model, trained.config, trained.run_id, trained.weights_sha256
        normalisation, weights = (trained.mean, trained.std), trained.identity
    else:
        model = copy.deepcopy(convert.load_named(name, in_channels=info.in_channels))  # it is not ours to move
        weights, sha256 = convert.weights_identity(name, model), weights_sha256(model)
    config = model.config
    if config.in_channels != info.in_channels:
        if {config.in_channels, info.in_channels} != {1, 3}:
            raise ValueError(
                f"run {name!r} takes images of {config.in_channels} channels, but those of {info.dataset} have "
                f"{info.in_channels}; give other data"
            )
        how = "grey, and repeated for three channels" if info.in_channels == 1 else "coloured, and made grey"
        print(f"vitbench: images of {info.dataset} are {how}, which the weights take", file=sys.stderr, flush=True)
    data = _load(dataset, root=data_root, image_size=config.image_hw, download=download)
    mean, std = normalisation or (data.mean, data.std)
    environment = describe_environment(
        opened.name,
        precision=precision,
        threads=torch.get_num_threads(),
        data_sha256=data.sha256,
        kernels=native.describe_use(
            opened.torch_device.type, precision=precision, compiled=False, width=block_width(config)
        ),
    )
    placed = opened.place(model).eval()
    return Trunk(placed, weights, run, run_id, sha256, config.image_hw, data, mean, std, opened, precision, environment)


def export_features(request: TrunkRequest, *, out: Path, split: str, as_json: bool) -> None:
    """Writes the features of a split to `out`, with ids (places in the split, from 0), labels, and what they depend on."""
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is not known; use {' or '.join(SPLITS)}")
    check_export(out)
    trunk = open_trunk(request)
    labels = getattr(trunk.data, split).labels
    facts = {**trunk.facts(), "split": split, "environment": trunk.environment.model_dump(mode="json")}
    widths: set[int] = set()

    def watched() -> Iterator[NDArray[np.float32]]:
        for values in trunk.batches(split, batch_size=request.batch_size):
            widths.add(values.shape[1])
            yield values

    export(out, watched(), ids=np.arange(len(labels)), labels=labels, facts=facts)
    (width,) = widths
    if as_json:
        print(json.dumps({**facts, "file": str(out), "images": len(labels), "width": width}))
        return
    print(
        f"{len(labels):,} images of {trunk.data.info.dataset} {split}, {width} features each, of {trunk.weights}: {out}"
    )


def validation_split(trunk: Trunk) -> dict[str, float | int]:
    """How validation images are cut from train, as `vitbench.data.split` takes it.

    Where the weights were trained on this data set, those that their run held out: all others the trunk has seen, and on
    those every probe would look good.
    """
    config = trunk.run
    if config is not None and config.data.dataset == trunk.data.info.dataset:
        return {"validation_fraction": config.data.validation_fraction, "seed": config.seed}
    return {"validation_fraction": DataConfig().validation_fraction, "seed": 0}


def _load(dataset: str, *, root: Path | None, image_size: tuple[int, int], download: bool) -> ImageData:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not is_live()) as progress:
        row = progress.add_task(f"reading {dataset}", total=None)

        def show(what: str, done: int, total: int) -> None:
            progress.update(row, description=f"reading {what}", completed=done, total=total)

        return load(dataset, root=root, image_size=image_size, download=download, progress=show)


def _shown(batches: Iterator[NDArray[np.float32]], what: str, total: int) -> Iterator[NDArray[np.float32]]:
    """The same batches, with a bar for whoever watches."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not is_live()) as progress:
        row = progress.add_task(what, total=total)
        for values in batches:
            yield values
            progress.advance(row, len(values))
