"""Which images does a function in FILE.py give? It is called once in each process, and named by its source and what it gave.

A function whose images differ from call to call is refused: no run of it could be repeated.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from vitbench.data import cache
from vitbench.data.arrays import (
    OPTIONAL,
    REQUIRED,
    ArraySplit,
    Kind,
    array_kind,
    check_alike,
    check_classes,
    checked_labels,
    checked_layout,
    checked_names,
)
from vitbench.data.decode import StoredImage, as_shown
from vitbench.data.listing import change_times
from vitbench.data.source import Source, content_hash
from vitbench.process_state import move_generators, taken_back
from vitbench.text import did_you_mean, printable
from vitbench.user_code import identify, load_file, users_code

DEFAULT_NAME = "data"
"""Of the function, where FILE.py is given without one."""
_SPLITS = ("train", "test")
_GIVES = (
    "return a dict of train_images, train_labels, test_images and test_labels, or of train and test, each a Dataset or "
    "(images, labels)"
)


@dataclass(frozen=True)
class _Result:
    """What a function gave, checked, and the name that it has by it."""

    dataset: str
    splits: tuple[ArraySplit, ArraySplit]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Place:
    """A function's place, as its file is now."""

    file: Path
    name: str
    size: int
    changed: tuple[int, int]

    @property
    def title(self) -> str:
        return f"data file {str(self.file)!r}: {self.name}()"


_SOURCES: dict[_Place, Source] = {}
_LAST_RESULTS: dict[_Place, _Result] = {}
"""The last call's result, until its images are in the cache."""


def find_function(file: Path, name: str) -> Source:
    """What the function gives as a data set. Raises ValueError, with file and line, for whatever is wrong with it."""
    status = file.stat()
    place = _Place(file, name or DEFAULT_NAME, status.st_size, change_times(status))
    if place not in _SOURCES:
        _SOURCES[place] = _source(place)
    return _SOURCES[place]


def forget() -> None:
    """Frees the arrays that functions gave. They are called again where their images are asked for once more."""
    _LAST_RESULTS.clear()


def _source(place: _Place) -> Source:
    function = _function(place)
    result = _call(place, function)
    fingerprint = content_hash([str(place.file.absolute()), result.dataset])
    if cache.read_info(cache.folder_for(result.dataset, fingerprint)) is None:  # never seen here before
        with taken_back():
            move_generators()  # each call takes their states back, and so would draw the same
            again = _call(place, function)
        if again.dataset != result.dataset:
            raise ValueError(
                f"{place.title} gives other images or labels at each call, so that no run could be repeated; draw random "
                "numbers from a generator with a fixed seed"
            )
    _LAST_RESULTS.clear()
    _LAST_RESULTS[place] = result
    return Source(
        dataset=result.dataset,
        name="",
        root=place.file,
        train="train",
        tests=("test",),
        fingerprint=fingerprint,
        notes=result.notes,
        open_arrays=partial(_open, place, result.dataset),
    )


def _open(place: _Place, dataset: str) -> tuple[ArraySplit, ArraySplit]:
    if place not in _LAST_RESULTS:
        result = _call(place, _function(place))
        if result.dataset != dataset:
            raise ValueError(f"{place.title} gives other images or labels than before; let it give the same ones")
        _LAST_RESULTS[place] = result
    return _LAST_RESULTS[place].splits


def _function(place: _Place) -> Callable[[], Any]:
    module = load_file(place.file, "data")
    function = getattr(module, place.name, None)
    if not callable(function):
        names = [name for name, value in vars(module).items() if inspect.isfunction(value) and not name.startswith("_")]
        otherwise = f"it has {', '.join(names[:8])}: give FILE.py:NAME" if names else "define it: def data(): …"
        raise ValueError(
            f"data file {str(place.file)!r} has no function {place.name!r}; {did_you_mean(place.name, names, otherwise)}"
        )
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise ValueError(f"{place.title} needs arguments ({error}); give them defaults") from error
    except ValueError:  # of what is written in C
        pass
    return cast(Callable[[], Any], function)


def _call(place: _Place, function: Callable[[], Any]) -> _Result:
    try:
        code = identify(function)
    except ValueError as error:
        raise ValueError(f"data file {str(place.file)!r}: {error}") from error
    value = _guarded(place, function)
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
        value = dict(zip(_SPLITS, value, strict=True))
    if not isinstance(value, Mapping):
        raise ValueError(f"{place.title} gives {type(value).__name__}; {_GIVES}")
    entries = _entries(place, dict(value))
    layout = checked_layout(entries.get("layout"), place.title)
    names = checked_names(entries.get("class_names"), place.title)
    train, test = (_split(place, split, entries, layout, names) for split in _SPLITS)
    if train.kind and test.kind:
        check_alike(train.kind, test.kind, place.title)
    notes = check_classes(train.labels(), test.labels(), names, place.title)
    digests = [_digest(split) for split in (train, test)]
    if digests[0] == digests[1]:
        raise ValueError(f"{place.title} gives the same images for test as for train; give others")
    suffix = "" if place.name == DEFAULT_NAME else f":{place.name}"
    dataset = f"{printable(place.file.resolve().stem)}{suffix}@{content_hash([code, names, *digests])[:8]}"
    for split, which in ((train, "train"), (test, "test")):
        split.title = f"the {which} split of {dataset!r}"
    return _Result(dataset, (train, test), tuple(f"{dataset}: {note}" for note in notes))


