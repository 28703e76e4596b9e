"""What is timed of a model: one candidate of `vitbench throughput`, of ours or of a peer."""

from __future__ import annotations

from vitbench.config import ViTConfig
from vitbench.costs.macs import count
from vitbench.machine import memory_bytes
from vitbench.profiling.candidates import OURS, candidate_of
from vitbench.profiling.throughput import Candidate

MODES = ("infer", "train")
MAX_BATCH = 128


def candidate(
    name: str,
    config: ViTConfig,
    *,
    mode: str,
    precision: str,
    batch_size: int,
    implementation: str = OURS,
    compiled: bool = False,
) -> Candidate:
    return candidate_of(
        config,
        name,
        implementation=implementation,
        mode=mode,
        precision=precision,
        compiled=compiled,
        batch_size=batch_size,
    )


def batch_for(config: ViTConfig, *, macs: float) -> int:
    """The power of two that comes next to `macs` a forward pass from below, within 1 and `MAX_BATCH`."""
    batch = 1
    while batch < MAX_BATCH and 2 * batch * count(config).macs <= macs:
        batch *= 2
    return batch


def fits_in_memory(config: ViTConfig, *, batch_size: int) -> bool:
    """Whether a training step in fp32 stays well below this machine's memory, which would else end the process.

    Weights, gradients and AdamW's two moments; of activations twice what is counted: norms and nonlinearities keep theirs.
    """
    cost = count(config)
    needed = 4 * (4 * cost.params + 2 * cost.activations * batch_size)
    return not memory_bytes() or needed < 0.7 * memory_bytes()
