"""Does the check of a GPU keep to its time, whatever its sections do, and say what became of each?"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks import gpu_check
from benchmarks.gpu_check import Outcome, Section, run, sections
from benchmarks.gpu_check_page import page
from tests.execution.processes import wait_until

MACHINE = {"torch": "2.14.1", "gpu": False, "gpus": 0, "cuda": None, "cpu_cores": 2, "python": "3.12.0"}


def section(code: str, *, limit: float = 60.0, **fields) -> Section:
    return Section("made up", ("-c", code), limit, **fields)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(gpu_check, "LEAST", 0.5)


def test_a_section_that_prints_json_is_done_and_its_facts_are_kept():
    outcome = run(section("print('noise'); print('[1, 2]')"), seconds_left=60)
    assert (outcome.outcome, outcome.facts, outcome.reason) == ("done", [1, 2], "")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise ValueError('no such kernel')", "ValueError: no such kernel"),
        ("import os; os._exit(3)", "exit status 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "exit status -9"),
        ("print('words')", "printed no JSON document"),
    ],
)
def test_a_section_that_fails_says_why(code, reason):
    outcome = run(section(code), seconds_left=60)
    assert (outcome.outcome, outcome.reason) == ("failed", reason)


def test_facts_of_a_section_that_failed_are_kept():
    outcome = run(section("print('[1]'); raise SystemExit('one is wrong')"), seconds_left=60)
    assert (outcome.outcome, outcome.reason, outcome.facts) == ("failed", "one is wrong", [1])


def test_a_section_that_hangs_is_ended_with_all_that_it_started(tmp_path):
    child = tmp_path / "child"
    code = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"p = subprocess.Popen(['sleep', '100']); open({str(child)!r}, 'w').write(str(p.pid)); time.sleep(100)"
    )
    start = time.monotonic()
    outcome = run(section(code, limit=2.0), seconds_left=60)
    assert (outcome.outcome, outcome.reason) == ("out of time", "ended after 2 s")
    assert time.monotonic() - start < 30
    wait_until(lambda: not is_running(int(child.read_text())), seconds=20)  # a signal takes its time


def is_running(pid: int) -> bool:
    with suppress(OSError):
        return (
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        )  # a zombie waits for its parent
    return False


def test_a_section_that_there_is_no_time_or_package_for_is_skipped():
    skipped = run(section("", limit=60), seconds_left=0.2)
    assert (skipped.outcome, skipped.seconds) == ("skipped", 0.0) and "0 s were left" in skipped.reason
    assert run(section("", needs="no_such_package"), seconds_left=60).reason == "no_such_package is not installed"


@pytest.mark.parametrize("gpu", [False, True])
def test_every_section_has_a_name_of_its_own_and_all_fit_the_time_but_the_last(tmp_path, gpu):
    planned = sections(tmp_path, gpu=gpu)
    assert len({section.name for section in planned}) == len(planned)
    assert all(("cuda" in section.command) is gpu for section in planned if "--device" in section.command)
    if gpu:
        text = " ".join(" ".join(section.command) for section in planned)
        assert all(word in text for word in ("B/16", "S/16", "Micro/4", "graphs", "--full-tokens", "--jobs 8", "timm"))


def test_every_option_of_a_section_is_one_that_vitbench_has(tmp_path, vitbench):
    for planned in sections(tmp_path, gpu=True):
        _, module, command, *rest = (*planned.command, "", "", "")
        if module == "vitbench":
            help_text = vitbench(command, "--help").out
            assert [word for word in rest if word.startswith("--") and word not in help_text] == []


def test_the_page_says_that_there_was_no_gpu_and_what_failed():
    row = {
        **dict.fromkeys(("variant", "implementation", "mode", "precision", "reason"), "x"),
        "compiled": True,
        "cuda_graphs": True,
        "images_per_second": 1234.5,
        "mfu": 0.5,
        "peak_memory_bytes": None,
        "last_block": "all tokens",
        "batch_size": 8,
        "kernels": "torch: attention cudnn",
    }
    outcomes = [
        Outcome("checks", "failed", "wrong: model", 3.0, facts=[{"name": "model", "passed": False, "detail": "a | b"}]),
        Outcome("eager B/16", "done", facts=[row]),
        Outcome("trace", "skipped", "3 s were left"),
        Outcome("study, 8 workers", "done", seconds=12.0),
    ]
    text = page(MACHINE, outcomes, gpu=False, minutes=8)
    assert "There is no GPU here" in text and "| checks | failed | 3 | wrong: model |" in text
    assert "| model | **wrong** | a \\| b |" in text and "| graphs | all tokens | 8 | 1,234 | 50.0% |" in text
    assert "There is no GPU here" not in page({**MACHINE, "gpu": "H200"}, outcomes, gpu=True, minutes=8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--minutes", "0"], "minutes 0 is no time"),
        (["--only", "nothing"], "no such section; use doctor, checks"),
        (["--device", "cuda"], "torch finds no GPU; use --device cpu"),
    ],
)
def test_wrong_requests_are_one_line_and_status_2(arguments, message, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(gpu_check, "machine", lambda: MACHINE)
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--out", str(tmp_path), *arguments])
    with pytest.raises(SystemExit) as end:
        gpu_check.main()
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_a_folder_has_one_file_for_each_section_and_a_page(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(gpu_check, "machine", lambda: MACHINE)
    planned = [section("print('{}')"), Section("B/16, x", ("-c", "1 / 0"), 60)]
    monkeypatch.setattr(gpu_check, "sections", lambda *_, **__: planned)
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--out", str(tmp_path / "new" / "folder")])
    assert gpu_check.main() == 1
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [
        "README.md",
        "b-16-x.json",
        "made-up.json",
    ]
    kept = json.loads((tmp_path / "new" / "folder" / "b-16-x.json").read_text())
    assert kept["outcome"] == "failed" and kept["reason"] == "ZeroDivisionError: division by zero"
