"""What stands for a data set's files, before any image is read?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitbench.data.listing import Listing

if TYPE_CHECKING:
    from vitbench.data.reading import FileSplit


@dataclass(frozen=True)
class Source:
    """The files of a data set, not yet opened."""

    dataset: str
    """The canonical name, without where its files are."""
    name: str
    """What `create_dataset` is given; empty for what is read without timm."""
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
    open_arrays: Callable[[], tuple[FileSplit, FileSplit]] | None = None
    """Opens (train, test) of a user's arrays; None for all other data."""


def content_hash(value: Any) -> str:
    """SHA-256 of what JSON can say."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
