"""Does `vitbench train --init` start from the weights that it names, and record which they were?"""

from __future__ import annotations

import json

import pytest
import torch

from tests.models.convert.test_named import save_timm
from vitbench.models import convert


@pytest.fixture
def mine(tmp_path):
    return save_timm(tmp_path / "mine")


def record_of(said):
    assert said.status == 0, said.err
    return json.loads(said.out)


def test_a_run_starts_from_the_weights_and_records_their_identity(vitbench, tmp_path, mine):
    # A learning rate of almost nothing: what was learned is what was there.
    arguments = ("--learning-rate", 1e-12, "--epochs", 1, "--results", tmp_path / "results", "--json")
    record = record_of(vitbench("train", "--init", mine, *arguments))
    identity = convert.identity(mine, convert.load_named(mine, in_channels=1))
    assert record["config"]["init"] == identity and identity.startswith("timm:mine@")
    assert record["arm"] == "timm:mine" and record["outcome"] == "completed"
    model = record["config"]["model"]
    assert (model["image_size"], model["width"], model["num_classes"], model["in_channels"]) == (32, 32, 10, 1)
    again = vitbench("train", "--init", mine, *arguments)
    assert record_of(again)["finished"] == record["finished"]  # recorded before; not run again
    scratch = record_of(
        vitbench("train", "Mini/4", "--width", 32, "--depth", 2, "--num-heads", 2, "--mlp-ratio", 4, *arguments)
    )
    assert scratch["run_id"] != record["run_id"] and scratch["config"]["init"] is None


def test_another_image_size_and_a_named_variant_may_be_asked_for(vitbench, tmp_path, mine):
    shape = ("--width", 32, "--depth", 2, "--num-heads", 2, "--mlp-ratio", 4, "--image-size", 16)
    rest = ("--epochs", 1, "--results", tmp_path / "results", "--json")
    record = record_of(vitbench("train", "Mini/4", "--init", mine, *shape, *rest))
    assert record["config"]["model"]["image_size"] == 16 and record["arm"] == "Mini/4"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "vitbench: VARIANT is missing: give one"),
        (["--init", "timm:nonsense"], "vitbench: init 'timm:nonsense' is no model of timm"),
        (["--init", "mine", "--width", "64"], "vitbench: width 64 is not that of the initial weights, 32"),
        (["--init", "mine", "--num-classes", "3"], "vitbench: num_classes 3 does not fit digits, which has 10"),
        (["Mini/8", "--init", "mine"], "patch_size 8 is not that of the initial weights, 4"),
    ],
)
def test_a_wrong_request_is_refused_in_one_line(vitbench, tmp_path, mine, arguments, says):
    arguments = [mine if argument == "mine" else argument for argument in arguments]
    said = vitbench("train", *arguments, "--results", tmp_path / "results")
    assert said.status == 2 and says in said.err and said.err.count("\n") == 1, said.err
    assert not (tmp_path / "results").exists()


def test_weights_that_changed_between_plan_and_run_are_a_failed_record(vitbench, tmp_path, mine, monkeypatch):
    load = convert.load_named

    def changed(name, *, in_channels):
        model = load(name, in_channels=in_channels)
        with torch.no_grad():
            model.class_token += 1
        return model

    calls = iter((load, changed))
    monkeypatch.setattr(convert, "load_named", lambda name, *, in_channels: next(calls)(name, in_channels=in_channels))
    said = vitbench("train", "--init", mine, "--epochs", 1, "--results", tmp_path / "results", "--json")
    record = json.loads(said.out)
    assert said.status == 1 and record["outcome"] == "failed" and "was planned, but" in record["reason"]
