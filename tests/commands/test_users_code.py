"""Do commands take a user's part by its file, and a trained model that has one?"""

from __future__ import annotations

import json

import pytest

from tests.users_study import ONE_RUN, STUDY_TEXT, write_study
from vitbench.records import RecordStore
from vitbench.user_code import loading, registry

DIGITS = ("--image-size", "8", "--in-channels", "1", "--num-classes", "10")


def macs_and_params(said) -> tuple[int, int]:
    assert said.status == 0, said.err
    facts = json.loads(said.out)
    return facts["macs"], facts["params"]


def test_a_part_is_given_as_a_file_and_its_class(vitbench, tmp_path):
    path = write_study(tmp_path)
    by_class = vitbench("flops", "Micro/2", *DIGITS, "--position", f"{path}:Shift", "--json")
    by_arm = vitbench("flops", f"{path}:shift", "--json")
    assert macs_and_params(by_class) == macs_and_params(by_arm)
    without = vitbench("flops", "Micro/2", *DIGITS, "--position", "none", "--json")
    assert macs_and_params(by_class)[1] - macs_and_params(without)[1] == 64


WHOLE = """
from torch import nn
from vitbench.studies import Arm, Study

class Net(nn.Module):
    def __init__(self, image_size, in_channels, num_classes):
        super().__init__()
        self.layer = nn.Linear(in_channels * 64, num_classes)

    def forward(self, images):
        return self.layer(images.flatten(1))

STUDY = Study(question="?", source="", baseline=Arm("cls"), arms=[Arm("net", module=Net)])
"""


def test_flops_of_a_whole_model_say_that_one_count_is_all_there_is(vitbench, tmp_path):
    name = f"{write_study(tmp_path, WHOLE)}:net"
    said = vitbench("flops", name)
    assert said.status == 0 and "alone: a user's model has no other count" in said.out
    assert json.loads(vitbench("flops", name, "--json").out)["params"] == 64 * 10 + 10


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("{path}:Shaft", "mine.py has no Shaft; did you mean Shift?"),
        ("gone.py:Shift", "there is no file 'gone.py'; give FILE.py:NAME"),
        ("{path}:SCALE", "is not a class or a function"),
        ("no_such_package:Shift", "no_such_package cannot be imported"),
    ],
)
def test_a_part_that_is_not_there_is_refused_in_a_line(vitbench, tmp_path, option, said):
    path = write_study(tmp_path)
    answer = vitbench("flops", "Micro/2", "--position", option.format(path=path))
    assert (answer.status, answer.out) == (2, "") and said in answer.err and answer.err.count("\n") == 1


def test_train_takes_an_arm_and_says_where_its_model_is_from(vitbench, tmp_path):
    path = write_study(tmp_path)
    small = ("--epochs", "1", "--train-images", "128", "--device", "cpu", "--threads", "1", "--depth", "1")
    said = vitbench("train", f"{path}:shift", *small, "--results", tmp_path, "--json")
    record = json.loads(said.out)
    assert said.status == 0 and record["variant"] == "mine:shift"
    assert record["config"]["model"]["position"].startswith("Shift@") and record["config"]["model"]["depth"] == 1


class TestTrained:
    """Weights of a model with a user's part, once trained."""

    @pytest.fixture
    def results(self, vitbench, tmp_path, in_this_process):
        path = write_study(tmp_path)
        said = vitbench("run", path, *ONE_RUN, "--jobs", "1", "--keep-weights", "--results", tmp_path / "results")
        assert said.status == 0
        return tmp_path / "results"

    def test_they_are_named_by_the_arm_or_by_the_run_and_the_study_file(self, vitbench, results, tmp_path, monkeypatch):
        run_id = {record.arm: record.run_id for record in RecordStore(results).read("mine")}["shift"]
        options = ("--only", "filters", "--results", results, "--data", "digits", "--device", "cpu", "--json")
        by_arm = json.loads(vitbench("figures", f"{tmp_path}/mine.py:shift", *options).out)
        by_run = json.loads(vitbench("figures", run_id, *options, "--study", tmp_path / "mine.py").out)
        assert by_arm == by_run
        monkeypatch.setattr(registry, "_REGISTRY", {})
        monkeypatch.setattr(loading, "modules", lambda: iter(()))
        said = vitbench("figures", run_id, *options)
        assert said.status == 2 and "give the file that has it, with --study" in said.err

    def test_an_arm_that_was_edited_since_is_not_taken_for_the_trained_one(
        self, vitbench, results, tmp_path, monkeypatch
    ):
        write_study(tmp_path, STUDY_TEXT.replace("0.5", "0.25"))
        monkeypatch.setattr(registry, "_REGISTRY", {})
        monkeypatch.setattr(loading, "modules", lambda: iter(()))  # nor other tests' files
        said = vitbench(
            "features",
            f"{tmp_path}/mine.py:shift",
            "--data",
            "digits",
            "--out",
            tmp_path / "f.npz",
            "--results",
            results,
        )
        assert said.status == 2 and "was trained with Shift@" in said.err and "sources" in said.err

    def test_an_arm_without_weights_is_refused_with_what_keeps_them(self, vitbench, results, tmp_path):
        for weights in (results / "checkpoints").glob("*.safetensors"):
            weights.unlink()
        said = vitbench("figures", f"{tmp_path}/mine.py:shift", "--results", results)
        assert said.status == 2 and "--keep-weights keeps those of new runs" in said.err
        said = vitbench("figures", "pooling:gap", "--results", results)
        assert said.status == 2 and "run it: vitbench run pooling --keep-weights" in said.err

    def test_after_the_study_file_has_gone_the_other_way_to_the_run_is_named(self, vitbench, results, tmp_path):
        runs = {record.arm: record.run_id for record in RecordStore(results).read("mine")}
        (tmp_path / "mine.py").rename(tmp_path / "renamed.py")
        options = ("--only", "filters", "--results", results, "--data", "digits", "--device", "cpu", "--json")
        gone = f"vitbench: study file '{tmp_path}/mine.py' does not exist; give its path, or the run itself: "
        with_code = ", and --study FILE.py where the model is of your code\n"
        for arm, ending in (
            ("1-D", f"{runs['1-D']}\n"),
            ("shift", runs["shift"] + with_code),
            ("?", f"RUN_ID{with_code}"),
        ):
            said = vitbench("figures", f"{tmp_path}/mine.py:{arm}", *options)
            assert (said.status, said.err) == (2, gone + ending)
        assert vitbench("figures", runs["1-D"], *options).status == 0
        assert vitbench("figures", runs["shift"], *options, "--study", tmp_path / "renamed.py").status == 0
