"""What tests of real processes share: who still lives, waiting for what must come, a `vitbench` that checkpoints often."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

IMPATIENT = """
from vitbench.training import checkpoint
checkpoint.SECONDS_BETWEEN, checkpoint.LARGEST_SHARE = 0.0, float("inf")
if __name__ == "__main__":
    from vitbench.cli import main
    main()
"""
"""A script that is `vitbench`, but keeps a checkpoint at every epoch, however short."""


def group(leader: int) -> list[int]:
    """Living processes, other than `leader`, of the group that it leads (proc(5): state and pgrp follow the name)."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = status.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(pgrp) == leader and state != "Z" and int(status.parent.name) != leader:
            found.append(int(status.parent.name))
    return found


def wait_until(true: Callable[[], object], *, seconds: float = 90) -> None:
    """Polls; a test that waits in vain fails here."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
