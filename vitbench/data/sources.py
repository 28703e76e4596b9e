"""Where images come from: which files a data set's name stands for, and how each one is read, or refused.

Finding needs no torch; opening goes through `timm.data.create_dataset`.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitbench.data.info import BUILT_IN, KNOWN
from vitbench.machine import cache_directory

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

TORCH_NAMES = (
    *("cifar10", "cifar100", "mnist", "fashion_mnist", "kmnist", "qmnist"),
    *("imagenet", "inat", "inaturalist", "places365"),
)
"""What timm opens through torchvision, but for its image folders: those are given by path here."""

PACKAGES = {
    "hfds": ("datasets", "datasets"),
    "hfids": ("datasets", "datasets"),
    "tfds": ("tensorflow_datasets", "tensorflow tensorflow-datasets"),
    "wds": ("webdataset", "webdataset"),
}
"""timm's optional readers: prefix → (module, what to install)."""

TEST_NAMES = ("test", "val", "validation")
EXTENSIONS = (".png", ".jpg", ".jpeg")
"""What timm's folder and tar readers look at."""

_TORCH_FOLDERS = {
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "kmnist": "KMNIST",
    "qmnist": "QMNIST",
}


@dataclass(frozen=True)
class Source:
    """A data set that has been found, not yet opened."""

    dataset: str
    """The canonical name, free of places."""
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


def find(dataset: str, root: Path | None, *, download: bool = False) -> Source:
    """The files that `dataset` stands for. Raises ValueError where there are none."""
    root = None if root is None else Path(root).expanduser()
    if root is not None and not root.is_dir() and not download:
        raise ValueError(f"data root {str(root)!r} is not a folder; give the one that holds the data as --data-root")
    prefix, slash, rest = dataset.partition("/")
    prefix = prefix.lower()
    if slash and prefix == "torch":
        return _find_torch(rest.lower(), root)
    if slash and rest and prefix in PACKAGES:
        listing = _listing(root) if root is not None else []
        return Source(
            dataset=f"{prefix}/{rest}",
            name=f"{prefix}/{rest}",
            root=root,
            train="train",
            tests=TEST_NAMES,
            fingerprint=_hash([str(root), listing]),
        )
    return _find_folder(dataset, root)


def _find_torch(name: str, root: Path | None) -> Source:
    if name in ("image_folder", "folder"):
        raise ValueError(f"dataset 'torch/{name}' has no test split of its own; give the folder's path as the data set")
    if name not in TORCH_NAMES:
        names = [f"torch/{known}" for known in TORCH_NAMES]
        close = get_close_matches(f"torch/{name}", names, n=1, cutoff=0.75)  # the prefix alone is half of a match
        hint = f"did you mean {close[0]}?" if close else f"use one of {', '.join(names)}"
        raise ValueError(f"dataset 'torch/{name}' is not one that timm opens; {hint}")
    if root is None:
        root = cache_directory() / "downloads"
    folder = root / _TORCH_FOLDERS[name] if name in _TORCH_FOLDERS else root
    files = _walk(folder) if name in _TORCH_FOLDERS else _listing(folder)
    # timm takes every split but "train" for the test set of the small ones, and "validation" for "val" of the large.
    return Source(
        dataset=f"torch/{name}",
        name=f"torch/{name}",
        root=root,
        train="train",
        tests=("validation",),
        fingerprint=_hash([str(folder.absolute()), files]),
    )


def _find_folder(dataset: str, root: Path | None) -> Source:
    # A canonical name is understood too, so that a recorded configuration can be run again.
    plain, _, wanted = dataset.rpartition("@") if re.search(r"@[0-9a-f]{8}$", dataset) else (dataset, "", "")
    places = [Path(plain).expanduser()] if root is None else [root / plain, Path(plain).expanduser()]
    folder = next((place for place in places if place.is_dir()), None)
    if folder is None or not plain:
        raise ValueError(_unknown(dataset, root))
    train = _entry(dataset, folder, "train", ("train",))
    test = _entry(dataset, folder, "test", TEST_NAMES)
    files = [file for entry in (train, test) for file in _walk(folder / entry, entry)]
    content = [(name, size) for name, size, _ in files]
    canonical = f"{folder.resolve().name}@{_hash(content)[:8]}"
    if wanted and not canonical.endswith(f"@{wanted}"):
        raise ValueError(f"dataset {dataset!r} is now {canonical!r}: its files have changed; give it as {plain!r}")
    return Source(
        dataset=canonical,
        name="",
        root=folder,
        train=train,
        tests=(test,),
        fingerprint=_hash([str(folder.absolute()), files]),
    )


