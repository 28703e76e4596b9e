"""Are a user's arrays images and labels that can be trained on? Checked alike, whether a file or a function gave them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from vitbench.data.decode import StoredImage
from vitbench.data.info import Dtype
from vitbench.data.reading import FileSplit
from vitbench.text import counted, printable

REQUIRED = ("train_images", "train_labels", "test_images", "test_labels")
OPTIONAL = ("class_names", "layout")
LAYOUTS = ("NCHW", "NHWC")
_SHOWN = 5
"""Names and labels that a message lists at most."""


@dataclass(frozen=True)
class Kind:
    """What all images of an array have in common."""

    shape: tuple[int, int, int]
    """(channels, height, width)."""
    dtype: Dtype
    layout: str
    """`NHW`, `NCHW` or `NHWC`: the order of the axes as they are stored."""

    def channels_first(self, image: np.ndarray) -> np.ndarray:
        """One stored image as [C, H, W] of this machine's byte order."""
        image = image.astype(self.dtype, copy=False)
        if self.layout == "NHW":
            return image[None]
        return image if self.layout == "NCHW" else np.moveaxis(image, -1, 0)


def array_kind(shape: Sequence[int], dtype: np.dtype[Any], title: str, layout: str | None = None) -> Kind:
    """Of images [N, C, H, W], [N, H, W] or [N, H, W, C]. `title` begins each refusal: `dataset 'x.npz': train_images`.

    An axis of channels is shorter than those of pixels, or those of pixels are equally long. Raises ValueError where neither
    order of the axes is so, for other types than `Dtype`, and for axes of no length.
    """
    if dtype.name not in get_args(Dtype):
        values = "levels of at most 8 bits are uint8, of 16 bits uint16, all other numbers float32"
        raise ValueError(f"{title} are {dtype.name}; give uint8, uint16 or float32 ({values}: .astype('float32'))")
    if len(shape) not in (3, 4):
        raise ValueError(f"{title} have shape {_shown(shape)}; give [N, C, H, W], or [N, H, W] of grey images")
    if not shape[0]:
        raise ValueError(f"{title} hold no images; give some")
    if 0 in shape:
        raise ValueError(f"{title} have shape {_shown(shape)}, an axis without pixels; give [N, C, H, W]")
    if len(shape) == 3:
        return Kind((1, shape[1], shape[2]), _dtype(dtype), "NHW")
    if layout is None:
        layout = _layout(shape[1], shape[2], shape[3], title)
    channels_last = layout == "NHWC"
    height, width = shape[1:3] if channels_last else shape[2:4]
    return Kind((shape[3] if channels_last else shape[1], height, width), _dtype(dtype), layout)


def _dtype(dtype: np.dtype[Any]) -> Dtype:
    return next(name for name in get_args(Dtype) if name == dtype.name)


def _layout(first: int, second: int, third: int, title: str) -> str:
    if first < min(second, third) or second == third:
        return "NCHW"
    if third < min(first, second):
        return "NHWC"
    raise ValueError(
        f"{title} have images of shape {_shown((first, second, third))}, which may be [C, H, W] or [H, W, C]; say which with "
        'an entry layout="NCHW" or layout="NHWC"'
    )


def checked_layout(value: Any, title: str) -> str | None:
    """Of an entry `layout`. Raises ValueError for other texts than those of `LAYOUTS`."""
    if value is None:
        return None
    text = str(np.asarray(value).item()) if np.asarray(value).size == 1 else repr(value)
    if text not in LAYOUTS:
        raise ValueError(f"{title}: layout {text[:40]!r} is unknown; use {' or '.join(LAYOUTS)}, or leave it out")
    return text


def checked_labels(value: Any, num_images: int, title: str) -> np.ndarray:
    """int64 [N] from whole numbers [N] or [N, 1]. Raises ValueError for all else, negative ones, and another N."""
    labels = np.asarray(value)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise ValueError(
            f"{title} have shape {_shown(labels.shape)}; give one class number per image, [N] (of one-hot rows "
            "labels.argmax(axis=1))"
        )
    if labels.dtype.kind not in "iub":
        remedy = "labels.astype('int64')" if labels.dtype.kind == "f" else "np.unique(labels, return_inverse=True)[1]"
        raise ValueError(f"{title} are {labels.dtype.name}; give whole numbers from 0 on, as {remedy}")
    if len(labels) != num_images:
        raise ValueError(f"{title} are {len(labels):,}, of {counted(num_images, 'image')}; give each image one label")
    if labels.min() < 0:
        raise ValueError(f"{title} hold {labels.min()}, and classes are numbered from 0; leave such images out")
    if labels.max() >= 2**31:
        raise ValueError(f"{title} hold {labels.max()}; number the classes from 0 without gaps")
    return labels.astype(np.int64)


