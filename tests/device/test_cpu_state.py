"""Is the share of other processes what made-up kernel files say, by hand?"""

from __future__ import annotations

import os

import pytest

from vitbench.device import cpu_state as module
from vitbench.device.cpu_state import cpu_state, others_cores
from vitbench.machine import available_bytes

needs_ticks = pytest.mark.skipif(not hasattr(os, "sysconf"), reason="no clock ticks on this platform")


def state(seconds: float, busy: float | None, own: float):
    return {"seconds": seconds, "busy_core_seconds": busy, "own_core_seconds": own}


@pytest.mark.parametrize(
    ("after", "cores"),
    [
        ((110.0, 65.0, 19.0), 0.6),  # 15 core seconds of work in 10 s, 9 of them ours
        ((110.0, 58.9, 19.0), 0.0),  # ticks are coarse: never below nothing
        ((100.5, 60.0, 10.0), None),  # too short
        ((110.0, None, 19.0), None),  # not told
    ],
)
def test_other_processes_work_is_all_work_less_ours(after, cores):
    told = others_cores(state(100.0, 50.0, 10.0), state(*after))
    assert told is None if cores is None else told == pytest.approx(cores)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_usable_cores", lambda: [1, 2])
    (tmp_path / "proc").mkdir()
    return tmp_path


@needs_ticks
def test_busy_time_is_that_of_the_usable_cores_without_idling_and_guests(root):
    ticks = os.sysconf("SC_CLK_TCK")
    lines = ["cpu  9 9 9 9 9 9 9 9 9 9"]
    for core, scale in enumerate((1000, 1, 10, 1000)):
        # user nice system idle iowait irq softirq steal guest guest_nice: 1 + 2 + 3 + 6 + 7 + 8 are work
        lines.append(f"cpu{core} " + " ".join(str(scale * ticks * n) for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)))
    (root / "proc" / "stat").write_text("\n".join([*lines, "intr 1 2 3", "ctxt 5"]))
    assert cpu_state(root)["busy_core_seconds"] == 27 * 11


@needs_ticks
def test_our_own_work_is_counted_as_ours():
    before = cpu_state()
    while cpu_state()["own_core_seconds"] < before["own_core_seconds"] + 0.05:
        sum(range(10_000))
    # Other threads of this process may work meanwhile, at most one a core.
    assert (os.cpu_count() or 1) * (cpu_state()["seconds"] - before["seconds"]) >= 0.04


def test_the_frequency_is_the_median_of_the_usable_cores(root):
    (root / "proc" / "cpuinfo").write_text("".join(f"processor : {i}\ncpu MHz\t\t: {1000 * i}.5\n\n" for i in range(4)))
    assert cpu_state(root)["cpu_mhz"] == 1500.5
    for core, kilohertz in ((1, 3_000_000), (2, 3_200_000)):
        folder = root / "sys" / "devices" / "system" / "cpu" / f"cpu{core}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_cur_freq").write_text(f"{kilohertz}\n")
    assert cpu_state(root)["cpu_mhz"] == 3100


def test_what_is_not_told_is_none(tmp_path):
    told = cpu_state(tmp_path)
    assert told["cpu_mhz"] is None and told["busy_core_seconds"] is None
    assert told["cores"] == len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else told["cores"]


def test_free_memory_is_the_system_s_or_the_container_s(root):
    assert available_bytes(root) is None
    (root / "proc" / "meminfo").write_text("MemTotal:  9000 kB\nMemFree:  10 kB\nMemAvailable:   4000 kB\n")
    assert available_bytes(root) == 4_096_000
    group = root / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    (group / "memory.current").write_text("1000000\n")
    for limit, free in (("max", 4_096_000), ("3000000", 2_000_000), ("90000000", 4_096_000)):
        (group / "memory.max").write_text(limit + "\n")
        assert available_bytes(root) == free
