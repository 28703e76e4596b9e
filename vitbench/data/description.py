"""What is in a data set? Looked up in tables and the cache; where they do not tell, the data set is opened.

Imports no torch unless something has to be opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from vitbench.data import cache
from vitbench.data.info import BUILT_IN, KNOWN, DataInfo, Dtype
from vitbench.data.opening import open_splits
from vitbench.data.reading import FileSplit
from vitbench.data.source import Source
from vitbench.data.sources import find

MAX_NATIVE = 64
"""Images of one size up to this many pixels a side keep it; all others are brought to `LARGE`."""
LARGE = 224
PROBES = 64
"""So many images, evenly spaced over train, have their sizes compared."""


def describe(dataset: str, *, root: Path | None = None, download: bool = False) -> DataInfo:
    """What `load` will give for the same `dataset` and `root`.

    Raises ValueError for an unknown name, one that may mean two sets, missing or empty splits, and splits that do not fit
    each other.
    """
    if dataset in BUILT_IN and root is not None and (root / dataset).exists():
        raise ValueError(
            f"dataset {dataset!r} is built in, and there is {str(root / dataset)!r} too; give that path as --data, or leave "
            "--data-root out"
        )
    if info := KNOWN.get(dataset) or KNOWN.get(dataset.lower() if dataset.lower().startswith("torch/") else ""):
        return info
    source = find(dataset, root, download=download)
    if info := cache.read_info(cache.folder_for(source.dataset, source.fingerprint)):
        return info
    train, test = open_splits(source, download=download)
    info = describe_opened(source, train, test)
    source = find(dataset, root)  # a download has changed the files
    cache.write_info(cache.folder_for(source.dataset, source.fingerprint), info)
    return info


def fingerprint(dataset: str, *, root: Path | None = None) -> str:
    """Changes when the data set's files do; empty for what is built in. Raises ValueError where there are no files."""
    return "" if dataset in BUILT_IN else find(dataset, root).fingerprint


def known_sha256(dataset: str, *, root: Path | None = None, image_size: tuple[int, int]) -> str | None:
    """The hash of the decoded images (`ImageData.sha256`), None where the cache does not have it for today's files."""
    if dataset in BUILT_IN:
        return None
    try:
        source = find(dataset, root)
    except ValueError:
        return None
    metas = (cache.read_entry(cache.entry_for(source, image_size, streamed=streamed)) for streamed in (False, True))
    return next((str(meta["sha256"]) for meta in metas if meta is not None), None)


def describe_opened(source: Source, train: FileSplit, test: FileSplit) -> DataInfo:
    """From the labels, and from a few images."""
    import numpy as np

    size, in_channels, dtype = _kind(train)
    train_labels, test_labels = train.labels(), test.labels()
    lowest, highest = (f(f(train_labels), f(test_labels)) for f in (min, max))
    names = train.class_names()
    num_classes = len(names) if names else int(highest) + 1
    if lowest < 0 or highest >= num_classes:
        raise ValueError(
            f"dataset {source.dataset!r} has label {lowest if lowest < 0 else highest}, "
            f"outside its {num_classes} classes; give splits that are labelled alike"
        )
    if num_classes < 2:
        raise ValueError(f"dataset {source.dataset!r} has a single class; give one with two or more")
    return DataInfo(
        dataset=source.dataset,
        image_size=size,
        in_channels=in_channels,
        dtype=dtype,
        num_classes=num_classes,
        train_images=len(train_labels),
        test_images=len(test_labels),
        crop_padding=size[0] // 8,
        flip=in_channels >= 3,  # grey sets are mostly characters, whose mirror images mean something else
        class_counts=tuple(np.bincount(train_labels, minlength=num_classes).tolist()),
    )


def _kind(split: FileSplit) -> tuple[tuple[int, int], int, Dtype]:
    """The size (height, width) to bring images to, the number of their channels, and what holds their pixels.

    Pictures have 3 channels unless all those looked at are grey.
    """
    from vitbench.data.arrays import ArraySplit
    from vitbench.data.decode import height_and_width, num_channels, stored_dtype

    if isinstance(split, ArraySplit) and split.kind is not None:  # no image has to be read
        channels, *size = split.kind.shape
        native = (size[0], size[1])
        return native if max(native) <= MAX_NATIVE else (LARGE, LARGE), channels, split.kind.dtype
    probes = {i * (len(split) - 1) // (PROBES - 1) for i in range(PROBES)} if split.random_access else set()
    is_native, channels, sizes, dtypes = False, 1, set(), set()
    for image, _ in map(split.read, sorted(probes)) if split.random_access else split:
        sizes.add(height_and_width(image))
        is_native = len(sizes) == 1 and max(max(size) for size in sizes) <= MAX_NATIVE
        channels = max(channels, num_channels(image))
        dtypes.add(stored_dtype(image))
        if not is_native and channels > 1:
            break
    if not sizes:
        raise ValueError(f"{split.title} holds no images; give one that has some")
    dtype = next(dtype for dtype in get_args(Dtype)[::-1] if dtype in dtypes)
    return sizes.pop() if is_native else (LARGE, LARGE), channels, dtype
