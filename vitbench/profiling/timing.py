"""How long does a call take, how sure is that, and which of several is faster? The clock of everything that is measured.

Calls that are compared are timed in turn, A B A B, so that a machine that drifts favours none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

RELATIVE_WIDTH = 0.02
"""A median is settled once its 95 % interval is narrower than this share of it."""
MIN_SAMPLES = 8
RESAMPLES = 1000
STEADY = 0.1
"""Warm-up ends where the last `STEADY_CALLS` calls lie within this share of each other."""
STEADY_CALLS = 3
MAX_WARMUP_CALLS = 20

Interval = tuple[float, float]


class Stopwatch(Protocol):
    """What the clock needs of a device: `Device.time`."""

    def time(self, call: Callable[[], object]) -> float: ...


@dataclass(frozen=True)
class Timing:
    """Seconds of every call. `settled` is whether the median's interval got narrower than 2 % within the time allowed."""

    samples: tuple[float, ...]
    warmup: tuple[float, ...]
    settled: bool

    @property
    def median(self) -> float:
        return float(np.median(self.samples))

    @property
    def interval(self) -> Interval:
        """95 % bootstrap interval of the median."""
        return bootstrap_median(self.samples)

    def percentile(self, percent: float) -> float:
        """Of the samples: with fewer than 100, the 99th is near the slowest."""
        return float(np.percentile(self.samples, percent))


def time_in_turn(
    calls: Mapping[str, Callable[[], object]],
    *,
    device: Stopwatch,
    max_seconds: float = 30.0,
    relative_width: float = RELATIVE_WIDTH,
) -> dict[str, Timing]:
    """Timings by name: all calls are warmed up, then each is timed once in every round.

    Stops once all medians are settled, or after `max_seconds` of samples. A call must do the same work each time. Errors of
    calls travel.
    """
    warmup = {name: _warm_up(call, device, max_seconds / len(calls)) for name, call in calls.items()}
    samples: dict[str, list[float]] = {name: [] for name in calls}
    spent, rounds, settled = 0.0, 0, dict.fromkeys(calls, False)
    while rounds < MIN_SAMPLES or (not all(settled.values()) and spent < max_seconds):
        for name, call in calls.items():
            samples[name].append(device.time(call))
            spent += samples[name][-1]
        rounds += 1
        # The bootstrap takes about a millisecond: not after every round of faster calls.
        if rounds >= MIN_SAMPLES and (rounds & (rounds - 1) == 0 or rounds % 16 == 0):
            settled = {name: _is_settled(values, relative_width) for name, values in samples.items()}
    return {
        name: Timing(tuple(values), tuple(warmup[name]), _is_settled(values, relative_width))
        for name, values in samples.items()
    }


def ratio(first: Timing, second: Timing) -> tuple[float, Interval]:
    """(median of first over second, round by round; its 95 % bootstrap interval), of two timings taken in turn."""
    ratios = np.asarray(first.samples) / np.asarray(second.samples)
    return float(np.median(ratios)), bootstrap_median(ratios)


def bootstrap_median(values: ArrayLike) -> Interval:
    """95 % interval of the median, from 1,000 resamples drawn with a fixed seed."""
    return percentile_interval(resampled_medians(values, np.random.default_rng(0)))


def resampled_medians(values: ArrayLike, generator: np.random.Generator) -> NDArray[np.float64]:
    """Medians [1000] of as many samples of `values` [N], drawn with replacement (Efron 1979)."""
    values = np.asarray(values)
    draws = generator.integers(len(values), size=(RESAMPLES, len(values)))
    return np.asarray(np.median(values[draws], axis=1))


def percentile_interval(draws: NDArray[np.float64]) -> Interval:
    """The interval that holds the middle 95 % of `draws` [N]."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def _is_settled(samples: list[float], relative_width: float) -> bool:
    low, high = bootstrap_median(samples)
    return high - low < relative_width * float(np.median(samples))


def _warm_up(call: Callable[[], object], device: Stopwatch, max_seconds: float) -> list[float]:
    """Seconds of calls until these are steady: samples are without compilation and allocation, and with warm caches."""
    seconds: list[float] = []
    while len(seconds) < MAX_WARMUP_CALLS:
        seconds.append(device.time(call))
        last = seconds[-STEADY_CALLS:]
        if len(last) == STEADY_CALLS and (max(last) < (1 + STEADY) * min(last) or sum(seconds) > max_seconds):
            break
    return seconds