def _guarded(place: _Place, action: Callable[[], Any]) -> Any:
    with users_code(f"data file {str(place.file)!r}", str(place.file.resolve())):
        return action()


def _entries(place: _Place, result: dict[Any, Any]) -> dict[str, Any]:
    """With `train` and `test` taken apart into images and labels, where they are pairs of these."""
    for split in _SPLITS:
        pair = result.get(split)
        if isinstance(pair, tuple | list) and len(pair) == 2:
            result[f"{split}_images"], result[f"{split}_labels"] = result.pop(split)
    needed = [split if split in result else f"{split}_{part}" for split in _SPLITS for part in ("images", "labels")]
    missing = [name for name in dict.fromkeys(needed) if result.get(name) is None]
    if missing:
        held = ", ".join(str(key) for key in list(result)[:8]) or "nothing"
        raise ValueError(f"{place.title} gives no {missing[0]}, but {printable(held)}; {_GIVES}")
    unused = [key for key in result if key not in (*REQUIRED, *OPTIONAL, *_SPLITS)]
    if unused:
        hint = did_you_mean(str(unused[0]), OPTIONAL, "leave it out")
        raise ValueError(f"{place.title} gives {printable(str(unused[0]))!r}, which is not used; {hint}")
    return result


def _split(
    place: _Place, split: str, entries: Mapping[str, Any], layout: str | None, names: Sequence[str]
) -> ArraySplit:
    if split in entries:
        return _of_dataset(place, split, entries[split], layout, names)
    title = f"{place.title}: {split}_images"
    images = _as_array(entries[f"{split}_images"])
    kind = array_kind(images.shape, images.dtype, title, layout)
    labels = checked_labels(_as_array(entries[f"{split}_labels"]), len(images), f"{place.title}: {split}_labels")
    return ArraySplit(images, labels, title, kind=kind, names=names)


def _of_dataset(place: _Place, split: str, dataset: Any, layout: str | None, names: Sequence[str]) -> ArraySplit:
    title = f"{place.title}: {split}"
    if isinstance(dataset, str | bytes) or not (hasattr(dataset, "__getitem__") or hasattr(dataset, "__iter__")):
        raise ValueError(f"{title} is {type(dataset).__name__}; {_GIVES}")
    limit = cache.cache_limit_bytes()

    def read() -> tuple[list[StoredImage], list[int]]:
        images: list[StoredImage] = []
        labels: list[int] = []
        num_bytes = 0
        for number, item in enumerate(_items(dataset)):
            image, label = _item(item, f"{title} #{number}", layout)
            num_bytes += image.nbytes if isinstance(image, np.ndarray) else 3 * image.width * image.height
            if num_bytes > limit:
                raise ValueError(
                    f"{title} has more than {limit / 1e9:g} GB of images, which a function's Dataset keeps in memory; give a "
                    "folder or an uncompressed FILE.npz, or raise VITBENCH_CACHE_LIMIT_GB"
                )
            images.append(image)
            labels.append(label)
        return images, labels

    images, labels = _guarded(place, read)
    if not images:
        raise ValueError(f"{title} holds no images; give some")
    checked = checked_labels(np.array(labels), len(images), f"{title}: labels")
    return ArraySplit(images, checked, title, kind=_common_kind(images), names=names)


def _items(dataset: Any) -> Iterator[Any]:
    """Of a Dataset with a length its items by number: one without `__iter__` need not end with an IndexError."""
    if hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"):
        return (dataset[number] for number in range(len(dataset)))
    return iter(cast(Iterable[Any], dataset))


def _item(item: Any, title: str, layout: str | None) -> tuple[StoredImage, int]:
    if not isinstance(item, Sequence) or len(item) != 2:
        raise ValueError(f"{title} is {type(item).__name__}; a Dataset's items are (image, label)")
    image, label = item
    number = _as_array(label)
    if number.size != 1 or number.dtype.kind not in "iub":
        raise ValueError(f"{title} has label {str(label)[:40]!r}; labels are whole numbers from 0 on")
    if isinstance(image, Image.Image):
        return as_shown(image), int(number.item())
    pixels = _as_array(image)
    kind = array_kind((1, *pixels.shape), pixels.dtype, f"{title}: its images", layout)
    return kind.channels_first(pixels), int(number.item())


def _common_kind(images: Sequence[StoredImage]) -> Kind | None:
    """Of arrays that are alike; None where they are not, or are pictures."""
    kinds = {(image.shape, image.dtype.name) if isinstance(image, np.ndarray) else None for image in images}
    first = images[0]
    if len(kinds) > 1 or not isinstance(first, np.ndarray):
        return None
    return array_kind((len(images), *first.shape), first.dtype, "images", "NCHW")


def _as_array(value: Any) -> np.ndarray:
    """Of an array, a tensor on any device, or nested lists."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if not hasattr(value, "numpy") or str(value.dtype) == "torch.bfloat16":
            value = value.float()
    return np.asarray(value)


def _digest(split: ArraySplit) -> str:
    """SHA-256 of all images, their types and shapes, and the labels."""
    digest = hashlib.sha256()
    for image, _ in split:
        if isinstance(image, Image.Image):
            image = np.asarray(image)
        digest.update(f"{image.dtype.newbyteorder('<').str}{image.shape}".encode())
        digest.update(np.ascontiguousarray(image, dtype=image.dtype.newbyteorder("<")).data)
    digest.update(split.labels().astype("<i8").tobytes())
    return digest.hexdigest()
