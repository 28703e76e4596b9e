"""Which numbers stand behind the figures of one trained model, computed now or kept from before?"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitbench import __version__
from vitbench.config import ViTConfig
from vitbench.data import ImageData, describe
from vitbench.data.loading import OnProgress
from vitbench.device import open_device
from vitbench.inspection import figures
from vitbench.inspection.loaded_model import LoadedModel, load_images, load_model, tell_unknown_classes
from vitbench.inspection.subject import Subject
from vitbench.models import convert
from vitbench.models.insides import NoSuchPartError
from vitbench.models.weights import is_run
from vitbench.text import counted

FORMAT = 1
"""Of `numbers.json`; raised whenever its keys change their meaning."""
USUAL_IMAGES = 128

Numbers = dict[str, Any]
"""Of one figure, as JSON has them."""


@dataclass
class FigureNumbers:
    """`numbers.json` in `folder`: what stands behind each figure of one model, and why others have no meaning for it."""

    folder: Path
    about: dict[str, Any]
    """Which weights, and what computed with them."""
    figures: dict[str, Numbers] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    computed: list[str] = field(default_factory=list)
    """Names of those that were computed, or skipped, just now."""

    @property
    def path(self) -> Path:
        return self.folder / "numbers.json"

    def read(self) -> None:
        """Takes over what the file has of the same weights; of others, nothing."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            document = json.loads(self.path.read_bytes())
            if (document["format"], document["weights_sha256"]) == (FORMAT, self.about["weights_sha256"]):
                self.figures, self.skipped = document["figures"], document["skipped"]

    def compute(self, name: str, facts: Numbers, computation: Callable[[], Numbers]) -> None:
        """Adds a figure's facts and numbers, or the reason why it has no meaning for the model."""
        self.computed.append(name)
        try:
            self.figures[name] = {**facts, **computation()}
            self.skipped.pop(name, None)
        except NoSuchPartError as reason:
            self.skipped[name] = str(reason)
            self.figures.pop(name, None)

    def to_json(self) -> str:
        document = {"format": FORMAT, **self.about, "figures": self.figures, "skipped": self.skipped}
        return json.dumps(document, allow_nan=False, separators=(",", ":")) + "\n"


def compute_figures(
    name: str,
    *,
    other_name: str | None,
    kinds: Sequence[str],
    dataset: str | None,
    data_root: Path | None,
    download: bool,
    num_images: int | None,
    device: str,
    results: Path,
    progress: OnProgress,
) -> FigureNumbers:
    """The numbers of `kinds` of figures of the model of that name, beside those that `results` holds of the same weights.

    Layers are compared with those of another model, where there is an `other_name`. `dataset` None: the run's own;
    `num_images` None: as many test images as are usual. Raises ValueError for a wrong request.
    """
    torch_device = open_device(device).torch_device
    if not is_run(name):
        convert.check_name(name, field="run")
        if dataset is None and set(kinds) - set(figures.OF_WEIGHTS):
            only = ",".join(figures.OF_WEIGHTS)
            raise ValueError(f"data is missing: {name} has none of its own; give --data, or --only {only}")
    info = None if dataset is None else describe(dataset, root=data_root, download=download)
    loaded = load_model(name, results, in_channels=info.in_channels if info else None)
    in_channels = loaded.model.config.in_channels
    other = None if other_name is None else load_model(other_name, results, in_channels=in_channels)
    numbers = FigureNumbers(results / "figures" / folder_name(loaded.name), _facts(loaded))
    numbers.read()
    for kind in kinds:
        if kind in figures.OF_WEIGHTS:
            facts = {"kind": kind, "about": _caption(loaded)}
            numbers.compute(kind, facts, partial(figures.OF_WEIGHTS[kind], loaded))
    if set(kinds) - set(figures.OF_WEIGHTS):
        dataset = dataset or (loaded.run.data.dataset if loaded.run else None)
        assert dataset is not None, "weights from elsewhere were refused without"
        info = info or describe(dataset, root=data_root, download=download)
        load = partial(
            load_images, dataset=dataset, info=info, data_root=data_root, download=download, progress=progress
        )
        _compute_of_images(numbers, kinds, loaded, other, load, num_images, torch_device)
    return numbers


def folder_name(name: str) -> str:
    """`timm-vit_tiny_patch16_224@0a1b2c3d` of `timm:…`; a run_id is its own."""
    return re.sub(r"[^A-Za-z0-9.@_-]+", "-", name)


def _compute_of_images(
    numbers: FigureNumbers,
    kinds: Sequence[str],
    loaded: LoadedModel,
    other: LoadedModel | None,
    load: Callable[[LoadedModel], tuple[LoadedModel, ImageData]],
    num_images: int | None,
    device: torch.device,
) -> None:
    """Adds the figures that need images: of test, evenly spaced, since some sets are sorted by class."""
    loaded, data = load(loaded)
    total = len(data.test)
    count = min(USUAL_IMAGES, total) if num_images is None else num_images
    if count > total:
        raise ValueError(f"images {count} is more than the {total} test images of {data.info.dataset}; make it smaller")
    loaded.model.to(device)
    rows = np.arange(count) * total // count
    subject = Subject(loaded, data, rows, device)
    is_own = loaded.run is not None and data.info.dataset == loaded.run.data.dataset
    is_named = is_own or (loaded.class_names and data.class_names)
    if loaded.run is not None and not is_named and "confusion" in kinds:
        tell_unknown_classes(loaded.name, data.info)
    about = _caption(loaded) + ("" if is_own else f", images of {data.info.dataset}")
    images = {"dataset": data.info.dataset, "sha256": data.sha256, "split": "test", "rows": rows.tolist()}
    computations = {kind: partial(figures.OF_IMAGES[kind], subject) for kind in kinds if kind in figures.OF_IMAGES}
    if other is not None:
        other.model.to(device)
        other, others_data = load(other)
        compared = Subject(other, others_data, rows, device)
        del computations["cka"]
        computations[f"cka-{folder_name(other.name)}"] = partial(figures.cka, subject, compared)
    for name, computation in computations.items():
        shown = images if name != "confusion" else {**images, "rows": "all"}
        kind = "cka" if name.startswith("cka-") else name
        numbers.compute(name, {"kind": kind, "about": about, "data": shown}, computation)


def _facts(loaded: LoadedModel) -> dict[str, Any]:
    model, run = loaded.model.config, loaded.run
    return {
        **({"run_id": loaded.name} if run else {"weights": loaded.name}),
        "weights_sha256": loaded.sha256,
        **({"config": run.model_dump(mode="json")} if run else {"model": model.model_dump(mode="json")}),
        "precision": "fp32",
        "vitbench": __version__,
        "torch": torch.__version__,
    }


def _caption(loaded: LoadedModel) -> str:
    model, run = loaded.model.config, loaded.run
    name = f"Run {loaded.name[:8]}" if run else loaded.name
    epochs = run.train.epochs if run else 0
    trained = f"; {'1 epoch' if epochs == 1 else f'{epochs:g} epochs'} of {run.data.dataset}" if run else ""
    if not isinstance(model, ViTConfig):
        return f"{name}: {model.model_name}, {_size(model.image_hw)} px{trained}"
    return (
        f"{name}: width {model.width}, depth {model.depth}, {counted(model.num_heads, 'head')}, "
        f"{_size(model.image_hw)} px in patches of {_size(model.patch_hw)}, {model.pool}, {model.position}{trained}"
    )


def _size(height_width: tuple[int, int]) -> str:
    return " × ".join(map(str, dict.fromkeys(height_width)))
