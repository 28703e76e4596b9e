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
