"""After every fault the store is sound, and the next call completes it to the bits of a night without any.

What was seen goes to the file that `$VITBENCH_FAULTS_SEEN` names, of which docs/faults.md is made.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.execution.processes import IMPATIENT, group
from tests.faults.sweep import NUM_RUNS, Night, waited, workers_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the processes through /proc"),
]
TURNS = 3
"""How often chance strikes, before the call that must complete the study."""
Strike = Callable[[Night], None]


@dataclass(frozen=True)
class Fault:
    """`what` happens, and what follows, `then`: cells of the table. `strike` makes it happen in a call of its own."""

    what: str
    then: str
    strike: Strike
    turns: int = 1
    script_text: str = IMPATIENT
    diverges: bool = False
    """Whether the study's result is another one: runs that diverged are results, and are not tried again."""


def killed(whom: Callable[[subprocess.Popen[str]], list[int]], number: signal.Signals) -> Strike:
    def strike(night: Night) -> None:
        call = night.start()
        night.wait_for_progress(call)
        for pid in whom(call):
            try:
                os.kill(pid, number)
            except ProcessLookupError:  # its run was over
                continue
        night.end(call)

    return strike


def one_worker(night: Night) -> None:
    call = night.start()
    night.wait_for_progress(call)
    waited(lambda: workers_of(call.pid) or call.poll() is not None)
    for victim in night.moments.sample(workers_of(call.pid), k=min(1, len(workers_of(call.pid)))):
        os.kill(victim, signal.SIGKILL)
    assert night.end(call) == (1 if any("SIGKILL" in reason for reason in night.reasons()) else 0)


def stopped_for_a_while(night: Night) -> None:
    """As a laptop that sleeps: every process stands still, then goes on."""
    call = night.start()
    night.wait_for_progress(call)
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in (call.pid, *group(call.pid)):
            os.kill(pid, number)
    assert night.end(call) == 0


def asked_for(what: str, status: int) -> Strike:
    """A user's module does it in every run of its arm."""

    def strike(night: Night) -> None:
        night.fault.write_text(what)
        assert night.end(night.start()) == status
        night.fault.unlink()

    return strike


def out_of_memory(night: Night) -> None:
    asked_for("memory", 1)(night)
    assert night.reasons() == ["out of memory at batch 64"] * 2
    assert len(night.completed()) == NUM_RUNS - 2


def not_a_number(night: Night) -> None:
    asked_for("NaN", 0)(night)
    assert len(night.reasons()) == 2 and all("loss is nan" in reason for reason in night.reasons())


def data_cut_off(night: Night) -> None:
    call = night.start()
    night.wait_for_progress(call)
    whole = night.data.read_bytes()
    times = night.data.stat()
    night.data.write_bytes(whole[: len(whole) // 2])
    night.end(call)
    refused = night.start()
    assert night.end(refused) in (0, 1, 2) and "Traceback" not in night.said.read_text()
    night.data.write_bytes(whole)
    os.utime(night.data, ns=(times.st_atime_ns, times.st_mtime_ns))


def full_disk(night: Night) -> None:
    """A file system of half a megabyte; where none may be made, a limit on the length of files."""
    night.results.mkdir(exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(night.results)], capture_output=True, check=False
    )
    call = night.start()
    if mounted.returncode:
        waited(lambda: night.lines() or call.poll() is not None)
        longest = sum(map(len, night.lines())) + 100
        for pid in (call.pid, *workers_of(call.pid)):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (longest, longest))
    status = night.end(call)
    said = night.said.read_text()
    assert "Traceback" not in said
    if not mounted.returncode:
        kept = night.folder / "kept"
        shutil.copytree(night.results, kept)
        subprocess.run(["umount", str(night.results)], check=True)
        shutil.rmtree(night.results)
        kept.rename(night.results)
    assert status in (1, 2), said


JUMPING = """
import time
from vitbench import machine, records
from vitbench.execution import job, run
began, now, utc_now = time.monotonic(), time.time, machine.utc_now
def jumped():
    return -86_400 if time.monotonic() - began > 8 else 86_400
time.time = lambda: now() + jumped()
def utc_now():
    from datetime import UTC, datetime, timedelta
    return (datetime.now(UTC) + timedelta(seconds=jumped())).isoformat(timespec="milliseconds")
machine.utc_now = job.utc_now = run.utc_now = utc_now
"""


def clock_jumps(night: Night) -> None:
    call = night.start()
    night.wait_for_progress(call)
    os.kill(call.pid, signal.SIGKILL)
    night.end(call)
    again = night.start()
    assert night.end(again) == 0, night.said.read_text()


def last_line_torn(night: Night) -> None:
    """As a loss of power may leave it."""
    call = night.start()
    waited(lambda: night.lines() or call.poll() is not None)
    killed_all(call)
    night.end(call)
    path = next((night.results / "records").glob("*.jsonl"))
    content = path.read_bytes()
    path.write_bytes(content[: -night.moments.randrange(1, len(content.splitlines()[-1]))])


