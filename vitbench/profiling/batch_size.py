"""Which batch size is the largest that fits, and which is the fastest?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vitbench.device import Device, is_out_of_memory
from vitbench.device.fresh_process import CALLS
from vitbench.profiling.timing import time_in_turn
from vitbench.text import error_with_type

SEARCHES = ("best", "max")
GROWTH = 1.03
"""`best` goes on while doubling the batch gives more than this many times the images a second."""
SEARCH_SECONDS = 1.0
"""Of samples at each size that `best` tries."""
TWICE = 2.2
"""A batch twice as large is tried where there is room for this many times the memory."""


@dataclass(frozen=True)
class Trial:
    """A size that was tried. `best` alone measures `images_per_second`; `reason` says why a size did not run."""

    batch_size: int
    images_per_second: float | None = None
    reason: str = ""


def search_batch_size(
    search: str, make_work: Callable[[int], Callable[[], object]], *, device: Device, release: Callable[[], None]
) -> tuple[Trial, ...]:
    """Tries 1, 2, 4, … images of the work that `make_work` makes for a batch size; `chosen_size` tells the outcome.

    `max` goes on until a size does not run. `best` also stops at the first size that is not 3 % faster than the one before.
    Where running out of memory would end this process instead of raising, a size too large by the last one's memory is not
    tried. `release` is called after each size, when its work is gone.
    """
    assert search in SEARCHES
    trials: list[Trial] = []
    size, too_large = 1, ""
    while not too_large:
        trial, too_large = _try(search, make_work, size, device)
        release()
        trials.append(trial)
        if trial.reason:
            break
        if search == "best" and len(trials) > 1 and _rate(trial) <= GROWTH * _rate(trials[-2]):
            break
        size *= 2
        if too_large:
            trials.append(Trial(size, reason=too_large))
    return tuple(trials)


def chosen_size(trials: tuple[Trial, ...]) -> int | None:
    """The fastest size where speed was measured, else the largest that ran; None where not even one image did."""
    ran = [trial for trial in trials if not trial.reason]
    return max(ran, key=lambda trial: (_rate(trial), trial.batch_size)).batch_size if ran else None


def failure_reason(error: Exception, batch_size: int) -> str:
    """Why a batch of this size did not run, in one line."""
    if is_out_of_memory(error):
        return f"out of memory at batch {batch_size}"
    return error_with_type(error)


def _try(search: str, make_work: Callable[[int], Callable[[], object]], size: int, device: Device) -> tuple[Trial, str]:
    """(the trial of a size, why twice the size must not be tried)."""
    try:
        work = make_work(size)
        device.time(work)  # compiles, and allocates what stays
        room = device.room_for(work)
        rate = None
        if search == "best":
            rate = size / time_in_turn({"": work}, device=device, max_seconds=SEARCH_SECONDS)[""].median
        else:
            for _ in range(CALLS):
                device.time(work)
    except Exception as error:  # a size that does not run ends the search, and says why
        return Trial(size, reason=failure_reason(error, size)), ""
    is_little = room is not None and room < TWICE
    too_large = f"not tried: the memory free is {room:.1f} × what batch {size} takes" if is_little else ""
    return Trial(size, rate), too_large


def _rate(trial: Trial) -> float:
    return trial.images_per_second or 0.0
