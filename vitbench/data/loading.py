"""How do a data set's images get into memory? Generated, from the cache, into the cache, or streamed.

Pixels, statistics and hash are the same whichever way they come.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vitbench.config import DataConfig
from vitbench.data import builtin, cache
from vitbench.data.arrays import ArraySplit
from vitbench.data.decode import evaluation_size, fit
from vitbench.data.description import MAX_NATIVE, describe, describe_opened
from vitbench.data.function import forget
from vitbench.data.images import ImageData, Images, StreamedImages
from vitbench.data.info import BUILT_IN, DataInfo
from vitbench.data.measuring import Measure
from vitbench.data.opening import open_splits
from vitbench.data.reading import FileSplit
from vitbench.data.sources import find
from vitbench.machine import memory_bytes
from vitbench.text import agreeing, say

OnProgress = Callable[[str, int, int], None]
"""Called with (what is done, on how many images, of how many)."""

_CHUNK = 256


def load(
    dataset: str,
    *,
    root: Path | None = None,
    image_size: tuple[int, int] | None = None,
    eval_crop: float = 1.0,
    download: bool = False,
    progress: OnProgress | None = None,
) -> ImageData:
    """Both splits at `image_size` (height, width), native if None.

    With an `eval_crop` below 1 as evaluation sees them, the centre of images that are resized to cover more; statistics and
    hash stay those of the images without. Raises ValueError for what `describe` refuses, for images that cannot be read
    (naming the file), and for a cache that cannot be written.
    """
    if image_size is not None and min(image_size) < 1:
        raise ValueError(f"image_size {image_size} must be positive; leave it out for the native size")
    if dataset in BUILT_IN:
        notes: list[str] = []
        data = _load_built_in(dataset, image_size)
    else:
        data, notes = _load_files(dataset, root, image_size, download, progress)
    if eval_crop != 1:
        data = _as_evaluated(data, dataset, root, eval_crop, progress)
    notes += [*_on_constant_channels(data), *_on_unequal_classes(data)]
    _say_once(notes)
    return data


def _on_constant_channels(data: ImageData) -> list[str]:
    """A note on channels that tell nothing. Raises ValueError where no channel tells anything."""
    constant = [str(channel) for channel, std in enumerate(data.std) if not std]
    if len(constant) == len(data.std):
        raise ValueError(
            f"dataset {data.info.dataset!r}: all training images are the same single colour, so that there is nothing to "
            "learn; give other images"
        )
    if not constant:
        return []
    *others, last = constant
    which = f"channels {', '.join(others)} and {last} have" if others else f"channel {last} has"
    tells = agreeing(len(constant), "tells", "tell")
    return [f"{data.info.dataset}: {which} one value in all training images, and {tells} nothing"]


_UNEQUAL = 0.2
"""How far the largest class's share of the test images lies above 1 / number of classes where that is said."""


def _on_unequal_classes(data: ImageData) -> list[str]:
    """A note where always answering one class would be right far more often than guessing."""
    if isinstance(data.test, StreamedImages):
        return []
    counts = np.bincount(data.test.labels, minlength=data.info.num_classes)
    label, share = int(counts.argmax()), counts.max() / counts.sum()
    if share < 1 / data.info.num_classes + _UNEQUAL:
        return []
    name = data.class_names[label] if data.class_names else str(label)
    return [
        f"{data.info.dataset}: {share:.1%} of the test images are of class {name}, so that always answering it gets this "
        "accuracy; compare with it, not with 1 / number of classes"
    ]


_SAID: set[str] = set()


def _say_once(notes: Iterable[str]) -> None:
    """Each once per process; not in workers, whose parent has said the same."""
    if multiprocessing.parent_process() is None:
        for note in notes:
            if note not in _SAID:
                _SAID.add(note)
                say(note)


