"""Is the clock fair to calls that are timed in turn, and does it know when it knows enough?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from vitbench.profiling.timing import MAX_WARMUP_CALLS, MIN_SAMPLES, Timing, bootstrap_median, ratio, time_in_turn


class MadeUpTime:
    """A device on which time passes as each call says: calls return their seconds."""

    def __init__(self) -> None:
        self.order: list[float] = []

    def time(self, call: Callable[[], object]) -> float:
        seconds = call()
        assert isinstance(seconds, float)
        self.order.append(seconds)
        return seconds


def noisy(seconds: float, *, noise: float, seed: int = 0) -> Callable[[], float]:
    generator = np.random.default_rng(seed)
    return lambda: seconds * float(1 + noise * generator.standard_normal())


def timing(*samples: float) -> Timing:
    return Timing(samples, (), True)


def test_calls_take_turns():
    device = MadeUpTime()
    timings = time_in_turn({"a": lambda: 1.0, "b": lambda: 2.0}, device=device)
    rounds = device.order[sum(len(t.warmup) for t in timings.values()) :]
    assert rounds == [1.0, 2.0] * MIN_SAMPLES
    assert [t.samples for t in timings.values()] == [(1.0,) * MIN_SAMPLES, (2.0,) * MIN_SAMPLES]


def test_every_sample_is_kept_in_order():
    values = iter([1.0] * 3 + [1.0 + i / 1000 for i in range(100)])
    (timed,) = time_in_turn({"a": lambda: next(values)}, device=MadeUpTime()).values()
    assert timed.samples == tuple(1.0 + i / 1000 for i in range(len(timed.samples)))


@pytest.mark.parametrize(("noise", "relative_width"), [(0.02, 0.02), (0.1, 0.05)])
def test_it_measures_until_the_interval_is_as_narrow_as_asked(noise, relative_width):
    call = noisy(1.0, noise=noise)
    timings = time_in_turn({"a": call}, device=MadeUpTime(), relative_width=relative_width, max_seconds=1000)
    (timed,) = timings.values()
    low, high = timed.interval
    assert timed.settled and high - low < relative_width * timed.median
    # Of a normal sample of n, the median's 95 % interval is 2 · 1.96 · 1.2533 σ / √n wide.
    assert len(timed.samples) < 4 * (2 * 1.96 * 1.2533 * noise / relative_width) ** 2 + 32


def test_it_says_so_where_the_time_did_not_suffice():
    timings = time_in_turn({"a": noisy(1.0, noise=0.5), "b": lambda: 1.0}, device=MadeUpTime(), max_seconds=40)
    assert not timings["a"].settled and timings["b"].settled
    assert len(timings["a"].samples) == len(timings["b"].samples) >= MIN_SAMPLES


def test_warm_up_ends_once_calls_are_steady_and_belongs_to_no_sample():
    values = iter([9.0, 3.0, 1.0, 1.02, 0.98] + [1.0] * 100)
    (timed,) = time_in_turn({"a": lambda: next(values)}, device=MadeUpTime()).values()
    assert timed.warmup == (9.0, 3.0, 1.0, 1.02, 0.98) and set(timed.samples) == {1.0}


def test_warm_up_of_what_never_gets_steady_ends():
    values = iter([1.0, 2.0] * 1000)
    (timed,) = time_in_turn({"a": lambda: next(values)}, device=MadeUpTime(), max_seconds=100).values()
    assert len(timed.warmup) == MAX_WARMUP_CALLS


def test_errors_of_calls_travel():
    def fails() -> None:
        raise MemoryError("out")

    with pytest.raises(MemoryError):
        time_in_turn({"a": fails}, device=MadeUpTime())


def test_ratios_are_taken_round_by_round_so_that_drift_cancels():
    drift = np.linspace(1, 3, 101)
    value, (low, high) = ratio(timing(*(2 * drift)), timing(*drift))
    assert value == low == high == pytest.approx(2)


def test_the_interval_of_the_median_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(1)
    samples = generator.lognormal(size=(400, 41))  # its median is 1
    covered = [low <= 1 <= high for low, high in map(bootstrap_median, samples)]
    assert 0.91 < np.mean(covered) < 0.985


def test_percentiles_are_numpy_s():
    timed = timing(*np.random.default_rng(0).random(200))
    assert timed.percentile(99) == np.percentile(timed.samples, 99) and timed.median == np.median(timed.samples)
    assert replace(timed, samples=(2.0,)).percentile(50) == 2.0
