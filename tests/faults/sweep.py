"""A small study in processes of its own, which faults strike, and what its results folder must hold whatever struck."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from tests.execution.processes import IMPATIENT, group, wait_until
from tests.execution.run_results import bits
from vitbench.records import Faults, Outcome, RecordStore
from vitbench.records.upkeep import check

STUDY = "night"
TEXT = """
import os
from pathlib import Path

import torch
from torch import nn
from vitbench.studies import Arm, Study


class Fragile(nn.Module):
    # Adds to every token, and does what the fault, if there is one, asks for.

    def __init__(self, config):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(config.width))

    def forward(self, tokens, block):
        fault = Path(os.environ["FAULT"])
        if fault.exists() and fault.read_text() == "memory":
            torch.empty(1 << 60)
        if fault.exists() and fault.read_text() == "NaN":
            return tokens * float("nan")
        return tokens + self.weight


STUDY = Study(
    question="Does it survive the night?",
    source="",
    baseline=Arm("cls"),
    arms=[Arm("gap", pool="gap"), Arm("fragile", position=Fragile)],
)
"""
NUM_RUNS = 6
"""Three arms, two seeds."""
OPTIONS = (
    *("--budget", "smoke", "--seeds", "2", "--learning-rate", "1e-3", "--epochs", "60.5", "--jobs", "2"),
    *("--device", "cpu", "--precision", "fp32", "--threads", "1"),
)


def waited(true: Callable[[], object]) -> None:
    """A machine that has much else to do takes long."""
    wait_until(true, seconds=300)


def write_data(path: Path) -> Path:
    """192 handwritten digits."""
    digits = load_digits()
    images, labels = digits.images.astype(np.uint8), digits.target
    splits = {"train_images": images[:128], "train_labels": labels[:128]}
    np.savez(path, **splits, test_images=images[128:192], test_labels=labels[128:192])
    return path


@dataclass
class Night:
    """One results folder, and the calls of `vitbench run` on it. What a fault does is drawn from `moments`."""

    folder: Path
    moments: random.Random
    script_text: str = IMPATIENT
    calls: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data = write_data(self.folder / "data.npz")
        self.study = self.folder / f"{STUDY}.py"
        self.study.write_text(TEXT)
        self.fault = self.folder / "fault"
        self.results = self.folder / "results"
        self.said = self.folder / "said.txt"

    def start(self, *options: str) -> subprocess.Popen[str]:
        """The leader of a process group: its workers are in it."""
        script = self.folder / "script.py"
        script.write_text(self.script_text)
        command = [sys.executable, str(script), "run", str(self.study), *OPTIONS, *options, "--data", str(self.data)]
        with self.said.open("w") as said:
            call = subprocess.Popen(
                [*command, "--results", str(self.results)],
                stdout=said,
                stderr=said,
                text=True,
                start_new_session=True,
                env={**os.environ, "FAULT": str(self.fault)},
            )
        self.calls.append(call)
        return call

    def wait_for_progress(self, call: subprocess.Popen[str]) -> None:
        """Until a random moment after the next checkpoint or record."""
        before = self._progress()
        waited(lambda: self._progress() != before or call.poll() is not None)
        time.sleep(self.moments.uniform(0, 0.5))

    def _progress(self) -> tuple[int, ...]:
        checkpoints = (self.results / "checkpoints").glob("*.pt")
        written = []
        for path in checkpoints:
            try:
                written.append(path.stat().st_mtime_ns)
            except FileNotFoundError:
                continue
        return (len(self.lines()), max(written, default=0))

    def lines(self) -> list[str]:
        path = RecordStore(self.results).path(STUDY)
        return path.read_text(errors="replace").splitlines() if path.exists() else []

    def end(self, call: subprocess.Popen[str], *, seconds: float = 600) -> int:
        """The exit status of the call, once it and all its workers are gone; the workers of a dead driver end too."""
        status = call.wait(seconds)
        waited(lambda: not group(call.pid))
        return status

    def kill_all(self) -> None:
        for call in self.calls:
            for pid in (call.pid, *group(call.pid)):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            call.wait()

    def completed(self) -> dict[str, tuple[Any, ...]]:
        """run_id → the bits of its record. Each run is recorded as completed once at most."""
        records = [record for record in RecordStore(self.results).read(STUDY) if record.outcome is Outcome.COMPLETED]
        counts = Counter(record.run_id for record in records)
        assert all(count == 1 for count in counts.values()), counts
        return {record.run_id: bits(record) for record in records}

    def resumed(self) -> int:
        """How often a run went on from a checkpoint."""
        return sum(record.cost.resumed for record in RecordStore(self.results).read(STUDY))

    def reasons(self) -> list[str]:
        """Why runs failed or diverged."""
        return [record.reason for record in RecordStore(self.results).read(STUDY) if record.reason]

    def faults(self) -> list[str]:
        """What `vitbench records check` says; a line that a killed writer left half-written counts too."""
        faults = Faults(say=lambda _: None)
        if self.lines():
            check(self.results, faults)
        return [fault.what for fault in faults]


def workers_of(driver: int) -> list[int]:
    """Its children that train: multiprocessing has a resource tracker beside them."""
    workers = []
    for pid in group(driver):
        try:
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                workers.append(pid)
        except FileNotFoundError:
            continue
    return workers