def _load_files(
    dataset: str, root: Path | None, image_size: tuple[int, int] | None, download: bool, progress: OnProgress | None
) -> tuple[ImageData, list[str]]:
    """(the data, what a user might not expect of them)."""
    info = describe(dataset, root=root, download=download)
    size = image_size or info.image_size
    pixel = np.dtype(info.dtype).itemsize
    num_bytes = (info.train_images + info.test_images) * info.in_channels * size[0] * size[1] * pixel
    streamed = num_bytes > cache.cache_limit_bytes()
    source = find(dataset, root, download=download)
    entry = cache.entry_for(source, size, streamed=streamed)
    facts = cache.read_entry(entry)
    splits: dict[str, FileSplit] = {}
    if streamed or facts is None:
        splits = dict(zip(("train", "test"), open_splits(source, download=download), strict=True))
        opened = describe_opened(source, splits["train"], splits["test"])
        # The tables behind `info` describe complete data sets; files may be missing.
        if (opened.train_images, opened.test_images) != (info.train_images, info.test_images):
            raise ValueError(
                f"dataset {info.dataset!r} has {opened.train_images} train and {opened.test_images} test images here, "
                f"not {info.train_images} and {info.test_images}; get it again (--download)"
            )
        source = find(dataset, root)  # a download has changed the files
        entry = cache.entry_for(source, size, streamed=streamed)
        for split in splits.values() if streamed else ():
            if not split.random_access:
                raise ValueError(
                    f"{split.title} has no random access and is larger than the cache's limit; "
                    f"raise VITBENCH_CACHE_LIMIT_GB above {num_bytes / 1e9:.1f}"
                )
        build = _measure_streamed if streamed else _decode
        facts = cache.build_entry(entry, partial(build, splits=splits, info=info, size=size, progress=progress))
    if not streamed:
        forget()  # what a function gave is in the cache now
    train, test = (
        StreamedImages(splits[name], size, info.in_channels, dtype=info.dtype) if streamed else _mapped(entry, name)
        for name in ("train", "test")
    )
    return _image_data(info, train, test, facts), [*source.notes, *facts["notes"]]


def _image_data(
    info: DataInfo, train: Images | StreamedImages, test: Images | StreamedImages, facts: dict[str, Any]
) -> ImageData:
    return ImageData(
        info=info,
        train=train,
        test=test,
        mean=tuple(facts["mean"]),
        std=tuple(facts["std"]),
        sha256=facts["sha256"],
        class_names=tuple(facts["class_names"]),
    )


def _as_evaluated(
    data: ImageData, dataset: str, root: Path | None, eval_crop: float, progress: OnProgress | None
) -> ImageData:
    """The same images, of each the centre of a resize that covers more."""
    size, info = data.size, data.info
    resized = evaluation_size(size, eval_crop)
    if dataset in BUILT_IN:
        train, test = (Images(*split) for split in builtin.arrays(dataset, size, resized))
        return replace(data, train=train, test=test)
    if isinstance(data.train, StreamedImages) and isinstance(data.test, StreamedImages):
        files = data.train.files, data.test.files
        streams = [StreamedImages(split, size, info.in_channels, dtype=info.dtype, resized=resized) for split in files]
        return replace(data, train=streams[0], test=streams[1])
    source = find(dataset, root)
    entry = cache.entry_for(source, size, streamed=False, resized=resized)
    if cache.read_entry(entry) is None:
        splits = dict(zip(("train", "test"), open_splits(source, download=False), strict=True))
        build = partial(_decode, splits=splits, info=info, size=size, resized=resized, progress=progress)
        cache.build_entry(entry, build)
    return replace(data, train=_mapped(entry, "train"), test=_mapped(entry, "test"))


def _mapped(entry: Path, split: str) -> Images:
    return Images(np.load(entry / f"{split}_images.npy", mmap_mode="r"), np.load(entry / f"{split}_labels.npy"))


def stored_train(data: ImageData, config: DataConfig, dataset: str, *, root: Path | None) -> StreamedImages | None:
    """The training images as they are stored, where `ImageTransform` is to change them one by one in worker processes; None
    where `Augment` changes batches of them on the device.

    One by one: crops of images that are stored at another size than that of `data`, so that they are taken from all pixels;
    colours of images that are streamed anyway. Raises ValueError where files cannot be read in any order.
    """
    if isinstance(data.train, StreamedImages):
        return data.train if config.crop_scale or config.auto_augment or config.color_jitter else None
    is_as_stored = dataset in BUILT_IN or (data.size == data.info.image_size and max(data.size) <= MAX_NATIVE)
    if is_as_stored or not config.crop_scale:
        return None
    train, _ = open_splits(find(dataset, root), download=False)
    if isinstance(train, ArraySplit) and train.kind is not None and tuple(train.kind.shape[1:]) == data.size:
        return None
    if not train.random_access:
        raise ValueError(
            f"crop_scale crops images as they are stored, but {train.title} has no random access; give a folder or a tar, "
            "or use crop_padding"
        )
    return StreamedImages(train, data.size, data.info.in_channels, dtype=data.info.dtype)


