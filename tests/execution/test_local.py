"""Is every run recorded once, whatever ends it: a bad arm, a worker's death, the parent's, or Ctrl-C?"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.execution.processes import IMPATIENT, group, wait_until
from vitbench.execution import local
from vitbench.execution.claims import JobQueue
from vitbench.execution.run import execute
from vitbench.records import Outcome, RecordStore

SMALL = ("--budget", "smoke", "--device", "cpu", "--precision", "fp32", "--threads", "1", "--train-images", "128")
ONE_RATE = ("--learning-rate", "1e-3")
needs_proc = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the workers through /proc")

STUDY = """
from vitbench.studies import Arm, Study

STUDY = Study(
    question="Does a study go on?",
    source="",
    baseline=Arm("cls"),
    arms=[Arm("beyond memory", width=6144, mlp_ratio=1e6), Arm("gap", pool="gap")],
)
"""


def numbers(records) -> dict[str, tuple]:
    return {record.run_id: (record.arm, record.metrics, record.curve, record.correct) for record in records}


def lines(path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.fixture
def finished():
    """(the callback that keeps records, the records that it kept)."""
    records = []
    return (lambda job, record: records.append(record)), records


def test_the_number_of_jobs_does_not_change_what_is_recorded(vitbench, tmp_path):
    for jobs in ("1", "2"):
        said = vitbench(
            "run", "pooling", *SMALL, *ONE_RATE, "--seeds", "1", "--jobs", jobs, "--results", tmp_path / jobs
        )
        assert said.status == 0 and "pooling: 4 completed" in said.err and "\x1b" not in said.err
    one, two = (RecordStore(tmp_path / jobs).read("pooling") for jobs in ("1", "2"))
    assert len(one) == len(two) == 4
    assert numbers(one) == numbers(two)
    assert {record.environment.workers for record in one} == {1}
    assert {record.environment.workers for record in two} == {2}


def test_a_study_goes_on_past_runs_that_fail_or_diverge(vitbench, tmp_path):
    (tmp_path / "mine.py").write_text(STUDY)
    planned = (
        *(str(tmp_path / "mine.py"), "--budget", "smoke", "--seeds", "1", "--precision", "fp32", "--batch-size", "32"),
        *("--learning-rate", "1e-3", "--learning-rate", "1e6", "--results", tmp_path),
    )
    said = vitbench("run", *planned, "--device", "cpu", "--threads", "1", "--jobs", "1")
    assert said.status == 1
    found = {(r.arm, r.learning_rate): r for r in RecordStore(tmp_path).read("mine")}
    assert {key: record.outcome.value for key, record in found.items()} == {
        ("cls", 1e-3): "completed",
        ("beyond memory", 1e-3): "failed",
        ("gap", 1e-3): "completed",
        ("cls", 1e6): "diverged",
        ("beyond memory", 1e6): "failed",
        ("gap", 1e6): "diverged",
    }
    assert found["beyond memory", 1e-3].reason == "out of memory at batch 32"
    assert "mine, beyond memory, seed 0: failed: out of memory at batch 32" in said.err
    assert "2 failed" in said.out

    runs = json.loads(vitbench("plan", *planned, "--json").out)["runs"]
    assert {run["arm"] for run in runs if not run["done"]} == {"beyond memory"}


@needs_proc
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM], ids=lambda end: end.name)
def test_after_the_parent_is_ended_its_workers_end_and_the_next_call_trains_what_is_missing(
    vitbench, process, tmp_path, end
):
    results = tmp_path / "results"
    path = RecordStore(results).path("pooling")
    request = ("run", "pooling", *SMALL, *ONE_RATE, "--seeds", "3", "--results", results, "--jobs")
    parent = process(*request, 2)
    wait_until(lambda: lines(path) >= 1)
    assert len(group(parent.pid)) >= 2
    parent.send_signal(end)
    assert parent.wait() == {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 128 + signal.SIGTERM}[end]
    wait_until(lambda: not group(parent.pid), seconds=30)

    before = path.read_bytes()
    done = before.count(b"\n")
    assert 1 <= done < 12
    said = vitbench(*request, 1)
    assert said.status == 0 and f"{12 - done} of 12 runs to do" in said.out
    whole = before[: before.rfind(b"\n") + 1]
    assert path.read_bytes().startswith(whole)
    records = RecordStore(results).read("pooling")
    assert len(records) == len({record.run_id for record in records}) == 12
    assert "all 12 runs are recorded" in vitbench(*request, 1).out
    assert lines(path) == 12


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups to interrupt")
def test_ctrl_c_keeps_what_is_finished_and_the_next_call_does_the_rest(vitbench, process, tmp_path):
    results = tmp_path / "results"
    path = RecordStore(results).path("pooling")
    request = ("run", "pooling", *SMALL, *ONE_RATE, "--seeds", "3", "--jobs", "1", "--results", results)
    parent = process(*request)
    wait_until(lambda: lines(path) >= 1)
    os.killpg(parent.pid, signal.SIGINT)
    assert parent.wait(30) == 130
    wait_until(lambda: not group(parent.pid), seconds=30)
    said = (tmp_path / "stderr").read_text()
    assert said == "vitbench: interrupted; what was finished is recorded, the same command goes on\n"

    done = lines(path)
    assert 1 <= done < 12 and path.read_bytes().endswith(b"\n")
    assert f"{12 - done} of 12 runs to do" in vitbench(*request).out
    records = RecordStore(results).read("pooling")
    assert len(records) == len({record.run_id for record in records}) == 12


def is_importing(pid: int) -> bool:
    """Whether a worker has come to pydantic, of which the records are made, and so is yet to come to its first line."""
    try:
        return "pydantic_core" in Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return False


@needs_proc
def test_ctrl_c_while_workers_start_leaves_no_traceback(process, tmp_path):
    parent = process("run", "pooling", *SMALL, *ONE_RATE, "--jobs", "2", "--results", tmp_path / "results")
    wait_until(lambda: any(is_importing(worker) for worker in group(parent.pid)))
    os.killpg(parent.pid, signal.SIGINT)
    assert parent.wait(30) == 130
    wait_until(lambda: not group(parent.pid), seconds=30)
    assert "Traceback" not in (tmp_path / "stderr").read_text()


def test_what_another_worker_had_finished_is_recorded_when_ctrl_c_comes(make_job):
    arms = []

    def on_record(job, _) -> None:
        arms.append(job.run.arm)
        if len(arms) == 1:
            time.sleep(5)  # the other has long been done, and its record lies unread in its pipe
            raise KeyboardInterrupt

    jobs = [make_job(arm="one"), make_job(arm="other")]
    with pytest.raises(KeyboardInterrupt):
        local.run_jobs(JobQueue(jobs), workers=2, devices=["cpu"], on_record=on_record, on_report=lambda *_: None)
    assert sorted(arms) == ["one", "other"]
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("last", [False, True], ids=["while it goes on", "while it ends"])
@pytest.mark.parametrize(("answer", "is_left"), [(False, True), (True, False), (None, False)])
def test_the_checkpoint_of_a_run_that_another_process_took_over_is_left_to_that_one(
    make_job, tmp_path, answer, is_left, last
):
    job = replace(make_job(), checkpoints=tmp_path)
    job.checkpoint.write_bytes(b"theirs")
    ours, theirs = multiprocessing.Pipe()
    worker = local._Worker(0, multiprocessing.get_context("spawn").Process(), ours, job)
    theirs.send(job.failed("it does not matter which", started="2026-01-01T00:00:00+00:00").to_json())
    if last:
        local._receive_last([worker], lambda *_: answer)
    else:
        local._receive(worker, lambda *_: answer, lambda *_: None)
    assert job.checkpoint.exists() == is_left


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_worker_that_is_killed_takes_only_its_own_run_with_it(make_job, finished):
    on_record, records = finished
    jobs = [make_job(arm="victim", train={"epochs": 10_000}), make_job(arm="next")]

    def kill_its_worker(job, report) -> None:
        if job.run.arm == "victim":
            (worker,) = multiprocessing.active_children()
            os.kill(worker.pid, signal.SIGKILL)

    local.run_jobs(JobQueue(jobs), workers=1, devices=["cpu"], on_record=on_record, on_report=kill_its_worker)
    victim, following = records
    assert (victim.arm, victim.outcome) == ("victim", Outcome.FAILED)
    assert victim.reason == "worker process ended by SIGKILL, perhaps out of memory"
    assert (following.arm, following.outcome) == ("next", Outcome.COMPLETED)
    assert numbers([following]) == numbers([execute(jobs[1])])
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("sent", [b"", b"\x00\x00\x01\x00half a message"], ids=["between two runs", "half-way through"])
def test_a_worker_that_dies_over_its_pipe_costs_one_record_and_not_the_study(make_job, finished, sent):
    on_record, records = finished
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=os._exit, args=(3,))
    process.start()
    worker = local._Worker(0, process, ours)
    if not sent:
        theirs.close()
    worker.give(make_job(), ["cpu"])
    if sent:
        theirs.recv()
        os.write(theirs.fileno(), sent)  # the length of a message, 256 bytes, and some of it
        theirs.close()
    local._receive(worker, on_record, lambda *_: None)
    ours.close()
    assert worker.job is None
    assert [(record.outcome, record.reason) for record in records] == [
        (Outcome.FAILED, "worker process ended with exit status 3")
    ]


def test_an_error_of_the_parent_ends_its_busy_workers(make_job):
    def on_report(job, report) -> None:
        raise ValueError("the disk is full")

    jobs = [make_job(train={"epochs": 10_000})]
    with pytest.raises(ValueError, match="the disk is full"):
        local.run_jobs(JobQueue(jobs), workers=1, devices=["cpu"], on_record=lambda *_: None, on_report=on_report)
    assert multiprocessing.active_children() == []


def test_devices_are_dealt_round_the_workers(make_job):
    dealt = []
    for index in range(4):
        ours, theirs = multiprocessing.Pipe()
        with ours, theirs:
            worker = local._Worker(index, multiprocessing.get_context("spawn").Process(), ours)
            worker.give(make_job(), ["cuda:0", "cuda:1"])
            dealt.append(theirs.recv().device)
    assert dealt == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]


@needs_proc
@pytest.mark.slow
def test_a_study_on_two_workers_killed_at_random_moments_ends_as_the_uninterrupted_one(vitbench, process, tmp_path):
    request = ("run", "pooling", *SMALL, *ONE_RATE, "--seeds", "1", "--epochs", "120.5", "--jobs", "2", "--results")
    assert vitbench(*request, tmp_path / "whole").status == 0
    whole = RecordStore(tmp_path / "whole").read("pooling")

    script = tmp_path / "impatient.py"
    script.write_text(IMPATIENT)
    results = tmp_path / "killed"
    moments = random.Random(7)
    for victim, number in (
        ("parent", signal.SIGKILL),
        ("parent", signal.SIGTERM),
        ("all", signal.SIGINT),
        ("worker", signal.SIGKILL),
    ):
        before = newest(results / "checkpoints")
        parent = process(*request, results, script=script)
        wait_until(lambda before=before: newest(results / "checkpoints") > before)
        time.sleep(moments.uniform(0, 0.5))
        assert parent.poll() is None, (tmp_path / "stderr").read_text()
        if victim == "all":
            os.killpg(parent.pid, number)
        elif victim == "parent":
            parent.send_signal(number)
        else:
            os.kill(moments.choice(workers_of(parent.pid)), number)
        parent.wait(120)  # after a worker's death the study goes on to its end
        wait_until(lambda parent=parent: not group(parent.pid))
    assert vitbench(*request, results).status == 0
    records = [record for record in RecordStore(results).read("pooling") if record.outcome is Outcome.COMPLETED]
    assert numbers(records) == numbers(whole) and len(records) == len(whole) == 4
    assert {r.run_id: r.weights_sha256 for r in records} == {r.run_id: r.weights_sha256 for r in whole}
    assert sum(record.cost.resumed for record in records) >= 4
    assert list((results / "checkpoints").iterdir()) == []


def newest(checkpoints: Path) -> int:
    """When one was last written, in nanoseconds."""
    return max((path.stat().st_mtime_ns for path in checkpoints.glob("*.pt")), default=0)


def workers_of(parent: int) -> list[int]:
    """Its children that train: multiprocessing has a resource tracker beside them."""
    return [pid for pid in group(parent) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
