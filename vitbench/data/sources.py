"""Which files does a data set's name stand for, and what reads them?

Finding them imports no torch. `listing` reads folders and tars, `timm.data.create_dataset` opens all others.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from vitbench.data.info import BUILT_IN, KNOWN
from vitbench.data.listing import Listing, change_times, list_split
from vitbench.data.reading import FileSplit, IterableSplit, ListedSplit
from vitbench.files import error_reason, expanded
from vitbench.machine import cache_directory
from vitbench.text import printable

_TORCH_FOLDERS = {
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "kmnist": "KMNIST",
    "qmnist": "QMNIST",
}
"""Where torchvision keeps its small data sets, below the data root."""
TORCH_NAMES = (*_TORCH_FOLDERS, "imagenet", "inat", "inaturalist", "places365")
"""What timm opens through torchvision, but for image folders, which are named by their path."""

PACKAGES = {
    "hfds": ("datasets", "datasets"),
    "hfids": ("datasets", "datasets"),
    "tfds": ("tensorflow_datasets", "tensorflow tensorflow-datasets"),
    "wds": ("webdataset", "webdataset"),
}
"""timm's optional readers: prefix → (module, what to install)."""

TEST_NAMES = ("test", "val", "validation")


@dataclass(frozen=True)
class Source:
    """The files of a data set, not yet opened."""

    dataset: str
    """The canonical name, without where its files are."""
    name: str
    """What `create_dataset` is given; empty for folders and tars."""
    root: Path | None
    """Data root, or the data set's own folder."""
    train: str
    """Split name; for folders and tars the entry below `root`."""
    tests: tuple[str, ...]
    """Candidates for the test split, best first."""
    fingerprint: str
    """Changes when the files do: names, sizes, times of modification and of change, which no program can set back."""
    listings: Mapping[str, Listing] = field(default_factory=dict)
    """By split name, of those that had to be listed to choose them."""
    notes: tuple[str, ...] = ()
    """What a user might not expect of the choice of splits."""


def find(dataset: str, root: Path | None, *, download: bool = False) -> Source:
    """The files that `dataset` stands for. Raises ValueError where there are none, or where they cannot be listed."""
    try:
        return _find(dataset, root, download=download)
    except (OSError, RuntimeError) as error:  # RuntimeError: `~name` of an unknown user
        file = getattr(error, "filename", None)
        reason = error_reason(error) + (f": {str(file)!r}" if file else "")
        raise ValueError(
            f"dataset {dataset!r} cannot be looked at ({reason}); give a folder that can be read"
        ) from error


def _find(dataset: str, root: Path | None, *, download: bool) -> Source:
    root = None if root is None else expanded(Path(root))
    if root is not None and not root.is_dir() and not download:
        raise ValueError(f"data root {str(root)!r} is not a folder; give the one that holds the data as --data-root")
    prefix, slash, rest = dataset.partition("/")
    prefix = prefix.lower()
    if slash and prefix == "torch":
        return _find_torch(rest.lower(), root)
    if slash and rest and prefix in PACKAGES:
        name = f"{prefix}/{rest}"
        digest = _hash([str(root), [] if root is None else _list_top(root)])
        return Source(dataset=name, name=name, root=root, train="train", tests=TEST_NAMES, fingerprint=digest)
    return _find_folder(dataset, root)


def _find_torch(name: str, root: Path | None) -> Source:
    dataset = f"torch/{name}"
    if name in ("image_folder", "folder"):
        raise ValueError(f"dataset {dataset!r} has no test split of its own; give the folder's path as the data set")
    if name not in TORCH_NAMES:
        names = [f"torch/{name}" for name in TORCH_NAMES]
        close = get_close_matches(dataset, names, n=1, cutoff=0.75)  # the prefix alone is half of a match
        hint = f"did you mean {close[0]}?" if close else f"use one of {', '.join(names)}"
        raise ValueError(f"dataset {dataset!r} is not one that timm opens; {hint}")
    if root is None:
        root = cache_directory() / "downloads"
    folder = root / _TORCH_FOLDERS[name] if name in _TORCH_FOLDERS else root
    files = _list_all(folder) if name in _TORCH_FOLDERS else _list_top(folder)
    digest = _hash([str(folder.absolute()), files])
    # timm takes every split but "train" for the test set of the small ones, and "validation" for "val" of the large.
    tests = ("validation",)
    return Source(dataset=dataset, name=dataset, root=root, train="train", tests=tests, fingerprint=digest)


def _find_folder(dataset: str, root: Path | None) -> Source:
    # A canonical name is understood too, so that a recorded configuration can be run again.
    plain, _, digest = dataset.rpartition("@") if re.search(r"@[0-9a-f]{8}$", dataset) else (dataset, "", "")
    places = [expanded(Path(plain))] if root is None else [root / plain, expanded(Path(plain))]
    folder = next((place for place in places if place.is_dir()), None)
    if folder is None or not plain:
        raise ValueError(_unknown(dataset, root))
    listings: dict[str, Listing] = {}
    train, train_notes = _choose(dataset, folder, "train", ("train",), listings)
    test, test_notes = _choose(dataset, folder, "test", TEST_NAMES, listings)
    _check_apart(dataset, folder, train, test, listings)
    files = [file for entry in (train, test) for file in _files(folder, entry, listings.get(entry))]
    content = [(name, size) for name, size, _ in files]
    canonical = f"{printable(folder.resolve().name)}@{_hash(content)[:8]}"
    if digest and not canonical.endswith(f"@{digest}"):
        raise ValueError(f"dataset {dataset!r} is now {canonical!r}: its files have changed; give it as {plain!r}")
    listing_notes = [note for entry, listing in sorted(listings.items()) for note in listing.notes(entry)]
    return Source(
        dataset=canonical,
        name="",
        root=folder,
        train=train,
        tests=(test,),
        fingerprint=_hash([str(folder.absolute()), files, listing_notes]),
        listings=listings,
        notes=tuple(f"{canonical}: {note}" for note in (*train_notes, *test_notes)),
    )


