"""Makes a measurement take a moment: small ceilings, no qualifying time, no process for the memory."""

from __future__ import annotations

import pytest

from vitbench.device import Device, cpu
from vitbench.profiling import contest, profile_parts, roofline


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contest, "QUALIFYING_SECONDS", 0.0)
    monkeypatch.setattr(roofline, "CPU_SIDES", (64,))
    monkeypatch.setattr(roofline, "COPIED_BYTES", 2**16)
    monkeypatch.setattr(cpu, "peak_rise", lambda make_work, *, threads: make_work() and 12345)
    monkeypatch.setattr(Device, "bf16_speedup", lambda _: 1.0)
    measure = roofline.measure_ceilings
    for module in (roofline, profile_parts):
        monkeypatch.setattr(module, "measure_ceilings", lambda device: measure(device, max_seconds=0.01))
