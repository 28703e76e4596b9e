"""Do commands in several terminals share their runs, and is nothing lost where one is killed or its terminal closed?"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from tests.execution.processes import IMPATIENT, group, wait_until
from tests.execution.run_results import bits
from tests.made_up_studies import TWO_POOLS
from vitbench.device import open_device
from vitbench.execution import claims as claims_module
from vitbench.execution.claims import Claims
from vitbench.execution.preparation import DataReader, make_job
from vitbench.kernels import native
from vitbench.records import Outcome, RecordStore

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither these signals nor terminals")

SMALL = (
    *("--budget", "smoke", "--device", "cpu", "--precision", "fp32", "--threads", "1", "--train-images", "128"),
    *("--learning-rate", "1e-3", "--jobs", "1"),
)

ALONE = """
from vitbench.execution import local
from vitbench.execution.run import execute

def run_jobs(queue, *, on_record, **_):
    for job in queue:
        on_record(job, execute(job))
        job.remove_checkpoint()
        queue.done(job)

local.run_jobs = run_jobs
if __name__ == "__main__":
    from vitbench.cli import main
    main()
"""
"""A script that is `vitbench`, but trains in its own process: half as many to start."""


@pytest.fixture
def in_this_process(monkeypatch):
    """Runs train here, as in the script above."""
    from vitbench.execution import local
    from vitbench.execution.run import execute

    def run_jobs(queue, *, on_record, **_):
        for job in queue:
            on_record(job, execute(job))
            job.remove_checkpoint()
            queue.done(job)

    monkeypatch.setattr(local, "run_jobs", run_jobs)


def records_of(results: Path, study: str = "pooling") -> int:
    path = RecordStore(results).path(study)
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_four_commands_do_sixteen_runs_once_each_though_one_of_them_is_killed(process, tmp_path):
    script, results = tmp_path / "alone.py", tmp_path / "results"
    script.write_text(ALONE)
    native.state()  # compiled once, and not by all of them
    drivers = [process("run", "pooling", *SMALL, "--seeds", 4, "--results", results, script=script) for _ in range(4)]
    wait_until(lambda: records_of(results) >= 2)
    victim = claimant(results)
    os.kill(victim, signal.SIGKILL)
    statuses = {driver.pid: driver.wait(120) for driver in drivers}
    assert statuses == {driver.pid: -signal.SIGKILL if driver.pid == victim else 0 for driver in drivers}
    run_ids = [record.run_id for record in RecordStore(results).read("pooling")]
    assert len(run_ids) == len(set(run_ids)) == 16
    assert not (results / "claims").exists()


def claimant(results: Path) -> int:
    """The process of one of the claims."""
    while True:
        for path in (results / "claims").glob("*"):
            try:
                return int(json.loads(path.read_text())["processes"][0])
            except (OSError, ValueError):  # just released, or being written
                continue


def test_a_run_that_fails_in_one_command_is_not_tried_again_by_those_beside_it(
    vitbench, tmp_path, made_up, in_this_process, monkeypatch
):
    """Another process records a failure and a result while this one reads its data."""
    read, request = DataReader.read, ("run", "pooling", *SMALL, "--seeds", 1, "--results", tmp_path)
    assert vitbench(*request).status == 0
    store = RecordStore(tmp_path)
    done, failed, *_ = store.read("pooling")
    store.path("pooling").unlink()

    def others_record(reader, runs):
        monkeypatch.setattr(DataReader, "read", read)
        store.append(done)
        store.append(failed.model_copy(update={"outcome": Outcome.FAILED, "reason": "theirs"}))
        return read(reader, runs)

    monkeypatch.setattr(DataReader, "read", others_record)
    said = vitbench(*request)
    assert said.status == 1 and "2 by other processes, 1 failed" in said.out
    assert sorted(record.arm for record in store.read("pooling")) == ["cls", "gap", "map", "mean_all"]


def test_a_run_of_two_studies_is_claimed_once_and_recorded_in_both(vitbench, tmp_path, in_this_process, monkeypatch):
    """While one study's command trains it, the other's waits, and takes its record over."""
    monkeypatch.setattr(claims_module, "POLL_SECONDS", 0.02)
    for name in ("first", "second"):
        (tmp_path / f"{name}.py").write_text(TWO_POOLS)
    request = (*SMALL, "--seeds", 1, "--results", tmp_path)
    assert vitbench("run", tmp_path / "first.py", *request).status == 0
    store = RecordStore(tmp_path)
    records = store.read("first")
    store.path("first").unlink()
    theirs = Claims(tmp_path)
    for record in records:
        assert theirs.take(record.run_id)

    def other_ends() -> None:
        for record in records:
            store.append(record)
            theirs.release(record.run_id)

    from vitbench.execution import local

    def run_jobs(queue, **_) -> None:
        assert queue.take() is None
        if queue:
            other_ends()
            assert len(queue) == 2 and queue.take() is None and not queue

    monkeypatch.setattr(local, "run_jobs", run_jobs)
    said = vitbench("run", tmp_path / "second.py", *request)
    assert said.status == 0 and "2 runs recorded" in said.out and "by other processes" not in said.out
    assert [(r.run_id, r.taken_from) for r in store.read("second")] == [(r.run_id, "first") for r in records]


def test_train_waits_for_the_same_run_in_another_terminal_and_takes_its_record(vitbench, tmp_path, monkeypatch):
    monkeypatch.setattr(claims_module, "POLL_SECONDS", 0.02)
    request = ("train", "Nano/4", "--epochs", 1, "--batch-size", 64, "--train-images", 128, "--device", "cpu", "--json")
    vitbench(*request, "--results", tmp_path / "first")
    (record,) = RecordStore(tmp_path / "first").read("train")
    results = tmp_path / "results"
    theirs = Claims(results)
    assert theirs.take(record.run_id)

    def other_ends() -> None:
        shutil.copytree(tmp_path / "first" / "checkpoints", results / "checkpoints")
        RecordStore(results).append(record)
        theirs.release(record.run_id)

    threading.Timer(1.0, other_ends).start()
    said = vitbench(*request, "--results", results)
    assert json.loads(said.out) == json.loads(record.to_json())
    assert said.err == f"vitbench: run {record.run_id} is claimed by another process: waiting for it\n"
    assert RecordStore(results).read("train") == [record]


def test_train_does_not_take_another_terminals_failure_for_its_run(vitbench, tmp_path, monkeypatch):
    request = ("train", "Nano/4", "--epochs", 1, "--batch-size", 64, "--train-images", 128, "--device", "cpu", "--json")
    read, store = DataReader.read, RecordStore(tmp_path)

    def other_fails(reader, runs):
        ((_, run),) = runs
        device = open_device("cpu")
        job = make_job("digits", run, device=device, data_root=None, threads=1, workers=1, results=tmp_path)
        store.append(job.failed("out of memory", started="2026-01-01T00:00:00+00:00"))
        return read(reader, runs)

    monkeypatch.setattr(DataReader, "read", other_fails)
    said = vitbench(*request, "--results", tmp_path)
    assert said.status == 0 and json.loads(said.out)["outcome"] == "completed"
    assert [record.outcome for record in store.read("train")] == [Outcome.FAILED, Outcome.COMPLETED]


def test_whoever_waits_for_another_to_measure_rates_says_so(vitbench, tmp_path, monkeypatch):
    from vitbench.execution import rates

    def settle(*_, **__):
        raise ValueError("it is our turn")

    monkeypatch.setattr(rates, "settle", settle)
    monkeypatch.setattr(claims_module, "POLL_SECONDS", 0.02)
    theirs = Claims(tmp_path)
    assert theirs.take("rates")
    threading.Timer(1.0, theirs.release, ["rates"]).start()
    said = vitbench("run", "pooling", *SMALL, "--seeds", 1, "--match", "time", "--results", tmp_path)
    assert said.status == 2
    assert said.err.splitlines()[-2:] == [
        "vitbench: another process measures images/s: waiting for it",
        "vitbench: it is our turn",
    ]


WAITING_FOR_THE_LOCK = """
import pathlib, sys
import torch
from vitbench.records import store
append_line, at_the_lock = store.append_line, pathlib.Path(sys.argv.pop())

