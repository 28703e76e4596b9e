"""How much energy does a call take, by the device's own counter?"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

ENERGY_SECONDS = 0.5
"""A call is repeated for at least so long: counters move every 1 to 100 ms."""
STILL_SECONDS = 2.0
"""A counter that stands still for longer under load is broken, or belongs to another device."""


class NotAvailableError(Exception):
    """What the platform does not tell, with the reason in one line."""


class EnergyCounter(Protocol):
    """`source` names it; `joules()` grows from an arbitrary start."""

    source: str

    def joules(self) -> float: ...


@dataclass(frozen=True)
class Energy:
    """`joules` that the whole device used during `calls` calls in `seconds`."""

    joules: float
    calls: int
    seconds: float


def measure_energy(
    call: Callable[[], object],
    counter: EnergyCounter,
    *,
    min_seconds: float = ENERGY_SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> Energy:
    """Repeats `call`, which must return only when its work is done, from one step of the counter to another.

    So the counter's resolution adds no error; at either end one call more or less may count. Idle power and what else the
    device did are included. Raises NotAvailableError where the counter stands still.
    """
    start, _, began = _until_it_moves(call, counter, at_least=0.0, clock=clock)
    end, calls, ended = _until_it_moves(call, counter, at_least=min_seconds, clock=clock)
    return Energy(end - start, calls, ended - began)


def _until_it_moves(
    call: Callable[[], object], counter: EnergyCounter, *, at_least: float, clock: Callable[[], float]
) -> tuple[float, int, float]:
    """(joules just after a step of the counter, the calls until then, the time then)."""
    began, calls, last = clock(), 0, counter.joules()
    while True:
        call()
        calls += 1
        reading, now = counter.joules(), clock()
        if reading != last and now - began >= at_least:
            return reading, calls, now
        if reading == last and now - began > at_least + STILL_SECONDS:
            raise NotAvailableError(f"{counter.source} did not move in {now - began:.0f} s of work")
        last = reading
