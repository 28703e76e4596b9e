"""Does a run that was killed, whenever and however, end with the bits of the one that was not?"""

from __future__ import annotations

import dataclasses
import multiprocessing
import random
import signal
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.execution.processes import IMPATIENT, wait_until
from tests.execution.run_results import bits
from vitbench.execution import local
from vitbench.execution import run as run_module
from vitbench.execution.claims import JobQueue
from vitbench.execution.run import execute
from vitbench.records import Environment, Outcome, Record, RecordStore, describe_environment
from vitbench.signals import Ended
from vitbench.training import checkpoint as checkpoint_module
from vitbench.training.step import step_seed as step_seed_itself

EVERYTHING_RANDOM = {
    "model": {"patch_size": 4, "stem": "conv", "stem_width": 8, "dropout": 0.1, "drop_path": 0.1},
    "train": {"epochs": 2.5, "ema_decay": 0.9, "clip_norm": 0.5, "label_smoothing": 0.1, "optimizer": "muon"},
}
"""5 steps of 64 of 128 digits. A conv stem has BatchNorm."""
NUM_STEPS = 5


@pytest.fixture
def random_job(make_job, tmp_path):
    """(a job that keeps checkpoints, its record when nothing interrupts it)."""
    job = make_job(**EVERYTHING_RANDOM)
    mixed = job.run.config.replace(data={**job.run.config.data.model_dump(), "mixup": 0.2, "cutmix": 0.5, "flip": True})
    job = dataclasses.replace(job, run=dataclasses.replace(job.run, config=mixed))
    return dataclasses.replace(job, checkpoints=tmp_path / "checkpoints"), execute(job)


@pytest.fixture
def at_every_epoch(monkeypatch):
    """However short the epochs are."""
    monkeypatch.setattr(checkpoint_module, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(checkpoint_module, "LARGEST_SHARE", float("inf"))


def interrupt_in(monkeypatch, step: int) -> list[int]:
    """Has Ctrl-C come in the middle of that step; returns the list of the steps that are taken."""
    taken: list[int] = []

    def step_seed(seed: int, number: int) -> int:
        taken.append(number)
        if number == step:
            signal.raise_signal(signal.SIGINT)
        return step_seed_itself(seed, number)

    monkeypatch.setattr("vitbench.training.loop.step_seed", step_seed)
    return taken


def test_a_run_interrupted_in_any_step_gives_the_record_of_the_whole_one(random_job, monkeypatch, capfd):
    job, whole = random_job
    assert whole.cost.resumed == 0 and not job.checkpoint.exists()
    for step in range(NUM_STEPS):
        taken = interrupt_in(monkeypatch, step)
        with pytest.raises(KeyboardInterrupt):
            execute(job)
        assert taken == list(range(step + 1)) and job.checkpoint.exists()
        taken = interrupt_in(monkeypatch, -1)
        reports = []
        record = execute(job, reports.append)
        assert taken == list(range(step + 1, NUM_STEPS))
        assert bits(record) == bits(whole) and record.cost.resumed == 1
        assert reports[0].text == f"goes on after step {step + 1} of 5" and reports[-1].fraction == 1
        job.remove_checkpoint()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("step", [0, 3])
def test_a_run_in_bf16_goes_on_to_the_same_bits(make_job, tmp_path, monkeypatch, step):
    """With native operators, where this machine has them: what `auto` takes."""
    train = {"epochs": 3, "optimizer": "muon", "ema_decay": 0.9, "precision": "bf16"}
    job = make_job(model={"pool": "gap", "mlp_ratio": 2.0}, train=train)
    job = dataclasses.replace(job, precision="bf16", checkpoints=tmp_path / "checkpoints")
    whole = execute(job)
    interrupt_in(monkeypatch, step)
    with pytest.raises(KeyboardInterrupt):
        execute(job)
    interrupt_in(monkeypatch, -1)
    record = execute(job)
    assert whole.environment.precision == "bf16" and record.environment.kernels == whole.environment.kernels
    assert bits(record) == bits(whole) and record.cost.resumed == 1


def test_parts_add_up_their_costs(random_job, monkeypatch):
    job, whole = random_job
    started = []
    for step in (1, 2, 4):
        interrupt_in(monkeypatch, step)
        with pytest.raises(KeyboardInterrupt):
            execute(job)
        content, _ = checkpoint_module.Checkpoint(job.checkpoint).read()
        started.append((content["history"]["started"], sum(content["training"]["clock"][:2])))
    interrupt_in(monkeypatch, -1)
    record = execute(job)
    assert bits(record) == bits(whole) and record.cost.resumed == 3
    assert {start for start, _ in started} == {record.started}
    seconds = [trained for _, trained in started] + [record.cost.train_seconds]
    assert seconds == sorted(seconds) and seconds[0] > 0
    # Memory is counted in the second step, which only the first part took.
    assert record.cost.peak_memory_bytes == pytest.approx(whole.cost.peak_memory_bytes, rel=0.01)


def test_an_end_during_the_final_evaluation_costs_no_training(random_job, monkeypatch, at_every_epoch):
    job, whole = random_job

    def killed(*_: object, **__: object) -> None:
        raise Ended(143)

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "_timed_test", killed)
        with pytest.raises(Ended):
            execute(job)
    taken = interrupt_in(monkeypatch, -1)
    assert bits(execute(job)) == bits(whole) and taken == []


