"""Does a chain of runs, each going on from the weights of another, come to the same end in other processes and when killed?"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys

import pytest

from tests.execution.processes import wait_until
from tests.execution.run_results import records_of
from tests.made_up_studies import SIZES
from vitbench.records import RecordStore


@pytest.fixture
def chain(tmp_path):
    """The command that runs it on two workers, without where to."""
    (tmp_path / "sizes.py").write_text(SIZES)
    return (
        *("run", tmp_path / "sizes.py", "--budget", "smoke", "--batch-size", 128, "--precision", "fp32"),
        *("--seeds", 1, "--device", "cpu", "--threads", 1, "--jobs", 2, "--results"),
    )


@pytest.fixture
def whole(chain, vitbench, tmp_path, monkeypatch):
    """(arm, seed) → what came of it where nothing was interrupted, all in this process."""
    from vitbench.execution import local
    from vitbench.execution.run import execute

    with monkeypatch.context() as patch:
        patch.setattr(local, "run_jobs", lambda jobs, *, on_record, **_: [on_record(job, execute(job)) for job in jobs])
        assert vitbench(*chain, tmp_path / "whole").status == 0
    return ends(tmp_path / "whole")


def ends(results):
    """(arm, seed) → the bits that a run ended with."""
    return {(r.arm, r.seed): (r.weights_sha256, r.correct, r.metrics) for r in RecordStore(results).read("sizes")}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL, nor groups of processes")
def test_a_chain_killed_between_its_runs_goes_on_from_the_weights_that_it_kept(
    chain, whole, vitbench, process, tmp_path
):
    results = tmp_path / "killed"
    store = RecordStore(results)
    for arms in ({"8 px"}, {"12 px", "12 px, on"}):
        child = process(*chain, results)
        wait_until(lambda child=child, arms=arms: child.poll() is not None or arms & records_of(results).keys())
        os.killpg(child.pid, signal.SIGKILL)
        child.wait(60)
    before = len(store.read("sizes"))
    assert 0 < before < len(whole)
    kept = {path: path.stat().st_mtime_ns for path in (results / "checkpoints").glob("*.safetensors")}
    assert vitbench(*chain, results).status == 0
    records = store.read("sizes")
    assert len(records) == len(whole) and ends(results) == whole
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items())


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (vitbench[ray])")
def test_ray_hands_weights_on(chain, whole, process, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray writes a token there
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    child = process(*chain, tmp_path / "ray", "--executor", "ray")
    wait_until(lambda: child.poll() is not None, seconds=200)
    assert child.returncode == 0, (tmp_path / "stderr").read_text()
    assert ends(tmp_path / "ray") == whole
