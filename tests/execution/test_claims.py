"""Is every run done once, by one process, however many share the results, and whichever of them dies?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from vitbench.execution import claims as claims_module
from vitbench.execution.arrivals import Arrivals
from vitbench.execution.claims import Claims, JobQueue, SharedWork
from vitbench.records import RecordStore

RUN = "0123456789abcdef"
needs_proc = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the dead through /proc")

CLAIMING = """
import sys, time
from pathlib import Path
from vitbench.execution.claims import Claims
root = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
with Claims(root) as claims:
    for name in (f"{i:016x}" for i in range(16)):
        if not (root / f"{name}.done").exists() and claims.take(name):
            if not (root / f"{name}.done").exists():
                print(name, flush=True)
                time.sleep(0.01)
                (root / f"{name}.done").touch()
            claims.release(name)
"""

HOLDING = """
import os, sys, time
from pathlib import Path
from vitbench.execution.claims import Claims
with Claims(Path(sys.argv[1])) as claims:
    assert claims.take(sys.argv[2])
    if len(sys.argv) > 3:
        claims.share(sys.argv[2], int(sys.argv[3]))
    print("ready", flush=True)
    time.sleep(60)
"""


def started(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    return child


@pytest.fixture
def holder(tmp_path):
    """Starts a process that claims `RUN`, and for another process where one is named; it is killed in the end."""
    children = []

    def start(*process: int) -> subprocess.Popen[str]:
        children.append(started(HOLDING, tmp_path, RUN, *process))
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.communicate()


@pytest.fixture
def short_lease(monkeypatch):
    monkeypatch.setattr(claims_module, "LEASE_SECONDS", 0.6)
    monkeypatch.setattr(claims_module, "POLL_SECONDS", 0.02)


def claim_of_another_machine(root: Path) -> Path:
    path = root / "claims" / RUN
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"token": "theirs", "machine": "another", "processes": [1]}))
    return path


def test_of_several_processes_one_gets_each_claim_and_nothing_is_left_behind(tmp_path):
    children = [started(CLAIMING, tmp_path) for _ in range(4)]
    taken = Counter(name for child in children for name in child.communicate("go\n", timeout=60)[0].split())
    assert taken == {f"{i:016x}": 1 for i in range(16)}
    assert not (tmp_path / "claims").exists()


@needs_proc
def test_the_claim_of_a_process_that_was_killed_is_free_at_once(tmp_path, holder):
    child = holder()
    with Claims(tmp_path) as claims:
        assert not claims.take(RUN)
        child.kill()  # and not waited for: a zombie is dead
        while b"Z" not in Path(f"/proc/{child.pid}/stat").read_bytes().rpartition(b")")[2][:3]:
            time.sleep(0.01)
        assert claims.take(RUN)
    assert not (tmp_path / "claims").exists()


@needs_proc
def test_a_claim_outlives_its_process_as_long_as_the_worker_that_computes_the_run(tmp_path, holder):
    worker = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    child = holder(worker.pid)
    child.kill()
    child.wait()
    with Claims(tmp_path) as claims:
        assert not claims.take(RUN)  # it may be writing the checkpoint from which others go on
        worker.communicate(b"\n")
        assert claims.take(RUN)


@needs_proc
def test_what_killed_processes_left_of_runs_that_nobody_wants_is_removed(tmp_path, holder):
    child = holder()
    child.kill()
    child.wait()
    with Claims(tmp_path) as claims:
        assert claims.take("another run")
    assert not (tmp_path / "claims").exists()


@pytest.mark.parametrize("age", [-1e6, 0, 1e6])
def test_a_claim_of_another_machine_holds_for_a_lease_whatever_its_clock_says(tmp_path, short_lease, age):
    path = claim_of_another_machine(tmp_path)
    os.utime(path, (time.time() - age,) * 2)
    with Claims(tmp_path) as claims:
        start = time.monotonic()
        assert not claims.take(RUN)
        with claims.held(RUN):
            assert time.monotonic() - start >= claims_module.LEASE_SECONDS


def test_a_claim_that_is_renewed_is_never_taken_over(tmp_path, short_lease):
    ours, theirs = Claims(tmp_path), Claims(tmp_path)
    with ours, theirs:
        assert ours.take(RUN, by_process=False)
        end = time.monotonic() + 3 * claims_module.LEASE_SECONDS
        while time.monotonic() < end:
            assert not theirs.take(RUN)
            time.sleep(0.02)
        ours.release(RUN)
        assert theirs.take(RUN)


def test_time_in_which_nobody_could_look_does_not_count(tmp_path, monkeypatch):
    """A server that was down for an hour: the holder could not renew, nor this process see it."""
    now = [0.0]
    monkeypatch.setattr(claims_module.time, "monotonic", lambda: now[0])
    claim_of_another_machine(tmp_path)
    with Claims(tmp_path) as claims:
        for now[0] in (0.0, 3600.0, 3610.0, 3620.0, 3630.0, 3640.0):
            assert not claims.take(RUN)
        now[0] = 3650.0
        assert claims.take(RUN)


def test_whoever_lost_a_claim_knows_and_leaves_the_others_alone(tmp_path):
    with Claims(tmp_path) as claims:
        assert claims.take(RUN) and claims.holds(RUN) and not claims.is_taken_by_another(RUN)
        path = claim_of_another_machine(tmp_path)  # it was stopped for longer than a lease
        assert not claims.holds(RUN) and claims.is_taken_by_another(RUN)
        claims.release(RUN)
    assert path.exists()


@pytest.mark.parametrize("content", ["", "[]", "{", '{"processes": 3}', '{"machine": 1, "processes": ["x"]}'])
def test_a_claim_that_cannot_be_read_holds_for_a_lease_as_any(tmp_path, short_lease, content):
    claim_of_another_machine(tmp_path).write_text(content)
    with Claims(tmp_path) as claims:
        assert not claims.take(RUN)
        with claims.held(RUN):
            pass


def test_results_that_cannot_be_written_are_told_with_the_remedy(tmp_path):
    (tmp_path / "claims").write_text("a file")
    with Claims(tmp_path) as claims, pytest.raises(ValueError, match=r"cannot be written .* give another --results"):
        claims.take(RUN)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on a file's size")
def test_a_claim_that_cannot_be_shared_for_want_of_space_is_still_held(tmp_path):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with Claims(tmp_path) as claims:
        assert claims.take(RUN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8, before[1]))
        try:
            claims.share(RUN, os.getpid())
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, ignored)
        assert claims.holds(RUN) and not Claims(tmp_path).take(RUN)
        assert [path.name for path in (tmp_path / "claims").iterdir()] == [RUN]
        claims.share(RUN, 12345)
        assert json.loads((tmp_path / "claims" / RUN).read_text())["processes"] == [os.getpid(), 12345]
    assert not (tmp_path / "claims").exists()


def test_the_lock_of_claims_is_not_that_of_the_records_of_a_study_called_claims(tmp_path, made_up):
    record = made_up(study="claims")
    with Claims(tmp_path) as claims, FileLock(tmp_path / "records" / ".claims.lock", timeout=0):
        assert claims.take(RUN)
    RecordStore(tmp_path).append(record)
    assert RecordStore(tmp_path).read("claims") == [record]


# Queues of jobs


@dataclass
class Recorded:
    """Stands for `Arrivals`."""

    knows: Callable[[str], bool]
    look: Callable[[], None] = lambda: None


def test_what_others_have_claimed_is_left_to_them_and_waited_for_only_in_the_end(make_job, tmp_path, short_lease):
    jobs = [make_job(seed=seed) for seed in range(3)]
    recorded, said, settled = set(), [], []
    theirs = Claims(tmp_path)
    assert theirs.take(jobs[0].run.run_id)

    def other_ends() -> None:
        recorded.add(jobs[0].run.run_id)
        theirs.release(jobs[0].run.run_id)

    with Claims(tmp_path) as claims:
        queue = JobQueue(
            jobs,
            SharedWork(claims, Recorded(recorded.__contains__)),
            on_settled=settled.append,
            on_wait=lambda left: (said.append(left), threading.Timer(0.1, other_ends).start()),
        )
        order = []
        for job in queue:
            order.append(job.run.config.seed)
            recorded.add(job.run.run_id)
            queue.done(job)
    assert order == [1, 2] and said == [1] and settled == [jobs[0]]


def test_a_run_that_was_recorded_just_before_it_could_be_claimed_is_not_run(make_job, tmp_path):
    job = make_job()
    answers = iter([False, True])
    with Claims(tmp_path) as claims:
        queue = JobQueue([job], SharedWork(claims, Recorded(lambda _: next(answers))))
        assert queue.take() is None and not queue and not claims.holds(job.run.run_id)


def test_however_many_jobs_wait_a_take_looks_once_at_records_and_once_a_while_at_claims(
    make_job, tmp_path, monkeypatch
):
    monkeypatch.setattr(claims_module, "POLL_SECONDS", 3600.0)
    jobs = [make_job(seed=seed) for seed in range(20)]
    looks, tries, recorded = [], [], set()
    with Claims(tmp_path) as claims:
        claims.take = lambda run_id, **_: tries.append(run_id)  # others have them all
        queue = JobQueue(jobs, SharedWork(claims, Recorded(recorded.__contains__, look=lambda: looks.append(1))))
        for _ in range(5):
            assert queue.take() is None
        assert len(looks) == 5 and tries == [job.run.run_id for job in jobs]
        recorded.update(tries)
        assert queue.take() is None and not queue  # what was recorded is gone at once


def test_a_record_file_that_vanishes_or_may_not_be_read_stops_nobody(tmp_path, made_up, monkeypatch):
    store = RecordStore(tmp_path)
    store.append(made_up(seed=0))
    store.path("gone").symlink_to(tmp_path / "nowhere")
    arrivals, open_file = Arrivals(store), Path.open

    def refuse(path, *arguments, **options):
        if path.name == "pooling.jsonl":
            raise PermissionError(13, "Permission denied")
        return open_file(path, *arguments, **options)

    late, other = made_up(seed=1), made_up(study="position", seed=2)
    store.append(late)
    store.append(other)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        assert arrivals.has(other.run_id) and not arrivals.has(late.run_id)
        assert Arrivals(store).failed() == set()
    assert arrivals.has(late.run_id)


# What others record


def test_only_what_is_appended_later_arrives(tmp_path, made_up):
    store = RecordStore(tmp_path)
    first, second = made_up(seed=0), made_up(seed=1, outcome="failed")
    store.append(first)
    arrivals = Arrivals(store)
    assert not arrivals.has(first.run_id)
    store.append(second)
    store.append(made_up(study="position", seed=0))
    assert arrivals.has(first.run_id)
    assert arrivals.has(second.run_id) and arrivals.failed() == {("pooling", second.run_id)}
    arrivals.forget()
    assert not arrivals.has(second.run_id) and arrivals.failed() == {("pooling", second.run_id)}
    store.append(made_up(seed=1))
    assert arrivals.has(second.run_id) and arrivals.failed() == set()


@pytest.mark.parametrize("torn", ["", '{"schema": 1, "half', "x" * 200_000])
def test_a_line_that_is_being_written_arrives_once_it_is_whole(tmp_path, made_up, torn):
    store = RecordStore(tmp_path)
    store.append(made_up(seed=0))
    with store.path("pooling").open("a") as file:
        file.write(torn)  # of a writer that was killed: the next one moves it aside
    arrivals = Arrivals(store)
    record = made_up(seed=1)
    store.append(record)
    line = store.path("pooling").read_bytes()
    store.path("pooling").write_bytes(line[:-1])
    assert not arrivals.has(record.run_id)
    store.path("pooling").write_bytes(line)
    assert arrivals.has(record.run_id)