def killed_all(call: subprocess.Popen[str]) -> None:
    for pid in (call.pid, *group(call.pid)):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def checkpoints_damaged(night: Night) -> None:
    call = night.start()
    waited(lambda: list((night.results / "checkpoints").glob("*.pt")) or call.poll() is not None)
    killed_all(call)
    night.end(call)
    for path in (night.results / "checkpoints").glob("*.pt"):
        content = bytearray(path.read_bytes())
        content[night.moments.randrange(len(content))] ^= 1 << night.moments.randrange(8)
        path.write_bytes(content)


FAULTS = {
    "driver": Fault(
        "the command is killed (SIGKILL)",
        "its workers write their checkpoints and end",
        killed(lambda call: [call.pid], signal.SIGKILL),
        TURNS,
    ),
    "worker": Fault(
        "a worker is killed (SIGKILL; the system does so when memory is short)",
        "its run is recorded as failed, with the signal; the others go on, and the command ends with status 1",
        one_worker,
        TURNS,
    ),
    "all": Fault(
        "all processes are killed at once (a node is lost, a container ends)",
        "records that were appended are whole",
        killed(lambda call: [call.pid, *group(call.pid)], signal.SIGKILL),
        TURNS,
    ),
    "told": Fault(
        "the command is told to end (SIGTERM, Ctrl-C, a closed terminal)",
        "workers write their checkpoints and end",
        lambda night: killed(
            lambda call: [call.pid], night.moments.choice([signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
        )(night),
        TURNS,
    ),
    "stopped": Fault("all processes are stopped and go on (a machine sleeps)", "nothing", stopped_for_a_while),
    "memory": Fault(
        "a model asks for more memory than there is",
        "its runs are recorded as failed: `out of memory at batch 64`; the others go on, and the command ends with status 1",
        out_of_memory,
    ),
    "NaN": Fault(
        "a model's loss is NaN",
        "its runs are recorded as diverged, with the module that puts out NaN; these are results",
        not_a_number,
        diverges=True,
    ),
    "clock": Fault(
        "the clock jumps by two days within the command, which is killed too",
        "nothing: claims and the time between checkpoints do not rest on the time of day",
        clock_jumps,
        script_text=JUMPING + IMPATIENT,
    ),
    "data": Fault(
        "the data set's file is cut off while the study runs",
        "runs under way go on with what they read; later ones fail, or the call is refused in a line",
        data_cut_off,
    ),
    "disk": Fault(
        "the disk is full",
        "checkpoints are given up with a line; a record that cannot be appended ends the command with a line",
        full_disk,
    ),
    "power": Fault(
        "all processes are killed and the last line of the records is torn (loss of power)",
        "the torn line is left out",
        last_line_torn,
    ),
    "checkpoint": Fault(
        "all processes are killed and a bit flips in every checkpoint",
        "a line says that it is damaged; its run starts from the beginning",
        checkpoints_damaged,
    ),
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, ...]]:
    night = Night(tmp_path_factory.mktemp("undisturbed"), random.Random(0))
    assert night.end(night.start()) == 0, night.said.read_text()
    assert len(night.completed()) == NUM_RUNS
    return night.completed()


@pytest.fixture
def seed() -> int:
    """Another one each time; `$FAULTS_SEED` repeats one."""
    return int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(10**6))


def note(name: str, fault: Fault, **seen: int) -> None:
    """Keeps what was seen in the file that `$VITBENCH_FAULTS_SEEN` names."""
    if path := os.environ.get("VITBENCH_FAULTS_SEEN"):
        file = Path(path)
        before = json.loads(file.read_text()) if file.exists() else {}
        rows = {**before, name: {"what": fault.what, "then": fault.then, "turns": fault.turns, **seen}}
        file.write_text(json.dumps({key: rows[key] for key in FAULTS if key in rows}, indent=1) + "\n")


@pytest.mark.parametrize("name", FAULTS)
def test_the_next_call_completes_what_a_fault_has_left(name, undisturbed, seed, tmp_path):
    print(f"FAULTS_SEED={seed}")
    fault = FAULTS[name]
    night = Night(tmp_path / "night", random.Random(seed), fault.script_text)
    try:
        for _ in range(fault.turns):
            fault.strike(night)
            assert all("cut off" in what for what in night.faults())
            assert night.completed().items() <= undisturbed.items()
        before = len(night.completed())
        assert night.end(night.start()) == 0, night.said.read_text()
        assert night.faults() == []
        completed = NUM_RUNS - (2 if fault.diverges else 0)
        assert night.completed().items() <= undisturbed.items() and len(night.completed()) == completed
        assert not (night.results / "claims").exists() and not list((night.results / "checkpoints").glob("*.pt"))
    finally:
        night.kill_all()
    note(name, fault, before=before, completed=completed, resumed=night.resumed())