def told(*arguments):
    torch.set_num_threads(4)
    torch.ones(512, 512) @ torch.ones(512, 512)  # there are torch's threads, which no mask of ours reaches
    at_the_lock.touch()
    append_line(*arguments)

store.append_line = told
"""


def test_a_finished_record_that_waits_for_the_file_lock_survives_ctrl_c(process, tmp_path):
    script, results, at_the_lock = tmp_path / "told.py", tmp_path / "results", tmp_path / "at the lock"
    script.write_text(WAITING_FOR_THE_LOCK + IMPATIENT)
    (results / "records").mkdir(parents=True)
    with FileLock(results / "records" / ".pooling.lock"):
        child = process("run", "pooling", *SMALL, "--seeds", 4, "--results", results, at_the_lock, script=script)
        wait_until(at_the_lock.exists)
        for _ in range(2):
            child.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.5)
    assert child.wait(60) == 130
    assert records_of(results) == 1 and not (results / "claims").exists()


def test_a_run_whose_terminal_is_closed_saves_its_state_and_the_same_command_goes_on(
    vitbench, tmp_path, in_this_process
):
    import fcntl
    import termios

    script, results = tmp_path / "impatient.py", tmp_path / "results"
    script.write_text(IMPATIENT)
    (tmp_path / "two.py").write_text(TWO_POOLS)
    request = ("run", str(tmp_path / "two.py"), *SMALL, "--seeds", "1", "--epochs", "60.5", "--results")
    terminal, theirs = os.openpty()
    os.set_blocking(terminal, False)
    child = subprocess.Popen(
        [sys.executable, str(script), *request, str(results)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)

    def is_training() -> bool:
        with contextlib.suppress(BlockingIOError):
            os.read(terminal, 2**16)  # the live display would fill it
        return child.poll() is not None or any((results / "checkpoints").glob("*.pt"))

    wait_until(is_training)
    os.close(terminal)
    assert child.wait(60) == 128 + signal.SIGHUP
    wait_until(lambda: not group(child.pid))
    assert not (results / "claims").exists()
    (checkpoint,) = (results / "checkpoints").glob("*.pt")

    assert vitbench(*request, results).status == 0
    assert vitbench(*request, tmp_path / "whole").status == 0
    resumed, whole = ({r.run_id: r for r in RecordStore(root).read("two")} for root in (results, tmp_path / "whole"))
    assert {run_id: bits(record) for run_id, record in resumed.items()} == {i: bits(r) for i, r in whole.items()}
    assert resumed[checkpoint.stem].cost.resumed == 1
