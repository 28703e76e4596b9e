"""How is a run's state kept on disk, so that after any end the next call continues from it?"""

from __future__ import annotations

import hashlib
import io
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from vitbench.files import cannot_write, remove_leftovers, replacing
from vitbench.signals import HeldSignals
from vitbench.text import say

FORMAT = 1
"""Raised whenever the content changes; a file of another format is not used."""
SECONDS_BETWEEN = 5.0
"""An epoch that ends sooner after the last checkpoint writes none, so that tiny runs pay nothing."""
LARGEST_SHARE = 0.01
"""Nor does one where writing, if it takes as long as the last time, would take a larger share of the time."""

State = dict[str, Any]
"""Tensors, numbers, strings, and lists and dicts of them: what torch.load reads with `weights_only`."""

_DIGEST_BYTES = 32


class Checkpoint:
    """The file of a run's latest state, and the signals that ask for a newer one.

    `made_by` names what decides the bits of a run besides its configuration; a state made by something else is not used: the
    run would belong to neither. Without a path, nothing is kept and no signal is held. After `minutes` a state is written all
    the same, and within an epoch too: a run that is killed loses no more.
    """

    def __init__(
        self, path: Path | None = None, made_by: Mapping[str, str] | None = None, *, minutes: float = math.inf
    ) -> None:
        self.path = path
        self.longest = 60 * minutes
        self.made_by = dict(made_by or {})
        self.signals = HeldSignals()
        self.more: Callable[[], State] = dict
        """What goes into the file besides the training's state."""
        self._written, self._took, self._complained = time.monotonic(), 0.0, False

    @property
    def is_asked_for(self) -> bool:
        """Whether a signal waits for the state to be written."""
        return self.signals.held is not None

    def is_due(self, *, ahead: float = 0.0) -> bool:
        """Whether the state is to be written because an epoch has ended.

        `ahead`: seconds that follow in which it cannot be written.
        """
        if self.path is None:
            return False
        since = time.monotonic() - self._written
        return since >= max(SECONDS_BETWEEN, self._took / LARGEST_SHARE) or since + ahead >= self.longest

    def is_overdue(self) -> bool:
        """Whether the state is to be written wherever the run is."""
        return self.path is not None and time.monotonic() - self._written >= self.longest

    def read(self) -> tuple[State | None, str]:
        """(the content of the file, why it cannot be used): at most one of them; neither where there is no file.

        Half-written files of killed writers are removed.
        """
        if self.path is None:
            return None, ""
        remove_leftovers(self.path)
        if not self.path.exists():
            return None, ""
        try:
            content = _read(self.path)
        except (OSError, ValueError) as error:
            return None, f"checkpoint {str(self.path)!r} {error}"
        made_by = {"devices": "1", **content["made_by"]}  # older ones do not say so
        # On other devices a run goes on all the same, with the same steps but for rounding; threads are then shared anew.
        is_moved = made_by["devices"] != self.made_by.get("devices", "1")
        for name, value in self.made_by.items():
            saved = made_by.get(name)
            if saved != value and not (is_moved and name in ("devices", "threads")):
                return None, f"checkpoint {str(self.path)!r} was made with {name} {saved!r}, and here it is {value!r}"
        return content, ""

    def write(self, training: State) -> None:
        """Replaces the file's content. Where it cannot be written, says so once, and the run goes on without."""
        assert self.path is not None
        start = time.monotonic()
        try:
            _write(self.path, {"format": FORMAT, "made_by": self.made_by, "training": training, **self.more()})
        except (OSError, MemoryError) as error:
            if not self._complained:
                say(f"{cannot_write('checkpoint', self.path, error)}; the run goes on without")
            self._complained = True
        self._written = time.monotonic()
        self._took = self._written - start


def _write(path: Path, content: State) -> None:
    """torch's format and its SHA-256: torch does not check what it reads, and damage must not pass for a state."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    payload = buffer.getbuffer()
    with replacing(path) as new, new.open("wb") as file:
        file.write(payload)
        file.write(hashlib.sha256(payload).digest())


def _read(path: Path) -> State:
    """Raises ValueError for what is not whole, and for a foreign format."""
    data = path.read_bytes()
    payload, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if hashlib.sha256(payload).digest() != digest:
        raise ValueError("is torn or damaged")
    try:
        content = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception:  # torch raises many kinds
        content = None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError("is of another version of vitbench")
    return content
