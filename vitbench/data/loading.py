"""From a data set's name to decoded images: built in, from the cache, into the cache, or streamed.

Whichever way they come, pixels, statistics and hash are the same.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from vitbench.data import builtin, cache
from vitbench.data.decode import fit
from vitbench.data.description import describe, describe_opened
from vitbench.data.images import ImageData, Images, StreamedImages
from vitbench.data.info import BUILT_IN, DataInfo
from vitbench.data.reading import FileSplit
from vitbench.data.sources import find, open_splits
from vitbench.machine import memory_bytes

Progress = Callable[[str, int, int], None]
"""Called with (what, how many are done, how many there are)."""

_CHUNK = 256


def load(
    dataset: str,
    *,
    root: Path | None = None,
    image_size: tuple[int, int] | None = None,
    download: bool = False,
    progress: Progress | None = None,
) -> ImageData:
    """Both splits at `image_size` (height, width), native if None.

    Raises ValueError for what `describe` refuses, for images that cannot be read (naming the file), and for a cache
    that cannot be written.
    """
    if image_size is not None and min(image_size) < 1:
        raise ValueError(f"image_size {image_size} must be positive; leave it out for the native size")
    data, notes = (
        (_built_in(dataset, image_size), ())
        if dataset in BUILT_IN
        else _load(dataset, root, image_size, download, progress)
    )
    flat = [channel for channel, std in enumerate(data.std) if not std]
    if flat:
        listed = " and ".join(str(channel) for channel in flat)
        notes = (
            *notes,
            f"{data.info.dataset}: channel {listed} has one value in all training images, and tells nothing",
        )
    _say(notes)
    return data


_said: set[str] = set()


def _say(notes: Iterable[str]) -> None:
    """One line on stderr each, once per process; what workers could say, the process that started them has said."""
    if multiprocessing.parent_process() is None:
        for note in notes:
            if note not in _said:
                _said.add(note)
                print(f"vitbench: {note}", file=sys.stderr, flush=True)


def _load(
    dataset: str, root: Path | None, image_size: tuple[int, int] | None, download: bool, progress: Progress | None
) -> tuple[ImageData, Sequence[str]]:
    """(the data, what to say of them)."""
    info = describe(dataset, root=root, download=download)
    size = image_size or info.image_size
    num_bytes = (info.train_images + info.test_images) * info.in_channels * size[0] * size[1]
    streamed = num_bytes > cache.cache_limit_bytes()

    source = find(dataset, root, download=download)
    entry = cache.entry_for(source, size, streamed=streamed)
    meta = cache.read_entry(entry)
    if meta is not None and not streamed:
        return _cached(info, entry, meta), [*source.notes, *meta["notes"]]

    splits = dict(zip(("train", "test"), open_splits(source, download=download), strict=True))
    _check_counts(info, describe_opened(source, splits["train"], splits["test"]))
    source = find(dataset, root)  # a download has changed the files
    entry = cache.entry_for(source, size, streamed=streamed)
    for split in splits.values() if streamed else ():
        if not split.random_access:
            raise ValueError(
                f"{split.title} has no random access and is larger than the cache's limit; "
                f"raise VITBENCH_CACHE_LIMIT_GB above {num_bytes / 1e9:.1f}"
            )
    build = _build_streamed if streamed else _build_cached
    meta = cache.build_entry(entry, partial(build, splits=splits, info=info, size=size, progress=progress))
    notes = [*source.notes, *meta["notes"]]
    if not streamed:
        return _cached(info, entry, meta), notes
    train, test = (StreamedImages(split, size, info.in_channels) for split in splits.values())
    mean, std = tuple(meta["mean"]), tuple(meta["std"])
    names = tuple(meta["class_names"])
    sha256 = meta["sha256"]
    return ImageData(info=info, train=train, test=test, mean=mean, std=std, sha256=sha256, class_names=names), notes


def _check_counts(info: DataInfo, opened: DataInfo) -> None:
    """The tables in `info` speak of complete files; these may not be."""
    if (opened.train_images, opened.test_images) != (info.train_images, info.test_images):
        raise ValueError(
            f"dataset {info.dataset!r} has {opened.train_images} train and {opened.test_images} test images here, "
            f"not {info.train_images} and {info.test_images}; get it again (--download)"
        )


class _Measure:
    """Mean, standard deviation and hash of images that pass by, exact however they are cut into chunks."""

    def __init__(self, in_channels: int) -> None:
        self.digest = hashlib.sha256()
        self.histogram = np.zeros((in_channels, 256), dtype=np.int64)

    def add(self, images: np.ndarray, *, train: bool) -> None:
        self.digest.update(np.ascontiguousarray(images).data)
        if train:
            for channel, counts in enumerate(self.histogram):
                counts += np.bincount(images[:, channel].ravel(), minlength=256)

    def add_labels(self, labels: np.ndarray) -> None:
        self.digest.update(labels.astype("<i8").tobytes())

    def result(self) -> dict[str, Any]:
        level = np.arange(256) / 255
        total = self.histogram.sum(axis=1)
        mean = self.histogram @ level / total
        variance = (self.histogram * (level - mean[:, None]) ** 2).sum(axis=1) / total
        return {"mean": mean.tolist(), "std": np.sqrt(variance).tolist(), "sha256": self.digest.hexdigest()}


def _built_in(dataset: str, image_size: tuple[int, int] | None) -> ImageData:
    info = describe(dataset)
    height, width = image_size or info.image_size
    num_bytes = 2 * (info.train_images + info.test_images) * info.in_channels * height * width  # a split is a copy
    if 0 < memory_bytes() < num_bytes:
        raise ValueError(
            f"image_size {height}×{width} makes {num_bytes / 1e9:,.0f} GB of {dataset!r}, and this machine has "
            f"{memory_bytes() / 1e9:,.0f} GB of memory; make it smaller"
        )
    (train, train_labels), (test, test_labels) = builtin.arrays(dataset, image_size or info.image_size)
    measure = _Measure(info.in_channels)
    measure.add(train, train=True)
    measure.add_labels(train_labels)
    measure.add(test, train=False)
    measure.add_labels(test_labels)
    found = measure.result()
    return ImageData(
        info=info,
        train=Images(train, train_labels),
        test=Images(test, test_labels),
        mean=tuple(found["mean"]),
        std=tuple(found["std"]),
        sha256=found["sha256"],
        class_names=builtin.CLASS_NAMES.get(dataset, ()),
    )


def _cached(info: DataInfo, entry: Path, meta: dict[str, Any]) -> ImageData:
    train, test = (
        Images(np.load(entry / f"{split}_images.npy", mmap_mode="r"), np.load(entry / f"{split}_labels.npy"))
        for split in ("train", "test")
    )
    return ImageData(
        info=info,
        train=train,
        test=test,
        mean=tuple(meta["mean"]),
        std=tuple(meta["std"]),
        sha256=meta["sha256"],
        class_names=tuple(meta["class_names"]),
    )


def _build_cached(
    folder: Path, *, splits: dict[str, FileSplit], info: DataInfo, size: tuple[int, int], progress: Progress | None
) -> dict[str, Any]:
    measure = _Measure(info.in_channels)
    for name, split in splits.items():
        total = info.train_images if name == "train" else info.test_images
        labels: list[int] = []
        with (folder / f"{name}_images.npy").open("wb") as file:
            # Written, not mapped: a full disk is then an error and not a SIGBUS.
            _write_header(file, (total, info.in_channels, *size))
            for chunk, chunk_labels in _decoded(split, size, info.in_channels):
                file.write(chunk.data)
                measure.add(chunk, train=name == "train")
                labels += chunk_labels
                if progress:
                    progress(f"decoding {name}", len(labels), total)
        if len(labels) != total:
            raise ValueError(f"{split.title} gave {len(labels)} images where it has {total}; its files change, retry")
        np.save(folder / f"{name}_labels.npy", np.array(labels, dtype=np.int64))
        measure.add_labels(np.array(labels, dtype=np.int64))
    return {**measure.result(), **_said_of(splits)}


def _said_of(splits: dict[str, FileSplit]) -> dict[str, list[str]]:
    """What an entry keeps beside the pixels."""
    notes = [note for split in splits.values() for note in split.notes]
    return {"notes": notes, "class_names": splits["train"].class_names() or []}


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _decoded(split: FileSplit, size: tuple[int, int], in_channels: int) -> Iterator[tuple[np.ndarray, list[int]]]:
    images: list[np.ndarray] = []
    labels: list[int] = []
    for index, (image, label) in enumerate(split):
        images.append(fit(image, size, in_channels, split.filename(index)))
        labels.append(label)
        if len(images) == _CHUNK:
            yield np.stack(images), labels
            images, labels = [], []
    if images:
        yield np.stack(images), labels


def _build_streamed(
    _folder: Path, *, splits: dict[str, FileSplit], info: DataInfo, size: tuple[int, int], progress: Progress | None
) -> dict[str, Any]:
    # One pass over everything, once per set and size: a mean of a sample would be another mean.
    measure = _Measure(info.in_channels)
    for name, split in splits.items():
        images = StreamedImages(split, size, info.in_channels)
        done = 0
        for chunk, _ in images.batches(np.arange(len(images)), _CHUNK, torch.device("cpu")):
            measure.add(chunk.numpy(), train=name == "train")
            done += len(chunk)
            if progress:
                progress(f"measuring {name}", done, len(images))
        measure.add_labels(images.labels)
    return {**measure.result(), **_said_of(splits)}
