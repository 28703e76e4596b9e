"""Does a comparison of benchmarks fail on what got slower, and on nothing that only the machine did?"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from benchmarks import factors
from benchmarks.compare import Measured, change, compare, main, read_run
from benchmarks.yardstick import cores_missing
from vitbench.config import POSITION_SITES, Activation, FinalNorm, Head, Pool, Stem, ViTConfig
from vitbench.device.cpu_state import cpu_state

MACHINE = {
    "device": "cpu: Example",
    "cpu_cores": 2,
    "threads": 2,
    "torch": "2.14.1",
    "precision": "fp32",
    "kernels": "torch",
}
NOISE = (0.99, 1.0, 1.01, 0.98, 1.02, 1.0, 0.995, 1.005)
"""Its median is 1."""


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., str]:
    """Writes what pytest-benchmark would: medians in seconds by name, on a machine that takes `machine` times as long."""

    def write(
        name: str,
        times: dict[str, float],
        *,
        machine: float = 1.0,
        noise: tuple[float, ...] = NOISE,
        named: dict[str, list[float]] | None = None,
        cores_missing: float = 0.02,
        **facts: object,
    ) -> str:
        yardstick = {part: [machine * seconds * n for n in NOISE] for part, seconds in (("a", 0.002), ("b", 0.01))}
        benchmarks: list[dict[str, Any]] = [
            {
                "fullname": f"benchmarks/{benchmark}",
                "extra_info": {
                    "yardstick": yardstick,
                    "cores_missing": cores_missing,
                    **({"samples": named} if named else {}),
                },
                "stats": {"data": [machine * seconds * n for n in noise]},
            }
            for benchmark, seconds in times.items()
        ]
        path = tmp_path / f"{name}.json"
        machine_info = {**MACHINE, "yardstick": "two parts", **facts}
        path.write_text(json.dumps({"machine_info": machine_info, "benchmarks": benchmarks}))
        return str(path)

    return write


TIMES = {"forward": 0.1, "backward": 0.2, "read": 0.003}


def test_the_same_code_on_a_slower_machine_passes(saved, capsys):
    assert main([saved("old", TIMES), saved("new", TIMES, machine=1.7)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("3 compared: 0 slower") and line.endswith("the yardstick itself took 1.70 × its old time")


@pytest.mark.parametrize("machine", [1.0, 1.3, 0.5], ids=["same", "slower", "twice as fast"])
def test_what_got_slower_by_half_fails_and_is_named_whatever_the_machine_did(saved, capsys, machine):
    new = saved("new", {**TIMES, "backward": 0.3}, machine=machine)
    assert main([saved("old", TIMES), new]) == 1
    slower = [line for line in capsys.readouterr().out.splitlines() if line.startswith("SLOWER")]
    assert len(slower) == 1 and slower[0].startswith("SLOWER backward: 1.50 × the time (1.")


def test_what_got_faster_is_named_and_fails_nothing(saved, capsys):
    assert main([saved("old", TIMES), saved("new", {**TIMES, "read": 0.001})]) == 0
    assert capsys.readouterr().out.startswith("faster read: 0.33 × the time")


def test_the_bound_is_what_was_asked_for(saved):
    old, new = saved("old", TIMES), saved("new", {**TIMES, "backward": 0.24})
    assert main([old, new]) == 0
    assert main([old, new, "--bound", "1.1"]) == 1


def test_a_ratio_above_the_bound_with_an_interval_that_reaches_below_it_passes(saved):
    wide = (0.6, 0.7, 0.9, 1.0, 1.0, 1.3, 2.0, 2.5)
    old, new = saved("old", TIMES), {**TIMES, "backward": 0.28}
    assert main([old, saved("certain", new)]) == 1
    assert main([old, saved("uncertain", new, noise=wide)]) == 0


def test_a_missing_benchmark_is_said(saved, capsys):
    old, new = saved("old", TIMES), saved("new", {"forward": 0.1, "read": 0.003, "stem": 1.0})
    assert main([old, new]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["missing, only in the old run: backward", "only in the new run: stem"]
    assert lines[2].startswith("2 compared") and "1 missing" in lines[2]


def test_of_fewer_than_five_samples_nothing_is_concluded(saved, capsys):
    old = saved("old", TIMES)
    assert main([old, saved("four", {"read": 0.03}, noise=NOISE[:4])]) == 2
    said = capsys.readouterr()
    assert said.out.startswith("not judged, fewer than 5 samples: read") and "nothing could be judged" in said.err
    assert main([old, saved("five", {"read": 0.03}, noise=NOISE[:5])]) == 1


def test_what_others_disturbed_is_not_judged_and_said(saved, capsys):
    old, slow = saved("old", TIMES), {**TIMES, "read": 0.03}
    assert main([old, saved("disturbed", slow, cores_missing=0.9)]) == 2
    assert "not judged, others kept 0.9 cores from it: read" in capsys.readouterr().out.splitlines()
    assert main([saved("disturbed before", TIMES, cores_missing=0.9), saved("new", slow)]) == 2
    assert main([old, saved("hardly", slow, cores_missing=0.2)]) == 1


@pytest.mark.parametrize(("threads", "cores", "missing"), [(2, 2, 0.7), (1, 2, 0.0), (4, 2, 0.7), (2, 64, 0.0)])
def test_cores_are_missing_where_others_take_more_than_we_leave(threads, cores, missing):
    # In 10 seconds 15 core-seconds of work, 8 of them ours: others kept 0.7 cores busy.
    before = {"seconds": 100.0, "busy_core_seconds": 50.0, "own_core_seconds": 20.0, "cores": cores}
    after = {"seconds": 110.0, "busy_core_seconds": 65.0, "own_core_seconds": 28.0, "cores": cores}
    assert cores_missing(before, after, threads=threads) == pytest.approx(missing)


def test_what_cannot_be_told_is_no_number_of_cores():
    state = {"seconds": 100.0, "busy_core_seconds": None, "own_core_seconds": 20.0, "cores": 2}
    assert cores_missing(state, {**state, "seconds": 110.0}, threads=1) is None


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="only Linux tells what a machine's cores do")
def test_the_work_of_our_children_is_ours():
    before = cpu_state()
    loop = "import time\nwhile time.process_time() < 0.5: pass"
    subprocess.run([sys.executable, "-c", loop], check=True)
    after = cpu_state()
    assert all(after[name] - before[name] > 0.45 for name in ("own_core_seconds", "busy_core_seconds", "seconds"))


def test_what_was_timed_in_turn_is_compared_one_by_one(saved, capsys):
    old = saved("old", {"peers": 60.0}, named={"ours": [1.0] * 8, "timm": [2.0] * 8})
    new = saved("new", {"peers": 60.0}, named={"ours": [1.6] * 8, "timm": [2.0] * 8})
    assert main([old, new]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("SLOWER peers ours: 1.60 ×") and lines[1].startswith("2 compared: 1 slower")


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({"device": "cuda: Other"}, "device was 'cpu: Example' and is 'cuda: Other'"),
        ({"torch": "2.15.0"}, "torch was '2.14.1' and is '2.15.0'"),
        ({"precision": "bf16"}, "precision was 'fp32' and is 'bf16'"),
        ({"threads": 1}, "threads was 2 and is 1"),
    ],
)
def test_other_conditions_are_refused_in_one_line_unless_allowed(saved, capsys, facts, line):
    old, new = saved("old", TIMES), saved("new", TIMES, **facts)
    assert main([old, new]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith(line) and said.err.count("\n") == 1
    assert main([old, new, "--allow-different"]) == 0


def test_another_yardstick_is_refused_even_so(saved, capsys):
    new = saved("new", TIMES, yardstick="three parts")
    assert main([saved("old", TIMES), new, "--allow-different"]) == 2
    assert capsys.readouterr().err.startswith("yardstick was 'two parts' and is 'three parts'")


def test_files_that_are_no_saved_run_are_refused_in_one_line(saved, tmp_path, capsys):
    old = saved("old", TIMES)
    (tmp_path / "text.json").write_text("{]")
    (tmp_path / "other.json").write_text('{"benchmarks": [], "machine_info": {}}')
    for name, reason in (("none", "cannot be read"), ("text", "is not what"), ("other", "has no yardstick")):
        assert main([old, str(tmp_path / f"{name}.json")]) == 2
        error = capsys.readouterr().err
        assert reason in error and name in error and error.count("\n") == 1
    assert main([old, saved("apart", {"other": 1.0})]) == 2
    assert main([old, old, "--bound", "0.9"]) == 2


def test_the_yardstick_is_the_geometric_mean_of_its_parts():
    # One of three parts takes 8 times as long: 8 ** (1/3) = 2, so the same time is half as many yardsticks.
    then = Measured([1.0] * 5, {"a": [1.0] * 5, "b": [1.0] * 5, "c": [1.0] * 5})
    now = Measured([1.0] * 5, {"a": [8.0] * 5, "b": [1.0] * 5, "c": [1.0] * 5})
    found = change("x", then, now)
    assert found.ratio == pytest.approx(0.5) and found.interval == pytest.approx((0.5, 0.5))


def test_the_interval_covers_the_true_ratio_as_often_as_it_says():
    generator = np.random.default_rng(0)

    def measured(scale: float) -> Measured:
        return Measured(scale * generator.lognormal(sigma=0.3, size=31), {"a": generator.lognormal(sigma=0.2, size=10)})

    intervals = [change("x", measured(1.0), measured(1.5)).interval for _ in range(200)]
    assert 0.9 < np.mean([low <= 1.5 <= high for low, high in intervals]) <= 0.995


@pytest.mark.parametrize(
    ("field", "kinds"),
    [
        ("pool", get_args(Pool)[0]),
        ("stem", get_args(Stem)[0]),
        ("head", get_args(Head)[0]),
        ("activation", get_args(Activation)[0]),
        ("final_norm", FinalNorm),
    ],
)
def test_every_kind_is_benchmarked(field, kinds):
    assert {getattr(config, field) for config in factors.factors().values()} == set(get_args(kinds))


def test_every_position_at_every_site_is_benchmarked():
    places = {(config.position, config.position_site) for config in factors.factors().values()}
    assert places == {(position, site) for position, sites in POSITION_SITES.items() for site in sites}


def test_every_factor_differs_from_the_baseline_and_no_two_are_the_same():
    configs = factors.factors()
    assert configs.pop("baseline") == factors.BASELINE
    assert factors.BASELINE not in configs.values() and len(set(configs.values())) == len(configs)
    changed = {f for config in configs.values() for f in ViTConfig.model_fields if _differs(config, f)}
    assert changed == set(ViTConfig.model_fields) - factors.SHAPE - factors.CHANGES_NO_WORK - factors.ONE_KIND


def _differs(config: ViTConfig, field: str) -> bool:
    return getattr(config, field) != getattr(factors.BASELINE, field)


def test_a_number_without_a_value_to_be_timed_at_is_refused_by_name(monkeypatch):
    monkeypatch.delitem(factors.NUMBERS, "num_registers")
    with pytest.raises(TypeError, match="num_registers has no value"):
        factors.factors()


def test_a_run_saves_samples_and_yardstick_and_no_host_name(tmp_path):
    path, root = tmp_path / "run.json", Path(__file__).parents[1]
    options = ["--seconds=0.01", f"--benchmark-json={path}", "-k", "decoding or appending"]
    pytest_of_benchmarks = [sys.executable, "-m", "pytest", "benchmarks", *options]
    # Within a worker of pytest-xdist, pytest-benchmark would measure nothing.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    subprocess.run(pytest_of_benchmarks, cwd=root, check=True, capture_output=True, env=environment)
    run = read_run(path)
    assert set(run.benchmarks) == {
        "test_data.py::test_decoding_one_photograph",
        "test_records.py::test_appending_a_record",
    }
    for measured in run.benchmarks.values():
        assert min(measured.samples) > 0 and len(measured.samples) >= 8
        assert {part: len(samples) for part, samples in measured.yardstick.items()} == {
            "matmul": 10,
            "copy": 10,
            "python": 10,
        }
    machine = json.loads(path.read_text())["machine_info"]
    assert "node" not in machine and platform.node() not in machine.values()
    assert [change.ratio for change in compare(run, run).all] == [1.0, 1.0]