def _entries(dataset: str, folder: Path, split: str, names: Sequence[str]) -> list[str]:
    """What there is of `names`, in their order, folders before tars of their name."""
    entries = []
    for name in names:
        if (folder / name).is_dir():
            entries.append(name)
        if (folder / f"{name}.tar").is_file():
            entries.append(f"{name}.tar")
    if entries:
        return entries
    content = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
    needed = " or ".join(f"{name}/ or {name}.tar" for name in names)
    raise ValueError(f"dataset {dataset!r} has no {split} split: {str(folder)!r} holds {content}; it needs {needed}")


def _choose(
    dataset: str, folder: Path, split: str, names: Sequence[str], listings: dict[str, Listing]
) -> tuple[str, list[str]]:
    """(the entry of `folder` that is the split, notes on the choice): the first that holds classes. Its listing is added to
    `listings`, but for a tar without others beside it, which is listed when it is opened.
    """
    entries = _entries(dataset, folder, split, names)
    candidates: dict[str, Listing] = {}
    for entry in entries:
        if len(entries) > 1 or (folder / entry).is_dir():
            candidates[entry] = list_split(str(folder / entry))
            if _has_classes(candidates[entry]):
                break
    chosen = next(
        (entry for entry in entries if entry not in candidates or _has_classes(candidates[entry])), entries[0]
    )
    if chosen in candidates:
        listings[chosen] = candidates[chosen]
    notes = [
        f"the {split} split is {chosen!r}; {entry!r} "
        + ("has no class folders" if entry in candidates else "is not used")
        for entry in entries
        if entry != chosen
    ]
    return chosen, notes


def _check_apart(dataset: str, folder: Path, train: str, test: str, listings: Mapping[str, Listing]) -> None:
    """Raises ValueError for files that links put in both splits."""
    if (folder / train).samefile(folder / test):
        raise ValueError(
            f"dataset {dataset!r} is tested on what it trains on: {test!r} is {train!r}, by a link; remove it"
        )
    if train not in listings or test not in listings:
        return
    train_names = {file.identity: file.name for file in listings[train].files if file.identity}
    shared = [file for file in listings[test].files if file.identity in train_names]
    if shared:
        test_name, train_name = f"{test}/{shared[0].name}", f"{train}/{train_names[shared[0].identity]}"
        raise ValueError(
            f"dataset {dataset!r} is tested on {len(shared)} of the files that it trains on, by links: {test_name!r} is "
            f"{train_name!r}; remove one of them"
        )


def _has_classes(listing: Listing) -> bool:
    return bool(listing.files) and listing.outside is None


def _files(folder: Path, entry: str, listing: Listing | None) -> list[tuple[str, int, tuple[int, int]]]:
    """(relative name, bytes, times) of a tar, or of the images below a folder."""
    if listing is None or not (folder / entry).is_dir():
        status = (folder / entry).stat()
        return [(entry, status.st_size, change_times(status))]
    return sorted((f"{entry}/{file.name}", file.size, file.changed) for file in listing.files)


def _unknown(dataset: str, root: Path | None) -> str:
    names = [*BUILT_IN, *(name for name in KNOWN if name not in BUILT_IN)]
    if root is not None and root.is_dir():
        names += sorted(path.name for path in root.iterdir() if path.is_dir())
    close = get_close_matches(dataset, names, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    where = f"under data root {str(root)!r}" if root is not None else "here, and no --data-root is given"
    if "@" in dataset:  # as records name a folder, by its content
        return f"dataset {dataset!r} is a folder's content, and its folder is not known here; give it as --data FOLDER"
    return (
        f"dataset {dataset!r} is neither known nor a folder {where}; {hint}use one of {', '.join(BUILT_IN)}, "
        f"torch/…, hfds/…, or a folder with train/ and test/"
    )


def _list_all(folder: Path) -> list[tuple[str, int, tuple[int, int]]]:
    """(relative name, bytes, times) of the files of a data set that torchvision opens."""
    paths = (Path(below, name) for below, _, names in os.walk(folder, followlinks=True) for name in names)
    files = ((path, path.stat()) for path in paths if os.path.isfile(path))
    return sorted((path.relative_to(folder).as_posix(), status.st_size, change_times(status)) for path, status in files)


def _list_top(root: Path) -> list[tuple[str, int, tuple[int, int]]]:
    """The same of the top of a folder that may hold millions of files. Locks come and go without a meaning."""
    if not root.is_dir():
        return []
    files = []
    for entry in os.scandir(root):
        if not entry.name.endswith(".lock"):
            status = entry.stat(follow_symlinks=entry.is_file() or entry.is_dir())  # else one that leads nowhere
            files.append((entry.name, status.st_size if entry.is_file() else 0, change_times(status)))
    return sorted(files)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def open_splits(source: Source, *, download: bool) -> tuple[FileSplit, FileSplit]:
    """(train, test), checked to be of one kind. Raises ValueError where timm cannot open them."""
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
