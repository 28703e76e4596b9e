"""What a trained model looks like inside: its numbers are computed, written down, and drawn from there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitbench.config import ViTConfig
from vitbench.files import shown

if TYPE_CHECKING:
    import torch

    from vitbench.data import ImageData
    from vitbench.inspection.loaded_model import Weights
    from vitbench.inspection.subject import Compared, Subject

NAMES = ("filters", "position", "distance", "rollout", "class-token", "cka", "confusion")
FORMAT = 1
"""Of `numbers.json`; raised whenever its keys change their meaning."""


@dataclass
class Document:
    """`numbers.json`: what stands behind each figure of one model, and why others have no meaning for it."""

    of: dict[str, Any]
    """Which weights, and what computed with them."""
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, of: dict[str, Any]) -> Document:
        """With what is there already of the same weights; of others, nothing."""
        try:
            there = json.loads(path.read_bytes())
            if isinstance(there, dict) and (there["format"], there["weights_sha256"]) == (FORMAT, of["weights_sha256"]):
                return cls(of, there["figures"], there["skipped"])
        except (OSError, ValueError, KeyError):
            pass
        return cls(of)

    def add(self, name: str, numbers: dict[str, Any]) -> None:
        self.figures[name] = numbers
        self.skipped.pop(name, None)

    def skip(self, name: str, reason: str) -> None:
        self.skipped[name] = reason
        self.figures.pop(name, None)

    def to_json(self) -> str:
        document = {"format": FORMAT, **self.of, "figures": self.figures, "skipped": self.skipped}
        return json.dumps(document, allow_nan=False, separators=(",", ":")) + "\n"


USUAL_IMAGES = 128


def draw_figures(
    run: str,
    *,
    other: str | None,
    data: str | None,
    data_root: Path | None,
    download: bool,
    only: Sequence[str],
    images: int | None,
    device: str,
    results: Path,
    as_json: bool,
) -> None:
    """Writes `figures/<run_id>/NAME.{png,svg}` and the `numbers.json` that they are drawn from; prints their paths.

    Of weights from elsewhere, their name is in place of a run_id. What has no meaning for the model is left out, and said.
    Raises ValueError for a wrong request.
    """
    wanted = _wanted(only, compared=other is not None)
    from vitbench.analysis.insides.figures import render
    from vitbench.analysis.writing.files import write
    from vitbench.data import describe
    from vitbench.device import open_device
    from vitbench.inspection.figures import OF_WEIGHTS
    from vitbench.inspection.loaded_model import open_weights
    from vitbench.models import convert
    from vitbench.models.insides import NoSuchPartError
    from vitbench.models.weights import is_run

    opened = open_device(device).torch_device
    if not is_run(run):
        convert.check_name(run, field="run")
    if data is None and not is_run(run) and set(wanted) - set(OF_WEIGHTS):
        raise ValueError(f"data is missing: {run} has none of its own; give --data, or --only {','.join(OF_WEIGHTS)}")
    channels = None if data is None else describe(data, root=data_root, download=download).in_channels
    weights = open_weights(run, results, in_channels=channels)
    if weights.run is not None:
        data = data or weights.run.data.dataset
    compared = None
    if other is not None:
        compared = open_weights(other, results, in_channels=weights.model.config.in_channels)
    folder = results / "figures" / folder_name(weights.name)
    document = Document.read(folder / "numbers.json", _facts(weights))
    computations = _computations(
        weights, compared, wanted, data=data, data_root=data_root, download=download, images=images, device=opened
    )
    for name, compute in computations.items():
        try:
            document.add(name, compute())
        except NoSuchPartError as reason:
            document.skip(name, str(reason))
    written = [write(folder / "numbers.json", document.to_json())]
    for name in computations:
        if numbers := document.figures.get(name):
            for suffix, content in render(numbers["kind"], numbers, numbers["about"], formats=("png", "svg")).items():
                written.append(write(folder / f"{name}.{suffix}", content))
    _remove_others(folder, document)
    if as_json:
        print(document.to_json(), end="")
        return
    print(*map(shown, written), sep="\n")
    for name in computations:
        if name in document.skipped:
            print(f"{name} has no figure: {document.skipped[name]}")


def folder_name(weights: str) -> str:
    """`timm-vit_tiny_patch16_224@0a1b2c3d` of `timm:…`; a run_id is its own."""
    return re.sub(r"[^A-Za-z0-9.@_-]+", "-", weights)


def _remove_others(folder: Path, document: Document) -> None:
    """Pictures of ours that no numbers stand behind any more: the weights were others, or the reason is new."""
    for path in [*folder.glob("*.png"), *folder.glob("*.svg")]:
        ours = path.stem in NAMES or path.stem.startswith("cka-")
        if ours and path.stem not in document.figures:
            path.unlink()


def _wanted(only: Sequence[str], *, compared: bool) -> list[str]:
    asked = [name for names in only for name in names.split(",") if name]
    for name in asked:
        if name not in NAMES:
            raise ValueError(f"only {name!r} is not a figure; use {', '.join(NAMES)}")
    if compared and asked and "cka" not in asked:
        raise ValueError("--with is for cka, which --only leaves out; add it there, or leave --with out")
    return [name for name in NAMES if name in asked or not asked]


def _computations(
    weights: Weights,
    compared: Weights | None,
    wanted: Sequence[str],
    *,
    data: str | None,
    data_root: Path | None,
    download: bool,
    images: int | None,
    device: torch.device,
) -> dict[str, Callable[[], dict[str, Any]]]:
    """What computes the numbers of each figure, by its name. Images are loaded here, where any figure needs them."""
    from vitbench.inspection import figures
    from vitbench.inspection.loaded_model import tell_unknown_classes
    from vitbench.inspection.subject import Compared

    about = _about(weights)

    def of_weights(kind: str) -> dict[str, Any]:
        return {"kind": kind, "about": about, **figures.OF_WEIGHTS[kind](weights)}

    computations: dict[str, Callable[[], dict[str, Any]]] = {
        kind: partial(of_weights, kind) for kind in wanted if kind in figures.OF_WEIGHTS
    }
    if not set(wanted) - set(computations):
        return computations
    assert data is not None, "weights from elsewhere were refused without"
    load_at = partial(_load, data, data_root, download)
    loaded = load_at(weights)
    subject = _subject(weights, loaded, images=images, device=device)
    own = weights.run is not None and loaded.info.dataset == weights.run.data.dataset
    other_images = "" if own else f", images of {loaded.info.dataset}"
    named = own or (weights.class_names and loaded.class_names)
    if weights.run is not None and not named and "confusion" in wanted:
        tell_unknown_classes(weights.name, loaded.info)
    seen = {"dataset": loaded.info.dataset, "sha256": loaded.sha256, "split": "test", "rows": subject.rows.tolist()}

    def of_images(kind: str, other: Compared | None = None) -> dict[str, Any]:
        numbers = figures.cka(subject, other) if other else figures.OF_IMAGES[kind](subject)
        where = seen if kind != "confusion" else {**seen, "rows": "all"}
        return {"kind": kind, "about": about + other_images, "data": where, **numbers}

    computations |= {kind: partial(of_images, kind) for kind in wanted if kind in figures.OF_IMAGES}
    if compared is not None:
        compared.model.to(device)
        theirs = load_at(compared)
        other = Compared(compared.on(theirs.mean, theirs.std), theirs.test)
        del computations["cka"]
        computations[f"cka-{folder_name(compared.name)}"] = partial(of_images, "cka", other)
    return computations


def _load(dataset: str, root: Path | None, download: bool, weights: Weights) -> ImageData:
    """At the size of the model's images."""
    from vitbench.data import load
    from vitbench.inspection.loaded_model import tell_channels

    loaded = load(dataset, root=root, image_size=weights.model.config.image_hw, download=download)
    tell_channels(weights, loaded.info)
    return loaded


