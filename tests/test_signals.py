"""Does a process end as it is told to, with the status that a shell counts, and never in the middle of what must be whole?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vitbench.signals import ENDING, HeldSignals

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

OBEYING = """
import signal, sys, time
from vitbench.signals import obeyed
{before}
with obeyed():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        {finally_}
        print("saved", flush=True)
"""

RECORDING = """
import os, signal, sys, threading, time
from vitbench.signals import HeldSignals, obeyed
idle = threading.Thread(target=time.sleep, args=(60,), daemon=True)
idle.start()
with obeyed(), HeldSignals(patience=10):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # the other thread gets it, as torch's do
    print("ready", flush=True)
    sys.stdin.readline()  # a file lock that another process holds
    print("recorded", flush=True)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
print("never said", flush=True)
"""


def started(script: str) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    return child


def test_people_terminals_and_cluster_managers_are_all_obeyed():
    names = {"SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGXCPU"}
    assert {number.name for number in ENDING} == names


@pytest.mark.parametrize("number", [n for n in ENDING if n != signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_ends_a_process_with_the_status_that_a_shell_counts_after_it_has_saved(number):
    child = started(OBEYING.format(before="", finally_=""))
    child.send_signal(number)
    output, errors = child.communicate(timeout=30)
    assert (child.returncode, output, errors) == (128 + number, "saved\n", "")


def test_further_signals_do_not_keep_a_process_from_saving():
    again = "signal.raise_signal(signal.SIGTERM); signal.raise_signal(signal.SIGHUP); time.sleep(0.01)"
    child = started(OBEYING.format(before="", finally_=again))
    child.send_signal(signal.SIGHUP)
    output, _ = child.communicate(timeout=30)
    assert (child.returncode, output) == (129, "saved\n")


SWALLOWING = {
    "a broad except": """
    try:
        print("ready", flush=True)
        time.sleep(60)
    except BaseException as error:
        kept = error""",
    "__del__": """
    class Slow:
        def __del__(self):
            print("ready", flush=True)
            time.sleep(60)
    sys.stderr = None
    slow = Slow()
    del slow""",
}


@pytest.mark.parametrize("swallowing", SWALLOWING.values(), ids=SWALLOWING)
def test_a_signal_that_was_swallowed_does_not_make_a_process_immune_to_the_next(swallowing):
    lines = ("import sys, time", "from vitbench.signals import obeyed", "with obeyed():" + swallowing)
    child = started("\n".join((*lines, "    print('swallowed', flush=True)", "    time.sleep(60)")))
    child.send_signal(signal.SIGTERM)
    assert child.stdout is not None and child.stdout.readline() == "swallowed\n"
    child.send_signal(signal.SIGHUP)
    output, _ = child.communicate(timeout=30)
    assert (child.returncode, output) == (129, "")


STUDY_FILES = {
    "the file": "{wait}\n",
    "a function of it": """
def arms(base):
    {wait}
STUDY = Study(question="?", source="", baseline=Arm("none"), arms=arms)
""",
}


@pytest.mark.parametrize("text", STUDY_FILES.values(), ids=STUDY_FILES)
def test_a_signal_while_a_study_is_loaded_is_no_fault_of_the_study(tmp_path, text):
    wait = "import sys, time; print('ready', file=sys.__stdout__, flush=True); time.sleep(60)"
    imports = "from vitbench.studies import Arm, Study\n"
    (tmp_path / "slow.py").write_text(imports + text.format(wait=wait))
    child = started(
        f"import sys; from vitbench.cli import main; sys.argv[1:] = ['plan', {str(tmp_path / 'slow.py')!r}]; main()"
    )
    child.send_signal(signal.SIGTERM)
    output, errors = child.communicate(timeout=60)
    assert (child.returncode, output) == (143, "")
    assert errors == "vitbench: ended by SIGTERM; what was finished is recorded, the same command goes on\n"


def test_what_nohup_ignores_stays_ignored():
    child = started(OBEYING.format(before="signal.signal(signal.SIGHUP, signal.SIG_IGN)", finally_=""))
    child.send_signal(signal.SIGHUP)
    child.send_signal(signal.SIGUSR1)
    child.communicate(timeout=30)
    assert child.returncode == 128 + signal.SIGUSR1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_that_another_thread_gets_waits_until_the_record_is_written(number):
    child = started(RECORDING)
    for _ in range(3):
        child.send_signal(number)
    output, _ = child.communicate("the lock is free\n", timeout=30)
    assert output == "recorded\n"
    # Python ends itself by SIGINT where nobody catches KeyboardInterrupt.
    assert child.returncode == (-number if number == signal.SIGINT else 128 + number)


def test_a_forked_process_that_reads_for_its_parent_leaves_its_end_to_the_parent():
    forking = """
import os, signal, time
from vitbench.signals import ENDING, HeldSignals, obeyed
print("ready", flush=True)
with obeyed(), HeldSignals():
    if not (child := os.fork()):
        for number in ENDING:
            if number != signal.SIGTERM:
                os.kill(os.getpid(), number)
        os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    if not (child := os.fork()):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    output, _ = started(forking).communicate(timeout=30)
    assert output == "7\n-15\n"


def test_a_process_that_works_for_its_parent_is_ended_by_sigterm_alone():
    working = """
import signal, sys, time
from vitbench.signals import ENDING, leave_to_parent
signal.signal(signal.SIGUSR2, lambda *_: print("theirs", flush=True))
leave_to_parent()
for number in ENDING:
    if number != signal.SIGTERM:
        signal.raise_signal(number)
print("ready", flush=True)
time.sleep(60)
"""
    child = subprocess.Popen([sys.executable, "-c", working], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and [child.stdout.readline() for _ in range(2)] == ["theirs\n", "ready\n"]
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=30)
    assert child.returncode == -signal.SIGTERM


def test_a_second_ctrl_c_waits_for_a_record_no_longer_than_its_patience(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("vitbench.signals.time.monotonic", lambda: now[0])
    with HeldSignals(patience=10) as signals:
        for now[0] in (0.0, 9.9):
            signal.raise_signal(signal.SIGINT)
        assert signals.held == signal.SIGINT
        now[0] = 10.0
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_what_is_said_to_a_terminal_that_is_gone_is_lost_without_an_error(tmp_path: Path):
    script = """
import sys, time
from pathlib import Path
from vitbench.signals import outlive_terminal
outlive_terminal()
print("ready", flush=True)
sys.stdin.read()
for stream in (sys.stdout, sys.stderr):
    print("said to nobody", file=stream, flush=True)
Path(sys.argv[1]).touch()
"""
    ours, theirs = os.openpty()
    command = [sys.executable, "-c", script, str(tmp_path / "went on")]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=theirs, stderr=theirs)
    os.close(theirs)
    assert os.read(ours, 100) == b"ready\r\n"
    os.close(ours)
    child.communicate(timeout=30)
    assert child.returncode == 0 and (tmp_path / "went on").exists()