def _entry(dataset: str, folder: Path, split: str, names: tuple[str, ...]) -> str:
    for name in names:
        for entry in (name, f"{name}.tar"):
            if (folder / entry).is_dir() if entry == name else (folder / entry).is_file():
                return entry
    there = sorted(path.name for path in folder.iterdir())[:5]
    wanted = " or ".join(f"{name}/ or {name}.tar" for name in names)
    raise ValueError(
        f"dataset {dataset!r} has no {split} split: {str(folder)!r} holds {', '.join(there) or 'nothing'}; "
        f"it needs {wanted}"
    )


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


def _walk(path: Path, prefix: str = "") -> list[tuple[str, int, tuple[int, int]]]:
    """(relative name, bytes, times in ns) of a file, or of the images or data files below a folder."""
    if path.is_file():
        status = path.stat()
        return [(prefix or path.name, status.st_size, _times(status))]
    found = []
    for folder, _, names in os.walk(path, followlinks=True):
        for name in names:
            if not prefix or os.path.splitext(name)[1].lower() in EXTENSIONS:
                file = os.path.join(folder, name)
                with contextlib.suppress(FileNotFoundError):  # a dangling link; reading it will say so
                    status = os.stat(file)
                    relative = Path(prefix, os.path.relpath(file, path)).as_posix()
                    found.append((relative, status.st_size, _times(status)))
    return sorted(found)


def _times(status: os.stat_result) -> tuple[int, int]:
    """Of modification and of change in ns: a file can be replaced by another of its size, and its time be set back."""
    return status.st_mtime_ns, status.st_ctime_ns


def _listing(root: Path) -> list[tuple[str, int, tuple[int, int]]]:
    """The top of a folder that may hold millions of files. Locks come and go without a meaning."""
    if not root.is_dir():
        return []
    found = []
    for entry in os.scandir(root):
        if not entry.name.endswith(".lock"):
            status = entry.stat()
            found.append((entry.name, status.st_size if entry.is_file() else 0, _times(status)))
    return sorted(found)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


class FileSplit:
    """One split with random access: a timm `ImageDataset` or a torchvision data set."""

    random_access = True

    def __init__(self, dataset: Any, title: str) -> None:
        self.dataset = dataset
        self.title = title
        # timm's own ImageDataset.__getitem__ hands out the next image in place of one that it cannot read; its
        # reader does not.
        self.reader: Any = getattr(dataset, "reader", None)
        self._process = os.getpid()

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, index: int) -> tuple[Image.Image, int]:
        """(decoded image, label). Raises ValueError, naming the file, where it cannot be read."""
        from PIL import Image

        if self._process != os.getpid():
            # A tar opened before a fork shares its position in the file with the other workers.
            self._forget_handles()
            self._process = os.getpid()
        try:
            if self.reader is None:
                image, label = self.dataset[index]
                return image, int(label)
            file, label = self.reader[index][:2]
            with file, Image.open(file) as image:
                image.load()
            return image, int(label)
        except _READ_ERRORS as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(
                f"image {self.filename(index)!r} of {self.title} cannot be read ({reason}); mend or remove it"
            ) from error

    def __iter__(self) -> Iterator[tuple[Image.Image, int]]:
        return (self.read(index) for index in range(len(self)))

    def filename(self, index: int) -> str:
        """For messages: the file, or the image's number where there is none."""
        if self.reader is not None:
            with contextlib.suppress(Exception):  # readers differ, and a message must not fail
                return str(self.reader.filename(index))
        samples = getattr(self.dataset, "samples", None) or getattr(self.dataset, "imgs", None)
        return str(samples[index][0]) if samples else f"#{index}"

    def labels(self) -> np.ndarray:
        """int64 [N], without decoding images where the data set allows that."""
        import numpy as np

        targets = getattr(self.reader, "targets", None)
        if targets is None and self.reader is not None and hasattr(self.reader, "samples"):
            targets = [sample[1] for sample in self.reader.samples]
        if targets is None and hasattr(self.reader, "iter_targets"):
            targets = list(self.reader.iter_targets())
        if targets is None and self.reader is None:
            targets = getattr(self.dataset, "targets", None)
        if targets is None:
            targets = [label for _, label in self]
        return np.asarray(targets, dtype=np.int64)

    def class_names(self) -> list[str] | None:
        """In the order of their indices; None where the data set has no names."""
        for holder in (self.reader, self.dataset):
            for field in ("class_to_idx", "class_name_to_idx"):
                mapping = getattr(holder, field, None)
                if mapping:
                    return [str(name) for name in sorted(mapping, key=mapping.__getitem__)]
        return None

    def close(self) -> None:
        """Closes what reading left open; reading opens it again."""
        for state in self._tar_states():
            if state.tf is not None:
                state.tf.close()
        self._forget_handles()

    def _forget_handles(self) -> None:
        for state in self._tar_states():
            state.reset()

    def _tar_states(self) -> Iterator[Any]:
        state = getattr(self.reader, "tar_state", None)
        pending = list(state.values()) if isinstance(state, dict) else [state] if state is not None else []
        while pending:
            state = pending.pop()
            pending += state.children.values()
            yield state


