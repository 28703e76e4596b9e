"""Does a terminal get a live display, and everything else plain lines without an escape code?"""

from __future__ import annotations

import io
import sys

import pytest

from vitbench.data import describe
from vitbench.execution import Job, Report
from vitbench.execution.display import RunDisplay
from vitbench.execution.preparation import DataReader
from vitbench.records import Record
from vitbench.studies import BUDGETS, Overrides, load_study, make_plan

ESCAPE = "\x1b"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def jobs() -> list[Job]:
    runs = make_plan(
        load_study("pooling"), BUDGETS["smoke"], describe("digits"), Overrides(seeds=1, learning_rates=(1e-3,))
    ).runs
    return [Job(run, "digits", None, "cpu", "cpu: Example CPU", "fp32", 1, 1) for run in runs[:3]]


def shown(jobs: list[Job], template: Record, stderr: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "stderr", stderr)
    outcomes = ("completed", "diverged", "failed")
    with RunDisplay(jobs) as display:
        for job, outcome in zip(jobs, outcomes, strict=True):
            display.report(job, Report(0.5, "epoch 1/2"))
            record = job.record(
                started="",
                outcome=outcome,
                reason="" if outcome == "completed" else f"it {outcome}",
                cost=template.cost,
                environment=template.environment,
            )
            display.record(job, record)
    return stderr.getvalue()


@pytest.mark.parametrize(
    ("stream", "variables"),
    [
        pytest.param(io.StringIO, {}, id="a pipe"),
        pytest.param(io.StringIO, {"FORCE_COLOR": "1"}, id="a pipe under FORCE_COLOR"),
        pytest.param(io.StringIO, {"TTY_COMPATIBLE": "1"}, id="a pipe that calls itself compatible"),
        pytest.param(Terminal, {"CI": "true"}, id="a terminal in CI"),
        pytest.param(Terminal, {"CI": "1", "FORCE_COLOR": "1"}, id="a terminal in CI under FORCE_COLOR"),
    ],
)
def test_no_escape_codes_reach_a_pipe_or_ci(jobs, made_up, monkeypatch, stream, variables):
    for name in ("CI", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    lines = shown(jobs, made_up(), stream(), monkeypatch).splitlines()
    assert not any(ESCAPE in line for line in lines)
    assert lines[:2] == ["pooling, gap, seed 0: diverged: it diverged", "pooling, mean_all, seed 0: failed: it failed"]
    assert lines[2].startswith("pooling: 1 completed, 1 diverged, 1 failed") and len(lines) == 3


def test_a_terminal_gets_a_live_display(jobs, made_up, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    screen = shown(jobs, made_up(), Terminal(), monkeypatch)
    assert ESCAPE in screen and "pooling" in screen


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_reading_data_in_ci_or_a_pipe_prints_nothing(monkeypatch, jobs, stream):
    monkeypatch.setenv("FORCE_COLOR", "1")
    if stream is Terminal:
        monkeypatch.setenv("CI", "true")
    else:
        monkeypatch.delenv("CI", raising=False)
    stderr = stream()
    monkeypatch.setattr(sys, "stderr", stderr)
    DataReader().read([("digits", job.run) for job in jobs])
    assert stderr.getvalue() == ""
