"""How are the splits of a data set opened? Listed folders and tars and a user's arrays here, all others by timm."""

from __future__ import annotations

import importlib.util
import unicodedata
from collections.abc import Sequence
from typing import Any

from vitbench.data.listing import list_split
from vitbench.data.reading import FileSplit, IterableSplit, ListedSplit
from vitbench.data.source import Source

PACKAGES = {
    "hfds": ("datasets", "datasets"),
    "hfids": ("datasets", "datasets"),
    "tfds": ("tensorflow_datasets", "tensorflow tensorflow-datasets"),
    "wds": ("webdataset", "webdataset"),
}
"""timm's optional readers: prefix → (module, what to install)."""


def open_splits(source: Source, *, download: bool) -> tuple[FileSplit, FileSplit]:
    """(train, test), checked to be of one kind. Raises ValueError where timm cannot open them."""
    if source.open_arrays is not None:
        return source.open_arrays()
    prefix = source.name.partition("/")[0]
    module, install = PACKAGES.get(prefix, ("", ""))
    if module and importlib.util.find_spec(module) is None:
        raise ValueError(f"dataset {source.dataset!r} needs a package that is not there; pip install {install}")
    train = _open_split(source, source.train, "train", download)
    for candidate in source.tests:
        try:
            test = _open_split(source, candidate, "test", download)
        except ValueError:
            if candidate == source.tests[-1]:
                raise
            continue
        # Public test splits without labels mark every image −1.
        if len(source.tests) == 1 or candidate == source.tests[-1] or test.read(0)[1] >= 0:
            break
    _check_classes(source, train, test)
    return train, test


def _open_split(source: Source, split: str, role: str, download: bool) -> FileSplit:
    title = f"the {role} split of {source.dataset!r}"
    if source.name:
        return _open_with_timm(source, split, title, download)
    assert source.root is not None
    path = str(source.root / split)
    try:
        listing = source.listings.get(split) or list_split(path)
    except ValueError as error:
        raise ValueError(f"{title}: {error}") from error
    if not listing.files:
        raise ValueError(f"{title} holds no images; give a folder or tar with one folder per class")
    if listing.outside is not None:
        raise ValueError(
            f"dataset {source.dataset!r} has images outside class folders, such as {listing.outside!r} of {split!r}; "
            "give each class a folder"
        )
    return ListedSplit(path, listing, title)


def _open_with_timm(source: Source, split: str, title: str, download: bool) -> FileSplit:
    from timm.data.dataset import IterableImageDataset
    from timm.data.dataset_factory import create_dataset

    root = source.root
    if source.name.startswith("torch/") and download and root is not None:
        root.mkdir(parents=True, exist_ok=True)
    # No mode: images stay as they are stored, grey ones grey.
    options: dict[str, Any] = {"split": split, "download": download, "input_img_mode": ""}
    try:
        dataset = create_dataset(source.name, root=None if root is None else str(root), **options)
    except ImportError as error:
        raise ValueError(f"{title} cannot be opened ({error}); install what it needs") from error
    except Exception as error:  # each package has errors of its own
        reason = " ".join(str(error).split()) or type(error).__name__
        place = f"under data root {str(root)!r}"
        if "not found" in reason.lower() or isinstance(error, FileNotFoundError):
            remedy = "give the folder that holds it as --data-root, or --download it"
            raise ValueError(f"dataset {source.dataset!r} is not {place}; {remedy}") from error
        raise ValueError(f"{title} cannot be opened {place} ({reason}); check its name, or --download it") from error
    kind = IterableSplit if isinstance(dataset, IterableImageDataset) else FileSplit
    opened = kind(dataset, title)
    if kind is FileSplit and not len(opened):
        raise ValueError(f"{title} holds no images; give one that has some")
    return opened


def _check_classes(source: Source, train: FileSplit, test: FileSplit) -> None:
    if source.name:
        return
    assert isinstance(train, ListedSplit) and isinstance(test, ListedSplit)
    names = train.classes
    if names != test.classes:
        different = _distinguishable(sorted(set(names) ^ set(test.classes))[:5])
        raise ValueError(
            f"dataset {source.dataset!r} has other class folders in train than in test: {', '.join(different)}; "
            f"give both the same ones"
        )
    if len(names) < 2:
        raise ValueError(
            f"dataset {source.dataset!r} has a single class, {names[0]!r}; give train and test a folder per class"
        )


def _distinguishable(names: Sequence[str]) -> Sequence[str]:
    """As they are; with escapes where some could not be printed or would look alike, as a composed and a decomposed é."""
    seen = {unicodedata.normalize("NFKC", name).strip() for name in names if name.isprintable()}
    return names if len(seen) == len(names) else list(map(ascii, names))
