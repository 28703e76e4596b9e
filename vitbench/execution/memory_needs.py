"""Do planned runs fit into the memory of this machine? Estimated without torch, or measured on a device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from vitbench.config import RunConfig, ViTConfig
from vitbench.costs.memory import StepMemory, estimated_memory, room_for
from vitbench.machine import available_bytes
from vitbench.studies import PlannedRun
from vitbench.text import counted, size_in_bytes

Fitting = Callable[[RunConfig], tuple[StepMemory | None, int | None]]
"""(what a step takes, images at a time where the batch does not fit). Raises ValueError where not one image does."""


@dataclass(frozen=True)
class MemoryNeed:
    """Of the runs of one arm on one data set."""

    study: str
    dataset: str
    arm: str
    batch_size: int
    needed_bytes: int
    """With the whole batch at once."""
    is_measured: bool
    micro_batch: int | None
    """Images at a time that `--micro-batch auto` takes; None for the whole batch."""
    problem: str
    """Why not one image at a time fits; else empty."""


@dataclass(frozen=True)
class MemoryNeeds:
    """What each arm takes, and what a run may take."""

    arms: Sequence[MemoryNeed]
    room_bytes: float
    workers: int

    def sentences(self) -> Iterator[str]:
        """A line for each study and data set."""
        beside = f", beside {counted(self.workers - 1, 'other')}" if self.workers > 1 else ""
        for place in dict.fromkeys((need.study, need.dataset) for need in self.arms):
            arms = [need for need in self.arms if (need.study, need.dataset) == place]
            most = max(arms, key=lambda need: need.needed_bytes)
            how = "measured" if most.is_measured else "estimated"
            needed, room = size_in_bytes(most.needed_bytes), size_in_bytes(self.room_bytes)
            which = f"({most.arm}, batches of {most.batch_size:,}; {how})"
            yield (
                f"memory: {place[0]} on {place[1]} takes up to {needed} a run {which}, and a run may take {room} "
                f"here{beside}: {_what_fits(arms, most)}"
            )


def _what_fits(arms: Sequence[MemoryNeed], most: MemoryNeed) -> str:
    if problems := [need for need in arms if need.problem]:
        return f"{problems[0].arm}: {problems[0].problem}"
    sizes = [need.micro_batch for need in arms if need.micro_batch is not None]
    if not sizes:
        return "whole batches fit"
    which = f"{len(sizes)} of {counted(len(arms), 'arm')}" if len(arms) > 1 else most.arm
    return f"--micro-batch auto computes {min(sizes):,} images at a time ({which})"


def memory_needs(runs: Iterable[PlannedRun], *, workers: int, device: str | None) -> MemoryNeeds | None:
    """Of each arm, by its first run. Without a device, by closed form and for this machine's CPU; None where its free memory
    is not told. Raises ValueError for a device that is not there.
    """
    firsts: dict[tuple[str, str, str], PlannedRun] = {}
    for run in runs:
        firsts.setdefault((run.study, run.config.data.dataset, run.arm), run)
    if device is not None:
        opened_fitting, room = _on_device(device, workers)
    elif (free := available_bytes()) is not None:
        room = room_for(free, workers, is_tried=False)
        opened_fitting = partial(_estimated, room=room)
    else:
        return None
    needs = []
    for place, run in firsts.items():
        config, problem = run.config, ""
        batch_size = config.train.batch_size
        memory, size = None, None
        try:
            memory, size = opened_fitting(config)
        except ValueError as error:
            problem = str(error)
        with run.naming_its_arm():
            needed = (memory or estimated_memory(config)).needed(batch_size)
        measured = device is not None and memory is not None
        needs.append(MemoryNeed(*place, batch_size, needed, measured, size, problem))
    return MemoryNeeds(needs, room, workers)


def _estimated(config: RunConfig, *, room: float) -> tuple[StepMemory, int | None]:
    memory, size = estimated_memory(config), config.train.batch_size
    if isinstance(config.model, ViTConfig) and config.model.stem == "conv":
        return memory, None  # its BatchNorm keeps batches whole
    return memory, memory.largest_fitting(size, room)


def _on_device(name: str, workers: int) -> tuple[Fitting, float]:
    """By the rule and the measurements of `--micro-batch auto`."""
    from vitbench.device import open_device
    from vitbench.execution.micro_batch import fitting, runs_on_device
    from vitbench.inspection.whole_batches import batch_dependence

    device = open_device(name)
    runs = runs_on_device(workers, device)

    def fit(config: RunConfig) -> tuple[StepMemory | None, int | None]:
        precision = device.resolve_precision(config.train.precision)
        train = config.train.model_copy(update={"precision": precision})
        memory, size = fitting(config.model_copy(update={"train": train}), device, runs=runs)
        return memory, None if batch_dependence(config.model) else size

    free = device.free_bytes() or 0
    return fit, room_for(free, runs, is_tried=device.raises_out_of_memory)
