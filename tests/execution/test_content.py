"""Is what is done decided by what images hold, whatever their names, sizes and times?"""

from __future__ import annotations

import json

import pytest

from tests.made_up_studies import TWO_POOLS
from vitbench.records import RecordStore

ON_CPU = ("--device", "cpu", "--threads", "1")


def test_a_study_runs_again_on_other_pixels_under_the_same_names_and_not_on_the_same(
    vitbench, tmp_path, paint, in_this_process
):
    folder = paint(0)
    (tmp_path / "mine.py").write_text(TWO_POOLS)
    request = (
        *(tmp_path / "mine.py", "--data", folder, "--budget", "smoke", "--batch-size", "8", "--seeds", "1"),
        *("--learning-rate", "1e-3", "--precision", "fp32", "--results", tmp_path),
    )

    def planned():
        plan = json.loads(vitbench("plan", *request, "--json").out)
        return sum(run["done"] for run in plan["runs"]), plan["of_other_images"], bool(plan["unknown_images"])

    def hashes():
        return [record.environment.data_sha256 for record in RecordStore(tmp_path).read("mine")]

    assert planned() == (0, 0, False)
    assert vitbench("run", *request, *ON_CPU).status == 0
    assert planned() == (2, 0, False) and len(hashes()) == 2
    assert "all 2 runs are recorded" in vitbench("run", *request, *ON_CPU).out

    paint(1)
    assert planned() == (2, 0, True)  # nothing has decoded the new files yet, and that is said
    assert "`vitbench run` will look" in vitbench("plan", *request).out
    said = vitbench("run", *request, *ON_CPU)
    assert said.status == 0 and "2 recorded runs are of other images" in said.out and "2 of 2 runs to do" in said.out
    assert planned() == (2, 0, False)
    first, again = hashes()[:2], hashes()[2:]
    assert len(set(first)) == len(set(again)) == 1 and first[0] != again[0]

    paint(0)
    assert "all 2 runs are recorded" in vitbench("run", *request, *ON_CPU).out and len(hashes()) == 4


def test_a_plan_counts_no_run_of_other_images_once_they_are_decoded(vitbench, tmp_path, paint, in_this_process):
    from vitbench.data import load

    folder = paint(0)
    (tmp_path / "mine.py").write_text(TWO_POOLS)
    request = (tmp_path / "mine.py", "--data", folder, "--budget", "smoke", "--batch-size", "8", "--results", tmp_path)
    few = ("--seeds", "1", "--learning-rate", "1e-3", "--precision", "fp32")
    assert vitbench("run", *request, *few, *ON_CPU).status == 0
    paint(1)
    load(str(folder))
    plan = json.loads(vitbench("plan", *request, *few, "--json").out)
    assert not any(run["done"] for run in plan["runs"]) and plan["of_other_images"] == 2
    assert "2 recorded runs are of other images" in vitbench("plan", *request, *few).out


def test_a_single_run_trains_again_on_other_pixels(vitbench, tmp_path, paint):
    request = (
        *("train", "Nano/4", "--data", paint(0), "--epochs", "1", "--batch-size", "8", "--precision", "fp32"),
        *("--results", tmp_path, *ON_CPU, "--json"),
    )
    first = json.loads(vitbench(*request).out)
    assert json.loads(vitbench(*request).out) == first
    paint(1)
    other = json.loads(vitbench(*request).out)
    assert other["run_id"] == first["run_id"] and other["weights_sha256"] != first["weights_sha256"]
    assert other["environment"]["data_sha256"] != first["environment"]["data_sha256"]
    assert json.loads(vitbench(*request).out) == other


@pytest.mark.parametrize(
    "command",
    [
        ("plan", "pooling", "--budget", "smoke"),
        ("run", "pooling", "--budget", "smoke", *ON_CPU),
        ("train", "Nano/4", *ON_CPU),
    ],
    ids=lambda command: command[0],
)
def test_one_image_a_class_is_refused_before_any_run(vitbench, tmp_path, paint, command):
    said = vitbench(*command, "--data", paint(0, train=1), "--batch-size", "1", "--results", tmp_path)
    assert said.status == 2 and not (tmp_path / "records").exists()
    assert said.err.count("\n") == 1 and "validation split would be empty: each of the 2 classes has one" in said.err


def test_a_linear_probe_needs_two_images_of_a_class(vitbench, tmp_path, paint):
    request = ("train", "Nano/4", "--data", paint(0), "--epochs", "1", "--batch-size", "8", "--results", tmp_path)
    trained = json.loads(vitbench(*request, *ON_CPU, "--json").out)
    single = paint(0, train=1, where=tmp_path / "single")
    probe = ("probe", trained["run_id"], "--data", single, "--results", tmp_path, *ON_CPU)
    said = vitbench(*probe, "--method", "linear")
    assert said.status == 2 and said.err.count("\n") == 1 and "validation split would be empty" in said.err
    assert vitbench(*probe, "--method", "few-shot", "--shots", "1").status == 0


def test_runs_recorded_on_other_images_than_are_here_end_the_command_with_a_line(
    vitbench, tmp_path, paint, monkeypatch
):
    from vitbench.execution import local
    from vitbench.execution.run import execute

    def elsewhere(jobs, *, on_record, **_):
        for job in jobs:
            record = execute(job)
            other = record.environment.model_copy(update={"data_sha256": "f" * 64})
            on_record(job, record.model_copy(update={"environment": other}))

    monkeypatch.setattr(local, "run_jobs", elsewhere)
    (tmp_path / "mine.py").write_text(TWO_POOLS)
    request = (
        tmp_path / "mine.py",
        "--data",
        paint(0),
        "--budget",
        "smoke",
        "--batch-size",
        "8",
        "--results",
        tmp_path,
    )
    said = vitbench("run", *request, "--seeds", "1", "--learning-rate", "1e-3", *ON_CPU)
    assert said.status == 1 and "2 recorded runs are of other images" in said.out
