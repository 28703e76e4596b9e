"""Which files does a data set's name stand for? Finding them imports no torch."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from vitbench.data.info import BUILT_IN, KNOWN
from vitbench.data.listing import Listing, change_times, list_split
from vitbench.data.opening import PACKAGES
from vitbench.data.source import Source, content_hash
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

TEST_NAMES = ("test", "val", "validation")


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
        digest = content_hash([str(root), [] if root is None else _list_top(root)])
        return Source(dataset=name, name=name, root=root, train="train", tests=TEST_NAMES, fingerprint=digest)
    return _find_file(dataset, root) or _find_folder(dataset, root)


def _find_file(dataset: str, root: Path | None) -> Source | None:
    """FILE.npz or FILE.py[:NAME]; also FILE.npz as a configuration names its content. None for all else."""
    plain, digest = _without_digest(dataset)
    python = re.fullmatch(r"(.*\.py)(?::(\w*))?", dataset)
    name = f"{plain}.npz" if digest else python[1] if python else dataset
    if not name.endswith((".npz", ".py")) or (digest and any(place.is_dir() for place in _places(plain, root))):
        return None
    file = next((place for place in _places(name, root) if place.is_file()), None)
    if file is None:
        return None
    source = _open_file(file, python[2] or "" if python else "", dataset)
    _check_digest(dataset, digest, source.dataset, what="arrays", plain=name)
    return source


def _open_file(file: Path, function: str, dataset: str) -> Source:
    if file.suffix == ".npz":
        from vitbench.data.npz import find_npz  # numpy, which folders do not need

        return find_npz(file, dataset)
    from vitbench.data.function import find_function

    return find_function(file, function)


def _places(name: str, root: Path | None) -> list[Path]:
    """Where a user's file or folder of that name may lie."""
    return [*([] if root is None else [root / name]), expanded(Path(name))]


def _without_digest(dataset: str) -> tuple[str, str]:
    """(name, digest): a canonical name is understood too, so that a recorded configuration can be run again."""
    plain, _, digest = dataset.rpartition("@") if re.search(r"@[0-9a-f]{8}$", dataset) else (dataset, "", "")
    return plain, digest


def _check_digest(dataset: str, digest: str, canonical: str, *, what: str, plain: str) -> None:
    """Raises ValueError where a data set that was named with a digest is another by now."""
    if digest and not canonical.endswith(f"@{digest}"):
        raise ValueError(f"dataset {dataset!r} is now {canonical!r}: its {what} have changed; give it as {plain!r}")


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
    digest = content_hash([str(folder.absolute()), files])
    # timm takes every split but "train" for the test set of the small ones, and "validation" for "val" of the large.
    tests = ("validation",)
    return Source(dataset=dataset, name=dataset, root=root, train="train", tests=tests, fingerprint=digest)


def _find_folder(dataset: str, root: Path | None) -> Source:
    plain, digest = _without_digest(dataset)
    folder = next((place for place in _places(plain, root) if place.is_dir()), None)
    if folder is None or not plain:
        raise ValueError(_unknown(dataset, root))
    listings: dict[str, Listing] = {}
    train, train_notes = _choose(dataset, folder, "train", ("train",), listings)
    test, test_notes = _choose(dataset, folder, "test", TEST_NAMES, listings)
    _check_apart(dataset, folder, train, test, listings)
    files = [file for entry in (train, test) for file in _files(folder, entry, listings.get(entry))]
    content = [(name, size) for name, size, _ in files]
    canonical = f"{printable(folder.resolve().name)}@{content_hash(content)[:8]}"
    _check_digest(dataset, digest, canonical, what="files", plain=plain)
    listing_notes = [note for entry, listing in sorted(listings.items()) for note in listing.notes(entry)]
    return Source(
        dataset=canonical,
        name="",
        root=folder,
        train=train,
        tests=(test,),
        fingerprint=content_hash([str(folder.absolute()), files, listing_notes]),
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
    for folder in {root or Path(), Path(dataset).parent}:
        if folder.is_dir():
            files = (path for path in folder.iterdir() if path.is_dir() or path.suffix in (".npz", ".py"))
            names += sorted(path.name if folder == root else str(path) for path in files)
    close = get_close_matches(dataset, names, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    where = f"under data root {str(root)!r}" if root is not None else "here, and no --data-root is given"
    if "@" in dataset:  # as records name a folder, by its content
        return (
            f"dataset {dataset!r} is the content of a folder or file, and its folder is not known here; give it as "
            "--data FOLDER"
        )
    return (
        f"dataset {dataset!r} is neither known nor a folder or file {where}; {hint}use one of {', '.join(BUILT_IN)}, "
        f"torch/…, hfds/…, a folder with train/ and test/, FILE.npz or FILE.py[:NAME]"
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
