"""Which implementation is fastest, each at its best setting? Settings qualify in heats, the best meet in the final."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from vitbench.device import Device
from vitbench.profiling.batch_size import failure_reason
from vitbench.profiling.steps import Work
from vitbench.profiling.throughput import Candidate, Result, measure, prepare

WARMUP_CALLS = 3
"""Compilation and allocation belong to the first; an optimizer has its state from the second on."""
MIN_ROUNDS, MAX_ROUNDS = 3, 25
QUALIFYING_SECONDS = 1.0
"""Of each setting on average: fast ones get more rounds than `MIN_ROUNDS`."""


@dataclass(frozen=True)
class Heat:
    """Seconds of every call of one setting; `reason` says why there are none."""

    candidate: Candidate
    samples: tuple[float, ...] = ()
    warmup: tuple[float, ...] = ()
    reason: str = ""


def hold_contest(
    settings: Iterable[Sequence[Candidate]], *, device: Device, max_seconds: float
) -> tuple[list[Heat], list[Result]]:
    """(heats of all settings; finals of the best setting of each implementation of which any ran, timed in turn).

    `settings` are those of each implementation; they are timed in turn for a few rounds, the finals for `max_seconds` each.
    """
    heats: list[Heat] = []
    finalists: list[Candidate] = []
    for candidates in settings:
        new_heats = qualify(candidates, device=device)
        heats += new_heats
        if best := fastest(new_heats):
            finalists.append(best.candidate)
        device.release()
    torch._dynamo.reset()  # else every call would look through what was compiled to qualify
    return heats, measure(finalists, device=device, max_seconds=max_seconds)


def qualify(candidates: Sequence[Candidate], *, device: Device) -> list[Heat]:
    """A heat of each setting: a few calls in turn, after a warm-up. The heat of a setting that fails says why."""
    torch._dynamo.reset()
    heats: list[Heat] = []
    works: dict[int, Work] = {}
    for index, candidate in enumerate(candidates):
        try:
            work = prepare(candidate, device)
            heats.append(Heat(candidate, warmup=tuple(device.time(work) for _ in range(WARMUP_CALLS))))
            works[index] = work
        except Exception as error:  # one setting's failure is its result, and the others' go on
            heats.append(Heat(candidate, reason=failure_reason(error, candidate.batch_size)))
    samples: dict[int, list[float]] = {index: [] for index in works}
    spent, rounds = 0.0, 0
    while works and (rounds < MIN_ROUNDS or (spent < QUALIFYING_SECONDS * len(works) and rounds < MAX_ROUNDS)):
        for index, work in works.items():
            samples[index].append(device.time(work))
            spent += samples[index][-1]
        rounds += 1
    return [replace(heat, samples=tuple(samples.get(index, ()))) for index, heat in enumerate(heats)]


def fastest(heats: Sequence[Heat]) -> Heat | None:
    """The heat with the smallest median; None where none ran."""
    ran = [heat for heat in heats if heat.samples]
    return min(ran, key=lambda heat: float(np.median(heat.samples)), default=None)