def _subject(weights: Weights, loaded: ImageData, *, images: int | None, device: torch.device) -> Subject:
    """Shown `images` of the test split (None: as many as are usual), evenly spaced, since some sets are sorted by class."""
    import numpy as np

    from vitbench.inspection.subject import Subject

    total = len(loaded.test)
    images = min(USUAL_IMAGES, total) if images is None else images
    if images > total:
        raise ValueError(
            f"images {images} is more than the {total} test images of {loaded.info.dataset}; make it smaller"
        )
    weights.model.to(device)
    rows = np.arange(images) * total // images
    weights = weights.on(loaded.mean, loaded.std)
    return Subject(weights, loaded.test, rows, loaded.info.num_classes, loaded.class_names, device)


def _facts(weights: Weights) -> dict[str, Any]:
    import torch

    from vitbench import __version__

    model, run = weights.model.config, weights.run
    return {
        **({"run_id": weights.name} if run else {"weights": weights.name}),
        "weights_sha256": weights.sha256,
        **({"config": run.model_dump(mode="json")} if run else {"model": model.model_dump(mode="json")}),
        "precision": "fp32",
        "vitbench": __version__,
        "torch": torch.__version__,
    }


def _about(weights: Weights) -> str:
    """A few words for the caption."""
    model, run = weights.model.config, weights.run
    name = f"Run {weights.name[:8]}" if run else weights.name
    epochs = run.train.epochs if run else 0
    trained = f"; {'1 epoch' if epochs == 1 else f'{epochs:g} epochs'} of {run.data.dataset}" if run else ""
    if not isinstance(model, ViTConfig):
        return f"{name}: {model.timm}, {_size(model.image_hw)} px{trained}"
    heads = "1 head" if model.num_heads == 1 else f"{model.num_heads} heads"
    return (
        f"{name}: width {model.width}, depth {model.depth}, {heads}, {_size(model.image_hw)} px in patches of "
        f"{_size(model.patch_hw)}, {model.pool}, {model.position}{trained}"
    )


def _size(height_width: tuple[int, int]) -> str:
    return " × ".join(map(str, dict.fromkeys(height_width)))
