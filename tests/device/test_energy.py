"""Does a call's energy come out as its power times its time, on devices whose power is known?"""

from __future__ import annotations

import pytest

from vitbench.device.energy import NotAvailableError, measure_energy

WATTS = 200.0


class MadeUpDevice:
    """Time passes as calls say; the counter shows the energy at its last step, `step` seconds after the one before."""

    source = "a made-up counter"

    def __init__(self, *, step: float, watts: float = WATTS) -> None:
        self.now, self.step, self.watts = 12.34, step, watts

    def clock(self) -> float:
        return self.now

    def joules(self) -> float:
        return 1000 + self.watts * (self.now // self.step) * self.step

    def call(self, seconds: float):
        def pass_time() -> None:
            self.now += seconds

        return pass_time


@pytest.mark.parametrize(
    ("seconds", "step"), [(0.001, 0.1), (0.003, 0.02), (0.01, 0.001), (0.7, 0.1), (3.0, 0.1)], ids=str
)
def test_joules_of_a_call_are_power_times_time_however_coarse_the_counter(seconds, step):
    device = MadeUpDevice(step=step)
    energy = measure_energy(device.call(seconds), device, clock=device.clock)
    # The counter's steps do not matter beyond one call at either end, or one step where a call takes longer than that.
    error = 2 * min(seconds, step) / energy.seconds
    assert energy.joules / energy.calls == pytest.approx(WATTS * seconds, rel=error + 1e-9)
    assert energy.seconds >= 0.5 and energy.seconds == pytest.approx(energy.calls * seconds)


def test_what_came_before_the_counter_s_first_step_is_left_out():
    device = MadeUpDevice(step=10.0)
    energy = measure_energy(device.call(1.0), device, min_seconds=15.0, clock=lambda: device.now / 10)
    assert (energy.joules, energy.calls) == (WATTS * 150, 150)


def test_a_counter_that_stands_still_under_load_is_not_available():
    device = MadeUpDevice(step=0.1, watts=0.0)
    with pytest.raises(NotAvailableError, match="a made-up counter did not move in 2 s of work"):
        measure_energy(device.call(0.01), device, clock=device.clock)
