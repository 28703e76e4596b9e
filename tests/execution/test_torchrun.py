"""Is a run that torchrun starts on several processes recorded once, and as failed where one of them dies?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.execution.processes import wait_until
from vitbench.records import Outcome, Record, RecordStore

OPTIONS = (
    *(
        "Nano/2",
        "--data",
        "digits",
        "--train-images",
        "130",
        "--batch-size",
        "33",
        "--clip-norm",
        "0.5",
        "--ema-decay",
        "0.9",
    ),
    *("--precision", "fp32", "--device", "cpu", "--threads", "1", "--micro-batch", "7"),
)
RUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "vitbench")


def torchrun(root: Path, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*RUN, *map(str, arguments), "--results", str(root)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def records(root: Path) -> list[Record]:
    return list(RecordStore(root).read("train"))


def process_of_rank(parent: int, rank: int) -> int:
    """The process that torchrun has started as that rank (proc(5))."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            number = int(status.parent.name)
            if int(status.read_text().rpartition(")")[2].split()[1]) != parent:
                continue
            if f"RANK={rank}".encode() in (status.parent / "environ").read_bytes().split(b"\0"):
                return number
        except OSError:
            continue
    raise AssertionError("there is none")


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the ranks through /proc")
def test_a_rank_of_torchrun_that_is_killed_is_the_reason_and_one_process_ends_the_run(vitbench, tmp_path):
    longer = ("--epochs", "40", "--checkpoint-minutes", "1e-6")
    command = torchrun(tmp_path / "two", "train", *OPTIONS, *longer)
    wait_until(lambda: list((tmp_path / "two").glob("checkpoints/*.pt")), seconds=200)
    os.kill(process_of_rank(command.pid, 1), signal.SIGKILL)
    command.communicate(timeout=100)
    assert command.returncode == 1
    (failed,) = records(tmp_path / "two")
    assert failed.outcome is Outcome.FAILED and failed.environment.devices == 2
    assert failed.reason == "rank 1 of 2: its process was ended, perhaps out of memory"

    for root in (tmp_path / "two", tmp_path / "one"):
        assert vitbench("train", *OPTIONS, *longer, "--results", root).status == 0
    *_, resumed = records(tmp_path / "two")
    (whole,) = records(tmp_path / "one")
    assert resumed.cost.resumed == 1 and resumed.environment.earlier_parts
    assert resumed.metrics["test_loss"] == pytest.approx(whole.metrics["test_loss"], rel=1e-3)


@pytest.mark.slow
def test_torchrun_records_the_run_of_one_process_once_and_not_again(vitbench, tmp_path):
    for _ in range(2):
        command = torchrun(tmp_path, "train", *OPTIONS, "--epochs", "2")
        out, err = command.communicate(timeout=250)
        assert command.returncode == 0, err
        assert out.count("test top-1") == 1  # one rank speaks
    assert "before; not run again" in out
    assert vitbench("train", *OPTIONS, "--epochs", "2", "--results", tmp_path / "one").status == 0
    (two,), (one,) = records(tmp_path), records(tmp_path / "one")
    assert (two.run_id, two.environment.devices, one.environment.devices) == (one.run_id, 2, 1)
    assert two.metrics["test_loss"] == pytest.approx(one.metrics["test_loss"], rel=1e-5)
    assert [p.train_loss for p in two.curve] == pytest.approx([p.train_loss for p in one.curve], rel=1e-5)


@pytest.mark.slow
def test_a_study_on_two_devices_has_the_table_of_one(vitbench, tmp_path):
    study = (
        *("run", "pooling", "--budget", "smoke", "--precision", "fp32", "--device", "cpu", "--seeds", "1"),
        *("--learning-rate", "1e-3", "--train-images", "128"),
    )
    for devices in (1, 2):
        root = tmp_path / str(devices)
        said = vitbench(*study, "--jobs", "1", "--devices-per-run", devices, "--results", root)
        assert said.status == 0 and ("2 devices for each" in said.out) == (devices == 2)
    one, two = ({r.run_id: r for r in RecordStore(tmp_path / name).read("pooling")} for name in ("1", "2"))
    assert one.keys() == two.keys() and len(one) == 4
    for run_id, record in two.items():
        assert record.environment.devices == 2
        assert record.metrics["test_loss"] == pytest.approx(one[run_id].metrics["test_loss"], rel=1e-4)
        assert record.metrics["test_top1"] == pytest.approx(one[run_id].metrics["test_top1"], abs=0.01)


def started_by_torchrun(monkeypatch, rank: int = 0) -> None:
    for name, value in {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize("command", [("run", "pooling"), ("list",), ("flops", "B/16")])
def test_commands_for_one_process_are_refused_under_torchrun(vitbench, monkeypatch, command):
    started_by_torchrun(monkeypatch)
    said = vitbench(*command)
    assert said.status == 2
    assert said.err == (
        f"vitbench: {command[0]} is for one process, and torchrun has started 2; start it without torchrun (run has "
        "--devices-per-run)\n"
    )


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--devices-per-run", "2"), "devices_per_run 2 is for torchrun to say, which started this; leave it out"),
        (("--device", "cuda:1"), "device 'cuda:1' is one for 2 processes of torchrun; use cuda or cpu"),
    ],
)
def test_what_torchrun_has_decided_is_not_decided_again(vitbench, monkeypatch, tmp_path, options, line):
    started_by_torchrun(monkeypatch)
    said = vitbench("train", "Nano/2", *options, "--results", tmp_path)
    assert (said.status, said.err) == (2, f"vitbench: {line}\n") and not list(tmp_path.iterdir())


def test_a_batch_of_which_a_device_would_get_nothing_is_refused(vitbench, tmp_path):
    asked = ("train", "Nano/2", "--batch-size", "6", "--device", "cpu", "--devices-per-run", "4", "--results", tmp_path)
    said = vitbench(*asked)
    assert said.status == 2 and not list(tmp_path.glob("records/*.jsonl"))
    assert said.err == (
        "vitbench: devices_per_run 4 is too many for batch_size 6, of which each gets a pair of images; use 3 or fewer\n"
    )


def test_ray_has_one_device_for_a_run(vitbench, tmp_path):
    said = vitbench("run", "pooling", "--executor", "ray", "--devices-per-run", "2", "--results", tmp_path)
    line = "vitbench: devices_per_run 2 is for --executor local; on Ray a run has one device\n"
    assert (said.status, said.err) == (2, line)
