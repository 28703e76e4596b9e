"""What is in a data set? Answered from tables and the cache where they know, by opening it where they do not.

Imports no torch unless something has to be opened.
"""

from __future__ import annotations

from pathlib import Path

from vitbench.data import cache
from vitbench.data.info import BUILT_IN, KNOWN, DataInfo
from vitbench.data.sources import FileSplit, Source, find, open_splits

MAX_NATIVE = 64
"""Images of one size up to this many pixels a side keep it; all others are brought to `LARGE`."""
LARGE = 224
PROBES = 64
"""Images, evenly spaced over train, whose sizes are compared."""


def describe(dataset: str, *, root: Path | None = None, download: bool = False) -> DataInfo:
    """What `load` will give for the same `dataset` and `root`.

    Raises ValueError for an unknown name, one that may mean two sets, missing or empty splits, and splits that do not fit
    each other.
    """
    if dataset in BUILT_IN and root is not None and (root / dataset).is_dir():
        raise ValueError(
            f"dataset {dataset!r} is built in, but {str(root / dataset)!r} is a folder too; give the folder's whole path for "
            "it, or leave --data-root out for what is built in"
        )
    known = KNOWN.get(dataset) or KNOWN.get(dataset.lower() if dataset.lower().startswith("torch/") else "")
    if known is not None:
        return known
    source = find(dataset, root, download=download)
    info = cache.read_info(cache.folder_for(source.dataset, source.fingerprint))
    if info is not None:
        return info
    train, test = open_splits(source, download=download)
    try:
        info = describe_opened(source, train, test)
    finally:
        train.close()
        test.close()
    source = find(dataset, root)  # a download has changed the files
    cache.write_info(cache.folder_for(source.dataset, source.fingerprint), info)
    return info


def fingerprint(dataset: str, *, root: Path | None = None) -> str:
    """Changes when the data set's files do; empty of what is built in. Raises ValueError where there are none."""
    return "" if dataset in BUILT_IN else find(dataset, root).fingerprint


def known_sha256(dataset: str, *, root: Path | None = None, image_size: tuple[int, int]) -> str | None:
    """The hash of the decoded images (`ImageData.sha256`) where the cache has it of the files as they are now, else None."""
    if dataset in BUILT_IN:
        return None
    try:
        source = find(dataset, root)
    except ValueError:
        return None
    metas = (cache.read_entry(cache.entry_for(source, image_size, streamed=streamed)) for streamed in (False, True))
    return next((str(meta["sha256"]) for meta in metas if meta is not None), None)


def describe_opened(source: Source, train: FileSplit, test: FileSplit) -> DataInfo:
    """Looks at labels, at the first image, and at the sizes of a few others."""
    import numpy as np

    from vitbench.data.decode import num_channels

    image, _ = train.read(0)
    in_channels = num_channels(image)
    size = image.height, image.width
    if max(size) > MAX_NATIVE or not _all_of_size(train, size):
        size = LARGE, LARGE
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
        num_classes=num_classes,
        train_images=len(train_labels),
        test_images=len(test_labels),
        crop_padding=size[0] // 8,
        flip=in_channels == 3,  # grey sets are mostly characters, whose mirror images mean something else
        class_counts=tuple(np.bincount(train_labels, minlength=num_classes).tolist()),
    )


def _all_of_size(split: FileSplit, size: tuple[int, int]) -> bool:
    if not split.random_access:
        return all((image.height, image.width) == size for image, _ in split)
    probes = {i * (len(split) - 1) // (PROBES - 1) for i in range(PROBES)}
    return all((image.height, image.width) == size for image, _ in (split.read(index) for index in sorted(probes)))