def _load_built_in(dataset: str, image_size: tuple[int, int] | None) -> ImageData:
    info = describe(dataset)
    height, width = image_size or info.image_size
    num_bytes = 2 * (info.train_images + info.test_images) * info.in_channels * height * width  # a split is a copy
    if 0 < memory_bytes() < num_bytes:
        raise ValueError(
            f"image_size {height}×{width} makes {num_bytes / 1e9:,.0f} GB of {dataset!r}, and this machine has "
            f"{memory_bytes() / 1e9:,.0f} GB of memory; make it smaller"
        )
    (train, train_labels), (test, test_labels) = builtin.arrays(dataset, (height, width), (height, width))
    measure = Measure(info.in_channels, info.dtype)
    for images, labels in ((train, train_labels), (test, test_labels)):
        measure.add(images, train=images is train)
        measure.add_labels(labels)
    facts = {**measure.result(), "class_names": builtin.CLASS_NAMES.get(dataset, ())}
    return _image_data(info, Images(train, train_labels), Images(test, test_labels), facts)


def _decode(
    folder: Path,
    *,
    splits: dict[str, FileSplit],
    info: DataInfo,
    size: tuple[int, int],
    progress: OnProgress | None,
    resized: tuple[int, int] | None = None,
) -> dict[str, Any]:
    measure = Measure(info.in_channels, info.dtype)
    for name, split in splits.items():
        total = info.train_images if name == "train" else info.test_images
        labels: list[int] = []
        with (folder / f"{name}_images.npy").open("wb") as file:
            # Written, not mapped: a full disk is then an error and not a SIGBUS.
            header = {
                "descr": np.dtype(info.dtype).newbyteorder("<").str,
                "fortran_order": False,
                "shape": (total, info.in_channels, *size),
            }
            np.lib.format.write_array_header_1_0(file, header)
            for chunk, chunk_labels in _chunks(split, size, info, resized):
                file.write(chunk.data)
                measure.add(chunk, train=name == "train")
                labels += chunk_labels
                if progress:
                    progress(f"decoding {name}", len(labels), total)
        if len(labels) != total:
            raise ValueError(f"{split.title} gave {len(labels)} images where it has {total}; its files change, retry")
        np.save(folder / f"{name}_labels.npy", np.array(labels, dtype=np.int64))
        measure.add_labels(np.array(labels, dtype=np.int64))
    return {**measure.result(), **_names_and_notes(splits)}


def _names_and_notes(splits: dict[str, FileSplit]) -> dict[str, list[str]]:
    notes = [note for split in splits.values() for note in split.notes]
    return {"notes": notes, "class_names": splits["train"].class_names() or []}


def _chunks(
    split: FileSplit, size: tuple[int, int], info: DataInfo, resized: tuple[int, int] | None
) -> Iterator[tuple[np.ndarray, list[int]]]:
    """([N, C, H, W], labels) of the images in their order, `_CHUNK` at a time."""
    images: list[np.ndarray] = []
    labels: list[int] = []
    for index, (image, label) in enumerate(split):
        images.append(fit(image, size, info.in_channels, split.image_name(index), resized=resized, dtype=info.dtype))
        labels.append(label)
        if len(images) == _CHUNK:
            yield np.stack(images), labels
            images, labels = [], []
    if images:
        yield np.stack(images), labels


def _measure_streamed(
    _folder: Path, *, splits: dict[str, FileSplit], info: DataInfo, size: tuple[int, int], progress: OnProgress | None
) -> dict[str, Any]:
    # One pass over everything, once per set and size: a mean of a sample would be another mean.
    measure = Measure(info.in_channels, info.dtype)
    for name, split in splits.items():
        images = StreamedImages(split, size, info.in_channels, dtype=info.dtype)
        done = 0
        for chunk, _ in images.stored(np.arange(len(images)), _CHUNK):
            measure.add(chunk, train=name == "train")
            done += len(chunk)
            if progress:
                progress(f"measuring {name}", done, len(images))
        measure.add_labels(images.labels)
    return {**measure.result(), **_names_and_notes(splits)}
