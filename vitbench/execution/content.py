"""Are the images of a record those that the data set has now? By the hash of what was decoded, not by names and sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from vitbench.data import BUILT_IN, known_sha256
from vitbench.records import Record

Decode = Callable[[str, tuple[int, int]], str]
"""From a data set, as the user named it, and (height, width) to the SHA-256 of its images; raises ValueError."""


class Content:
    """The hashes of the images that data sets hold now, as far as they are known.

    `names`: from the name in configurations to the one that the user gave. Without `decode`, as in `plan`, only what the
    cache has decoded of the files that are there now is known.
    """

    def __init__(self, names: Mapping[str, str], root: Path | None, decode: Decode | None = None) -> None:
        self._names = names
        self._root = root
        self._decode = decode
        self._sha256: dict[tuple[str, tuple[int, int]], str | None] = {}
        self.unknown: dict[str, str] = {}
        """Data sets, as the user named them, whose images could not be held against records, and why."""

    def agrees(self, record: Record) -> bool:
        """Whether a record is of these images, or nothing is known to the contrary."""
        name = self._names.get(record.config.data.dataset)
        recorded = record.environment.data_sha256
        if name is None or not recorded:
            return True
        current = self._current_sha256(name, record.config.model.image_hw)
        return current is None or current == recorded

    def _current_sha256(self, name: str, image_size: tuple[int, int]) -> str | None:
        key = name, image_size
        if key not in self._sha256:
            self._sha256[key] = known_sha256(name, root=self._root, image_size=image_size)
            if self._sha256[key] is None and self._decode is not None:
                try:
                    self._sha256[key] = self._decode(name, image_size)
                except ValueError as error:
                    self.unknown[name] = str(error)
            elif self._sha256[key] is None and name not in BUILT_IN:  # what is built in comes with the program
                self.unknown[name] = "they are not decoded here yet, and `vitbench run` will look"
        return self._sha256[key]
