"""A trained model's features of a data set: whose weights, which images at which size, and the file they go to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vitbench.commands.display import is_live
from vitbench.config import DataConfig, block_width
from vitbench.data import ImageData, Images, StreamedImages, describe, load
from vitbench.device import Device, open_device
from vitbench.evaluation.exports import check_export, export
from vitbench.evaluation.features import feature_batches
from vitbench.inspection.loaded_model import Weights, open_weights, tell_channels
from vitbench.kernels import native
from vitbench.kernels.blocks import install
from vitbench.records import Environment, describe_environment

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Trunk:
    """A trained model in evaluation mode on its device, and the data set whose images it is given."""

    of: Weights
    image_size: tuple[int, int]
    data: ImageData
    device: Device
    precision: str
    environment: Environment

    def facts(self) -> dict[str, Any]:
        """All that features depend on, as JSON has it."""
        return {
            "weights": self.of.identity,
            "weights_sha256": self.of.sha256,
            "dataset": self.data.info.dataset,
            "data_sha256": self.data.sha256,
            "image_size": list(self.image_size),
            "mean": list(self.of.mean),
            "std": list(self.of.std),
            "precision": self.precision,
        }

    def batches(self, split: str, *, batch_size: int) -> Iterator[NDArray[np.float32]]:
        """Pre-logits of every image of `train` or `test`, in the data set's order: float32 [B, D], on the CPU."""
        images: Images | StreamedImages = getattr(self.data, split)
        pixels = images.batches(np.arange(len(images)), batch_size, self.device.torch_device)
        found = feature_batches(
            self.of.model.features,
            (self.of.normalised(batch) for batch, _ in pixels),
            autocast=partial(self.device.autocast, self.precision),
        )
        yield from _shown(found, f"features of {split}", len(images))


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
    opened = open_device(request.device)
    if request.threads:
        torch.set_num_threads(request.threads)
    info = describe(dataset, root=data_root, download=download)
    weights = open_weights(name, request.results, in_channels=info.in_channels)
    config = weights.model.config
    tell_channels(weights, info)
    data = _load(dataset, root=data_root, image_size=config.image_hw, download=download)
    weights = weights.on(data.mean, data.std)
    environment = describe_environment(
        opened.name,
        precision=precision,
        threads=torch.get_num_threads(),
        data_sha256=data.sha256,
        kernels=native.describe_use(
            opened.torch_device.type, precision=precision, compiled=False, width=block_width(config)
        ),
    )
    weights = replace(weights, model=opened.place(install(weights.model)))
    return Trunk(weights, config.image_hw, data, opened, precision, environment)


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
        f"{len(labels):,} images of {trunk.data.info.dataset} {split}, {width} features each, of {trunk.of.identity}: {out}"
    )


def validation_split(trunk: Trunk) -> dict[str, float | int]:
    """How validation images are cut from train, as `vitbench.data.split` takes it.

    Where the weights were trained on this data set, those that their run held out: all others the trunk has seen, and on
    those every probe would look good.
    """
    config = trunk.of.run
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