def checked_names(value: Any, title: str) -> list[str]:
    """Names of classes by label, as they can be printed; none where there is no entry `class_names`."""
    if value is None:
        return []
    names = np.asarray(value)
    if names.ndim != 1 or names.dtype.kind not in "USiu":
        raise ValueError(f"{title}: class_names must be a list of texts, one for each class, by label; mend it")
    texts = [
        printable(name.decode(errors="replace") if isinstance(name, bytes) else str(name)) for name in names.tolist()
    ]
    if len({*texts}) < len(texts) or "" in texts:
        raise ValueError(f"{title}: class_names hold one twice, or an empty one; give each class a name of its own")
    return texts


def check_classes(train: np.ndarray, test: np.ndarray, names: Sequence[str], title: str) -> list[str]:
    """Notes on classes that only train has. Raises ValueError for classes that train lacks: none can be learned without."""
    present = np.unique(train)
    num_classes = len(names) or int(present[-1]) + 1
    highest = int(max(present[-1], test.max()))
    if names and highest >= num_classes:
        raise ValueError(
            f"{title} has label {highest}, and class_names {len(names)} names, for 0 to {len(names) - 1}; add it"
        )
    unknown = np.setdiff1d(test, present)
    if len(unknown):
        images = counted(int(np.isin(test, unknown).sum()), "test image")
        raise ValueError(
            f"{title} tests classes that train has no image of: {_listed(unknown, names)} ({images}); move some to train, or "
            "leave them out"
        )
    if len(present) < num_classes:
        is_present = np.isin(np.arange(min(num_classes, len(present) + _SHOWN)), present)
        remedy = "leave its name out" if names else "np.unique(labels, return_inverse=True)[1]"
        raise ValueError(
            f"{title} has no train image of class {_listed(np.flatnonzero(~is_present), names)}; number classes from 0 "
            f"without gaps: {remedy}"
        )
    if num_classes < 2:
        raise ValueError(f"{title} has a single class; give one with two or more")
    untested = np.setdiff1d(present, test)
    return [f"test has no image of class {_listed(untested, names)}"] if len(untested) else []


def _listed(labels: np.ndarray, names: Sequence[str]) -> str:
    listed = [f"{label} ({names[label]})" if names else str(label) for label in labels[:_SHOWN].tolist()]
    return ", ".join(listed) + (f" and {len(labels) - _SHOWN:,} more" if len(labels) > _SHOWN else "")


def check_alike(train: Kind, test: Kind, title: str) -> None:
    """Raises ValueError for splits whose images differ in shape or type."""
    for what, one, other in (("shape", _shown(train.shape), _shown(test.shape)), ("type", train.dtype, test.dtype)):
        if one != other:
            raise ValueError(f"{title}: train_images have {what} {one}, but test_images {other}; make them alike")


def _shown(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


class ArraySplit(FileSplit):
    """One split of images that are in memory or mapped."""

    def __init__(
        self,
        images: Sequence[StoredImage] | np.ndarray,
        labels: np.ndarray,
        place: str,
        *,
        kind: Kind | None,
        names: Sequence[str] = (),
    ) -> None:
        """`images` in the order of `kind`; [C, H, W] each, or pictures, without one.

        `place`: with what refusals of single images begin, `dataset 'x.npz': train_images`.
        """
        self.place = self.title = place
        self.kind = kind
        self._images = images
        self._labels = labels
        self._names = names

    def __len__(self) -> int:
        return len(self._labels)

    def _read(self, index: int) -> tuple[StoredImage, int]:
        image = self._images[index]
        if self.kind is not None:
            assert isinstance(image, np.ndarray)
            image = self.kind.channels_first(image)
        return image, int(self._labels[index])

    def __iter__(self) -> Iterator[tuple[StoredImage, int]]:
        return (self.read(index) for index in range(len(self)))

    def image_name(self, index: int) -> str:
        return f"{self.place}: image {self.filename(index)}"

    def filename(self, index: int) -> str:
        return f"#{index}"

    def labels(self) -> np.ndarray:
        return self._labels

    def class_names(self) -> list[str] | None:
        return list(self._names) or None
