"""Does a Ray cluster record what local workers record?"""

from __future__ import annotations

import importlib.util
import signal
import sys

import pytest

from tests.execution.processes import wait_until
from vitbench.execution import cluster
from vitbench.execution.claims import JobQueue
from vitbench.execution.run import execute
from vitbench.records import RecordStore


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (vitbench[ray])")
def test_ray_records_the_same_numbers_as_this_process(process, tmp_path, monkeypatch, make_job):
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray writes a token there
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    child = process(
        *("run", "pooling", "--budget", "smoke", "--seeds", "1", "--learning-rate", "1e-3", "--device", "cpu"),
        *("--precision", "fp32", "--threads", "1", "--train-images", "128", "--executor", "ray", "--jobs", "2"),
        *("--results", tmp_path / "results"),
    )
    wait_until(lambda: child.poll() is not None, seconds=200)
    assert child.returncode == 0, (tmp_path / "stderr").read_text()
    records = RecordStore(tmp_path / "results").read("pooling")
    assert sorted(record.arm for record in records) == ["cls", "gap", "map", "mean_all"]
    for record in records:
        job = make_job(arm=record.arm, model={"pool": record.config.model.pool})
        here = execute(job)
        assert (here.run_id, here.metrics, here.curve, here.correct) == (
            *(record.run_id, record.metrics, record.curve),
            record.correct,
        )


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (vitbench[ray])")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_ends_ray_with_the_status_and_the_line_of_local_workers(process, tmp_path, monkeypatch, number):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    results = tmp_path / "results"
    child = process(
        *("run", "pooling", "--budget", "smoke", "--seeds", "1", "--learning-rate", "1e-3", "--device", "cpu"),
        *("--precision", "fp32", "--threads", "1", "--train-images", "128", "--epochs", "3000", "--executor", "ray"),
        *("--jobs", "1", "--results", results),
    )
    wait_until(lambda: any((results / "claims").glob("*")))
    child.send_signal(number)
    assert child.wait(60) == 128 + number
    lines = [line for line in (tmp_path / "stderr").read_text().splitlines() if " -- " not in line]  # Ray's own
    how = "interrupted" if number is signal.SIGINT else f"ended by {number.name}"
    assert lines == [f"vitbench: {how}; what was finished is recorded, the same command goes on"]
    assert not (results / "claims").exists()


def test_without_ray_the_executor_is_refused_with_the_remedy(make_job, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # importing it is then an ImportError
    with pytest.raises(ValueError, match=r"vitbench\[ray\]"):
        cluster.run_jobs(JobQueue([make_job()]), workers=1, on_gpus=False, on_record=lambda *_: None)
