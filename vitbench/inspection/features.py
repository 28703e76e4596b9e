"""What does a trained model make of the images of a data set? Its features, the pre-logits, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vitbench.config import block_width
from vitbench.data import ImageData, Images, StreamedImages
from vitbench.data.loading import OnProgress
from vitbench.device import Device
from vitbench.evaluation.exports import export
from vitbench.evaluation.features import LabelledFeatures, feature_batches, keep
from vitbench.inspection.loaded_model import LoadedModel
from vitbench.kernels import install
from vitbench.kernels.choice import recorded_use
from vitbench.machine import cache_directory
from vitbench.records import Environment, describe_environment


@dataclass(frozen=True)
class FeatureExtractor:
    """A model on its device, and the data set of whose images it computes the features."""

    loaded: LoadedModel
    data: ImageData
    device: Device
    precision: str
    batch_size: int
    environment: Environment
    progress: OnProgress

    def facts(self) -> dict[str, Any]:
        """All that features depend on, as JSON has it."""
        return {
            "weights": self.loaded.identity,
            "weights_sha256": self.loaded.sha256,
            "dataset": self.data.info.dataset,
            "data_sha256": self.data.sha256,
            "image_size": list(self.loaded.model.config.image_hw),
            "eval_crop": self.loaded.run.data.eval_crop if self.loaded.run else 1.0,
            "mean": list(self.loaded.mean),
            "std": list(self.loaded.std),
            "precision": self.precision,
        }

    def images(self, split: str) -> Images | StreamedImages:
        """Those of `train` or `test`."""
        return self.data.train if split == "train" else self.data.test

    def batches(self, split: str) -> Iterator[NDArray[np.float32]]:
        """Features of every image of `train` or `test`, in the data set's order: float32 [B, D], on the CPU."""
        images = self.images(split)
        pixels = images.batches(np.arange(len(images)), self.batch_size, self.device.torch_device)
        features = feature_batches(
            self.loaded.model.features,
            (self.loaded.normalised(batch) for batch, _ in pixels),
            autocast=partial(self.device.autocast, self.precision),
        )
        num_done = 0
        for batch in features:
            yield batch
            num_done += len(batch)
            self.progress(f"features of {split}", num_done, len(images))

    def labelled(self, split: str) -> LabelledFeatures:
        """Features of `train` or `test` with their labels, on disk: those of a million images need not fit in memory."""
        labels = self.images(split).labels
        return LabelledFeatures(keep(self.batches(split), num_images=len(labels), folder=cache_directory()), labels)


def make_extractor(
    loaded: LoadedModel, data: ImageData, device: Device, *, precision: str, batch_size: int, progress: OnProgress
) -> FeatureExtractor:
    """Moves the model to the device; `progress` is told how many images have their features."""
    kind, width = device.torch_device.type, block_width(loaded.model.config)
    kernels = recorded_use(kind, precision=precision, compiled=False, width=width)
    threads = torch.get_num_threads()
    environment = describe_environment(
        device.name, precision=precision, threads=threads, data_sha256=data.sha256, **kernels
    )
    loaded = replace(loaded, model=device.place(install(loaded.model)))
    return FeatureExtractor(loaded, data, device, precision, batch_size, environment, progress)


def export_features(extractor: FeatureExtractor, out: Path, split: str) -> dict[str, Any]:
    """Writes the features of a split to `out`, with ids (places in the split, from 0), labels, and what they depend on.

    Returns these facts, the file and its shape, as JSON has them. Raises ValueError where it cannot be written.
    """
    labels = extractor.images(split).labels
    facts = {**extractor.facts(), "split": split, "environment": extractor.environment.model_dump(mode="json")}
    width = export(out, extractor.batches(split), ids=np.arange(len(labels)), labels=labels, facts=facts)
    return {**facts, "file": str(out), "images": len(labels), "width": width}