def test_a_run_of_half_an_epoch_more_says_so_in_its_curve(random_job):
    _, whole = random_job
    assert [(point.epoch, point.fraction) for point in whole.curve] == [(1, 1.0), (2, 1.0), (3, 0.5)]
    assert whole.curve[-1].val_top1 == whole.metrics["val_top1"]


def test_what_another_version_of_torch_made_is_left_and_said_in_a_line(random_job, monkeypatch, capfd):
    job, whole = random_job

    def another_torch(*arguments: Any, **facts: Any) -> Environment:
        return describe_environment(*arguments, **facts).model_copy(update={"torch": "2.1.0"})

    interrupt_in(monkeypatch, 3)
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "describe_environment", another_torch)
        with pytest.raises(KeyboardInterrupt):
            execute(job)
    taken = interrupt_in(monkeypatch, -1)
    record = execute(job)
    assert taken == list(range(NUM_STEPS)) and bits(record) == bits(whole) and record.cost.resumed == 0
    said = capfd.readouterr().err
    here = f"was made with torch '2.1.0', and here it is {metadata.version('torch')!r}; run {record.run_id} starts from"
    assert said.startswith("vitbench: checkpoint ") and here in said and said.count("\n") == 1


def test_fp32_and_bf16_do_not_go_on_from_each_other(random_job, monkeypatch, capfd):
    job, _ = random_job
    interrupt_in(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        execute(job)
    taken = interrupt_in(monkeypatch, -1)
    assert execute(dataclasses.replace(job, precision="bf16")).cost.resumed == 0
    assert taken == list(range(NUM_STEPS))
    assert "was made with precision 'fp32', and here it is 'bf16'" in capfd.readouterr().err


def test_a_torn_checkpoint_is_said_in_a_line_and_the_run_starts_from_the_beginning(random_job, capfd):
    job, whole = random_job
    job.checkpoint.parent.mkdir(parents=True)
    job.checkpoint.write_bytes(b"half a che")
    record = execute(job)
    assert bits(record) == bits(whole) and record.cost.resumed == 0
    said = capfd.readouterr().err
    assert said.startswith("vitbench: checkpoint ") and "is torn or damaged; run" in said and said.count("\n") == 1


def test_a_run_that_failed_starts_from_the_beginning(random_job, monkeypatch, at_every_epoch):
    job, _ = random_job
    records: list[Record] = []

    def fails(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "_timed_test", fails)
        failed = execute(job)
    assert failed.outcome is Outcome.FAILED and job.checkpoint.exists()
    process = _Done(failed.to_json())
    worker = local._Worker(0, None, process, job)
    local._receive(worker, lambda job, record: records.append(record), lambda *_: None)
    assert records == [failed] and not job.checkpoint.exists()
    assert execute(job).cost.resumed == 0


class _Done:
    """The pipe of a worker that has sent its record."""

    def __init__(self, message: str) -> None:
        self.message = message

    def recv(self) -> str:
        return self.message


# Real processes


def test_a_worker_that_is_told_to_end_or_killed_leaves_what_the_next_call_goes_on_from(make_job, tmp_path):
    # One epoch of many steps, in which nothing is evaluated: signals then come while it trains.
    job = make_job(train_images=None, train={"batch_size": 1})
    job = dataclasses.replace(job, checkpoints=tmp_path / "checkpoints")
    records: list[Record] = []

    def part(on_report) -> None:
        local.run_jobs(
            JobQueue([job]),
            workers=1,
            devices=["cpu"],
            on_record=lambda job, record: records.append(record),
            on_report=on_report,
        )

    def ctrl_c(job, report) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        part(ctrl_c)
    assert records == [] and job.checkpoint.exists()

    def kill(job, report) -> None:
        if not report.text.startswith("goes on"):
            (worker,) = multiprocessing.active_children()
            worker.kill()

    part(kill)
    assert [record.outcome for record in records] == [Outcome.FAILED] and job.checkpoint.exists()

    record = execute(job)
    assert record.cost.resumed == 1 and bits(record) == bits(execute(dataclasses.replace(job, checkpoints=None)))


TRAIN = (
    *("train", "Nano/4", "--stem", "conv", "--stem-width", 8, "--dropout", 0.1, "--drop-path", 0.1, "--mixup", 0.2),
    *("--epochs", 60.5, "--batch-size", 64, "--train-images", 512, "--ema-decay", 0.99, "--clip-norm", 0.5),
    *("--device", "cpu", "--precision", "fp32", "--threads", 1),
)


ENDS = [
    getattr(signal, name) for name in ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1") if hasattr(signal, name)
]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL, and SIGTERM cannot be caught there")
def test_a_process_killed_at_random_moments_ends_with_the_bits_of_the_uninterrupted_one(vitbench, process, tmp_path):
    script = tmp_path / "impatient.py"
    script.write_text(IMPATIENT)
    whole = Record.model_validate_json(vitbench(*TRAIN, "--results", tmp_path / "whole", "--json").out)
    results = tmp_path / "killed"
    (checkpoint,) = [results / "checkpoints" / f"{whole.run_id}.pt"]
    moments = random.Random(5)
    for number in ENDS:
        before = written(checkpoint)
        child = process(*TRAIN, "--results", results, script=script)
        wait_until(lambda before=before, child=child: written(checkpoint) != before or child.poll() is not None)
        time.sleep(moments.uniform(0, 0.2))
        child.send_signal(number)
        status = -signal.SIGKILL if number is signal.SIGKILL else 128 + number
        assert child.wait(60) == status, (tmp_path / "stderr").read_text()
        assert checkpoint.exists() and not RecordStore(results).read("train")
        assert not (results / "claims").exists() or number is signal.SIGKILL
        others = [path for path in checkpoint.parent.iterdir() if path != checkpoint]
        assert not others or number is signal.SIGKILL  # which may come while one is written
    record = Record.model_validate_json(vitbench(*TRAIN, "--results", results, "--json").out)
    assert RecordStore(results).read("train") == [record]
    assert bits(record) == bits(whole)
    assert record.cost.resumed == len(ENDS) and whole.cost.resumed == 0
    assert list(checkpoint.parent.iterdir()) == [checkpoint.with_suffix(".safetensors")]


def written(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


AIMED = {
    "in its first step": "loop.step_seed = die",
    "while a checkpoint is written": "pathlib.Path.replace = lambda new, path, replace=pathlib.Path.replace: (\n"
    "    die() if pathlib.Path(path).suffix == '.pt' else replace(new, path)\n)",
    "once recorded": "records.RecordStore.append = lambda *given, append=records.RecordStore.append: (append(*given), die())",
}
"""Moments that chance seldom finds, and how a process comes to kill itself there."""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("moment", AIMED)
def test_a_process_killed_in_the_worst_moments_ends_with_the_same_bits(vitbench, process, tmp_path, moment):
    script = tmp_path / "dying.py"
    dying = "import os, pathlib\nfrom vitbench import records\nfrom vitbench.training import loop\n"
    dying += "def die(*_, **__):\n    os.kill(os.getpid(), 9)\n"
    script.write_text(dying + AIMED[moment] + IMPATIENT)
    train = (*TRAIN, "--epochs", 2.5, "--results")
    whole = Record.model_validate_json(vitbench(*train, tmp_path / "whole", "--json").out)
    results = tmp_path / "killed"
    assert process(*train, results, script=script).wait(120) == -signal.SIGKILL
    half_written = list((results / "checkpoints").glob(".*.pt.*.tmp"))
    assert len(half_written) == (moment == "while a checkpoint is written")
    assert len(RecordStore(results).read("train")) == (moment == "once recorded")
    record = Record.model_validate_json(vitbench(*train, results, "--json").out)
    assert RecordStore(results).read("train") == [record] and bits(record) == bits(whole)
