"""Do `flops`, `throughput` and `trace` take an arm of a study where a variant's name stands?"""

from __future__ import annotations

import json

import pytest

STUDY = """
from vitbench.studies import Arm, Study

print("a file that prints")
STUDY = Study(question="?", source="", baseline=Arm("cls"), arms=[Arm("no class token", pool="gap")])
"""
SHORT = ("--seconds", 0.2, "--mode", "infer", "--batch-size", 2, "--no-memory")


def test_flops_of_an_arm_are_those_of_its_model_and_what_the_file_prints_is_not_in_the_json(vitbench, tmp_path):
    (tmp_path / "mine.py").write_text(STUDY)
    of_arm = vitbench("flops", f"{tmp_path}/mine.py:no class token", "--data", "digits", "--depth", 2, "--json")
    fields = ("--image-size", 8, "--in-channels", 1, "--num-classes", 10, "--pool", "gap", "--depth", 2)
    of_variant = vitbench("flops", "Micro/2", *fields, "--json")
    assert (of_arm.status, of_variant.status) == (0, 0) and "a file that prints" in of_arm.err
    facts, expected = json.loads(of_arm.out), json.loads(of_variant.out)
    assert facts.pop("variant").endswith("mine.py:no class token") and expected.pop("variant") == "Micro/2"
    assert facts == expected


def test_arms_and_variants_are_timed_side_by_side_on_the_same_images(vitbench):
    said = vitbench("throughput", "pooling:gap", "Micro/2", "--data", "digits", *SHORT, "--json")
    rows = json.loads(said.out)
    assert said.status == 0 and [row["variant"] for row in rows] == ["pooling:gap", "Micro/2"]
    assert [row["config"]["pool"] for row in rows] == ["gap", "cls"]


@pytest.mark.parametrize("command", ["flops", "throughput", "trace"])
def test_an_arm_that_is_not_there_is_refused_in_a_line(vitbench, command):
    said = vitbench(command, "pooling:gpa")
    assert (said.status, said.out) == (2, "")
    assert said.err == "vitbench: arm 'gpa' is not in pooling; did you mean gap?\n"


RECIPES = """
from vitbench.studies import Arm, Study

STUDY = Study(
    question="?",
    source="",
    baseline=Arm("base"),
    arms=[
        Arm("rec", mixup=0.2, batch_size=6, precision="fp32", compile="auto", optimizer="sgd", depth=1),
        Arm("deep", depth=2),
    ],
    train={"label_smoothing": 0.1},
)
"""


@pytest.fixture
def study(tmp_path):
    (tmp_path / "t.py").write_text(RECIPES)
    return tmp_path / "t.py"


def told(study, arm, what):
    return f"vitbench: {study}:{arm} also sets {what}, which this does not measure"


def test_throughput_takes_batch_precision_and_compile_from_the_arm_and_names_what_it_does_not_measure(vitbench, study):
    request = ("--data", "digits", "--device", "cpu", "--mode", "infer", "--seconds", 0.05, "--no-memory", "--json")
    said = vitbench("throughput", f"{study}:rec", f"{study}:deep", "Micro/2", *request)
    rows = json.loads(said.out)
    assert [row["batch_size"] for row in rows] == [6, 64, 64]
    assert rows[0]["precision"] == "fp32" and not rows[0]["compiled"]  # on CPU, `auto` is for long runs
    assert rows[1]["precision"] == rows[2]["precision"]
    assert [row["not_measured"] for row in rows] == [
        ["optimizer", "label_smoothing", "mixup"],
        ["label_smoothing"],
        [],
    ]
    lines = told(study, "rec", "optimizer, label_smoothing, mixup"), told(study, "deep", "label_smoothing")
    assert said.err.splitlines() == [*lines]


def test_what_the_command_line_gives_goes_over_the_arms(vitbench, study):
    request = ("--data", "digits", "--device", "cpu", "--mode", "infer", "--seconds", 0.05, "--no-memory", "--json")
    said = vitbench("throughput", f"{study}:rec", *request, "--batch-size", 2, "--batch-size", 3, "--precision", "bf16")
    assert [(row["batch_size"], row["precision"]) for row in json.loads(said.out)] == [(2, "bf16"), (3, "bf16")]


def test_trace_and_flops_of_an_arm_name_what_they_leave_out(vitbench, study, tmp_path):
    request = ("--data", "digits", "--device", "cpu", "--mode", "infer", "--steps", 1, "--out", tmp_path, "--json")
    (document,) = json.loads(vitbench("trace", f"{study}:rec", *request).out)
    assert (document["batch_size"], document["precision"], document["compiled"]) == (6, "fp32", False)
    assert document["not_measured"] == ["optimizer", "label_smoothing", "mixup"]
    said = vitbench("flops", f"{study}:rec", "--data", "digits", "--json")
    left_out = ["batch_size", "optimizer", "label_smoothing", "precision", "compile", "mixup"]
    assert json.loads(said.out)["not_measured"] == left_out
    assert said.err.splitlines() == [told(study, "rec", ", ".join(left_out))]


def test_a_single_run_of_an_arm_names_what_the_study_sets_beside_the_model(vitbench, study, tmp_path):
    small = ("--epochs", 1, "--train-images", 64, "--device", "cpu", "--threads", 1, "--results", tmp_path)
    given = ("--batch-size", 6, "--precision", "fp32", "--compile", "auto", "--optimizer", "sgd")
    said = vitbench("train", f"{study}:rec", *small, *given)
    assert (
        said.status == 0
        and (
            f"vitbench: {study}:rec also sets label_smoothing 0.1, mixup 0.2, which a single run does not take from it; give "
            "them as options\n"
        )
        in said.err
    )
    said = vitbench("train", f"{study}:rec", *small, *given, "--label-smoothing", "0.1", "--mixup", "0.2")
    assert said.status == 0 and "also sets" not in said.err
