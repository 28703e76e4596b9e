"""From where does a run go on, and what does its checkpoint keep of it besides its training?"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from vitbench.device import Device
from vitbench.execution.job import Job
from vitbench.ranks import Ranks
from vitbench.records import Environment
from vitbench.text import say
from vitbench.training import Checkpoint
from vitbench.training.checkpoint import State

MADE_BY = (
    *("machine", "device", "precision", "compiled", "threads", "devices", "torch", "timm", "numpy", "vitbench"),
    "data_sha256",
)
"""What of an environment decides the bits of a run, besides native operators."""


@dataclass
class History:
    """What a checkpoint keeps of a run besides its training."""

    started: str
    resumed: int = 0
    """How often the run resumed from a checkpoint."""
    peak: int | None = None
    """Peak memory in bytes before the run was interrupted."""
    validation: dict[int, tuple[float, float]] = field(default_factory=dict)
    """Epoch, from 0 → (loss, top-1)."""
    parts: list[str] = field(default_factory=list)
    """How each part of the run computed, as `Environment.part` has it, each way once."""

    @classmethod
    def resumed_from(cls, saved: dict[str, Any]) -> History:
        """That of a checkpoint, of which one more part begins. Older ones computed in one way."""
        history = cls(**{"parts": ["in whole batches"], **saved})
        history.resumed += 1
        return history

    def earlier_parts(self, environment: Environment) -> tuple[str, ...]:
        """Those that computed otherwise than the last, which is of this environment."""
        return tuple(part for part in self.parts if part != environment.part)

    def peak_memory(self, since_resumed: int | None) -> int | None:
        """In bytes, of the whole run."""
        return max((peak for peak in (self.peak, since_resumed) if peak is not None), default=None)


def open_checkpoint(
    job: Job, device: Device, environment: Environment, ranks: Ranks, started: str
) -> tuple[Checkpoint, History, State | None]:
    """(the run's checkpoint, its history, and the checkpoint's content where the run resumes from it). Collective.

    Rank 0 alone reads and writes the file.
    """
    checkpoint = Checkpoint(
        job.checkpoint if ranks.is_first else None, _made_by(environment), minutes=job.checkpoint_minutes
    )
    saved, why_not = checkpoint.read()
    if why_not:
        say(f"{why_not}; run {job.run.run_id} starts from the beginning")
    saved = ranks.of_first(saved)
    history = History(started) if saved is None else History.resumed_from(saved["history"])
    if saved is not None and ranks.is_first and (others := history.earlier_parts(environment)):
        say(f"run {job.run.run_id} goes on {environment.part}, after {others[-1]}: the same but for rounding")
    history.parts = list(dict.fromkeys([*history.parts, environment.part]))
    checkpoint.more = lambda: {"history": {**asdict(history), "peak": history.peak_memory(device.peak_memory_bytes())}}
    return checkpoint, history, saved


def _made_by(environment: Environment) -> dict[str, str]:
    """What decides the bits of a run besides its configuration; native operators are named by their compiled library."""
    kernels = f"{environment.operators} {environment.kernel_library}".strip()
    return {**{name: str(getattr(environment, name)) for name in MADE_BY}, "kernels": kernels}
