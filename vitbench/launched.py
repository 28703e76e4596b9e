"""Is this process one of several that `torchrun` started, and which? Imports no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Launched:
    """This process as `torchrun` started it, by the environment variables that it sets."""

    rank: int
    size: int
    local_rank: int
    """Among the processes of this machine."""
    local_size: int


def launched() -> Launched | None:
    """How `torchrun` started this process; None where it did not, or started it alone.

    Raises ValueError for what torchrun never sets.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    texts = [os.environ.get(name, "") for name in names]
    if not texts[1]:
        return None
    try:
        rank, size, local_rank, local_size = map(int, texts)
    except ValueError:
        set_to = " ".join(f"{name}={text!r}" for name, text in zip(names, texts, strict=True))
        raise ValueError(f"{set_to} are not what torchrun sets; unset them, or start with torchrun") from None
    return Launched(rank, size, local_rank, local_size) if size > 1 else None


def is_follower() -> bool:
    """Whether another process speaks for this one."""
    try:
        launch = launched()
    except ValueError:
        return False
    return launch is not None and launch.rank > 0