class IterableSplit(FileSplit):
    """One split that can only be read from its start (hfids, tfds, wds)."""

    random_access = False

    def __iter__(self) -> Iterator[tuple[Image.Image, int]]:
        from PIL.Image import fromarray

        count = 0
        for image, label in self.dataset:
            count += 1
            if not hasattr(image, "mode"):  # tfds gives arrays
                image = fromarray(image)
            yield image, int(label)
        # Some of these readers skip what they cannot read.
        if len(self) and count != len(self):
            raise ValueError(f"{self.title} gave {count} images instead of {len(self)}; mend what cannot be read")

    def read(self, index: int) -> tuple[Image.Image, int]:
        if index:
            raise ValueError(f"{self.title} has no random access; raise VITBENCH_CACHE_LIMIT_GB so that it is cached")
        return next(iter(self))

    def filename(self, index: int) -> str:
        return f"#{index}"

    def labels(self) -> np.ndarray:
        import numpy as np

        return np.array([label for _, label in self], dtype=np.int64)


_READ_ERRORS = (OSError, SyntaxError, ValueError, EOFError, KeyError, tarfile.TarError)
"""What PIL and the readers raise for broken files (PIL's UnidentifiedImageError is an OSError)."""


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
    from timm.data.dataset import IterableImageDataset
    from timm.data.dataset_factory import create_dataset

    title = f"the {role} split of {source.dataset!r}"
    root = source.root
    # No mode: images stay as they are stored, grey ones grey.
    options: dict[str, Any] = {"split": split, "download": download, "input_img_mode": ""}
    if not source.name:
        assert root is not None
        root = root / split
        options = {"split": "", "search_split": False, "input_img_mode": ""}
    elif source.name.startswith("torch/") and download and root is not None:
        root.mkdir(parents=True, exist_ok=True)
    try:
        dataset = create_dataset(source.name, root=None if root is None else str(root), **options)
    except ImportError as error:
        raise ValueError(f"{title} cannot be opened ({error}); install what it needs") from error
    except (RuntimeError, AssertionError, LookupError, *_READ_ERRORS) as error:
        raise ValueError(_not_opened(source, title, error)) from error
    kind = IterableSplit if isinstance(dataset, IterableImageDataset) else FileSplit
    opened = kind(dataset, title)
    if kind is FileSplit and not len(opened):
        raise ValueError(f"{title} holds no images; give one that has some")
    return opened


def _not_opened(source: Source, title: str, error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    if not source.name:
        if isinstance(error, RuntimeError | ValueError):
            return f"{title} holds no images ({', '.join(EXTENSIONS)}); give a folder or tar with one folder per class"
        return f"{title} cannot be opened ({reason}); mend or replace its file"
    if "not found" in reason.lower() or isinstance(error, FileNotFoundError):
        return (
            f"dataset {source.dataset!r} is not under data root {str(source.root)!r}; "
            f"give the folder that holds it as --data-root, or --download it"
        )
    return f"{title} cannot be opened under data root {str(source.root)!r} ({reason}); check its name, or --download it"


def _check_classes(source: Source, train: FileSplit, test: FileSplit) -> None:
    names, others = train.class_names(), test.class_names()
    if not source.name:
        assert names is not None and others is not None
        if "" in names or "" in others:
            raise ValueError(f"dataset {source.dataset!r} has images outside class folders; give each class a folder")
        if names != others:
            differ = sorted(set(names) ^ set(others))
            raise ValueError(
                f"dataset {source.dataset!r} has other class folders in train than in test: {', '.join(differ[:5])}; "
                f"give both the same ones"
            )
        if len(names) < 2:
            raise ValueError(
                f"dataset {source.dataset!r} has a single class, {names[0]!r}; give train and test a folder per class"
            )
