"""Images in, batches out: built-in and timm data sets, decoded once, split, shuffled and augmented by seed.

Importing this loads no torch, timm, numpy or scikit-learn; the names that need them load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from vitbench.data.description import describe, fingerprint, known_sha256
from vitbench.data.info import BUILT_IN, DataInfo

if TYPE_CHECKING:
    from vitbench.data.augment import Augment, normalise, with_channels
    from vitbench.data.images import ImageData, Images, StreamedImages
    from vitbench.data.loading import load
    from vitbench.data.splits import epoch_order, split

__all__ = [
    "BUILT_IN",
    "Augment",
    "DataInfo",
    "ImageData",
    "Images",
    "StreamedImages",
    "describe",
    "epoch_order",
    "fingerprint",
    "known_sha256",
    "load",
    "normalise",
    "split",
    "with_channels",
]

_LAZY = {
    **dict.fromkeys(("Augment", "normalise", "with_channels"), "augment"),
    **dict.fromkeys(("ImageData", "Images", "StreamedImages"), "images"),
    **dict.fromkeys(("epoch_order", "split"), "splits"),
    "load": "loading",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
