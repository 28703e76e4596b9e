"""Does `vitbench train --init` start from the weights that it names, and record which they were?"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tests.models.convert.saved_weights import checkpoint, save, save_timm
from vitbench.execution import initial_model
from vitbench.models import build_model, convert
from vitbench.models.inherit import inherit


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
    identity = convert.weights_identity(mine, convert.load_named(mine, in_channels=1))
    assert record["config"]["init"] == identity and identity.startswith("timm:mine@")
    assert record["arm"] == identity and record["outcome"] == "completed"
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
    assert record["config"]["model"]["image_size"] == 16
    assert record["arm"] == f"Mini/4 from {record['config']['init']}"


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

    def changed(name, **settings):
        model = load(name, **settings)
        with torch.no_grad():
            model.class_token += 1
        return model

    calls = iter((load, changed))
    monkeypatch.setattr(convert, "load_named", lambda name, **settings: next(calls)(name, **settings))
    said = vitbench("train", "--init", mine, "--epochs", 1, "--results", tmp_path / "results", "--json")
    record = json.loads(said.out)
    assert said.status == 1 and record["outcome"] == "failed" and "was planned, but" in record["reason"]


def test_another_seed_gives_another_head_and_so_another_record(vitbench, tmp_path, mine, monkeypatch):
    models = []

    def watched(*arguments, **settings):
        models.append(inherit(*arguments, **settings))
        return models[-1]

    monkeypatch.setattr(initial_model, "inherit", watched)
    # A learning rate of almost nothing: what differs in the end differed at first.
    arguments = ("--learning-rate", 1e-12, "--epochs", 1, "--results", tmp_path / "results", "--json")
    records = [record_of(vitbench("train", "--init", mine, "--seed", seed, *arguments)) for seed in (0, 1)]
    heads = [model.head.classifier.weight for model in models]
    expected = [build_model(model.config, seed=seed).head.classifier.weight for seed, model in enumerate(models)]
    assert len(heads) == 2 and not torch.allclose(*heads)
    for head, drawn in zip(heads, expected, strict=True):
        torch.testing.assert_close(head, drawn, rtol=0, atol=1e-6)
    assert records[0]["config"]["init"] == records[1]["config"]["init"]
    assert records[0]["metrics"] != records[1]["metrics"] and records[0]["correct"] != records[1]["correct"]


def save_grey(folder, *, places):
    """A checkpoint of the paper's authors for grey images; 4 × 4 pixels a patch, so many places, none without a table."""
    arrays = checkpoint("bv", pool="gap")
    arrays["embedding/kernel"] = arrays["embedding/kernel"][:, :, :1]
    table = arrays.pop("pos_embedding")
    return save(folder, arrays | ({"pos_embedding": np.ascontiguousarray(table[:, :places])} if places else {}))


@pytest.mark.parametrize(
    ("places", "options", "holds"),
    [
        (0, ("--position", "sincos_2d", "--image-size", 8), {"position": "sincos_2d", "image_size": 8}),
        (6, ("--image-size", "8x12"), {"position": "learned_1d", "image_size": [8, 12]}),
        (9, ("--activation", "gelu"), {"activation": "gelu", "image_size": 12}),
        (9, ("--image-size", 8), {"activation": "gelu_tanh", "image_size": 8}),
    ],
)
def test_what_an_npz_file_does_not_tell_may_be_given(vitbench, tmp_path, places, options, holds):
    path = save_grey(tmp_path, places=places)
    record = record_of(
        vitbench("train", "--init", path, *options, "--epochs", 1, "--results", tmp_path / "results", "--json")
    )
    assert record["outcome"] == "completed", record["reason"]
    assert {name: record["config"]["model"][name] for name in holds} == holds


@pytest.mark.parametrize(
    ("places", "options", "says"),
    [
        (0, (), "has no position table; give sincos_2d or none"),
        (0, ("--position", "sincos_2d"), "image_size is missing"),
        (6, (), "image_size is missing"),
        (6, ("--image-size", 8), "image_size 8 gives 4 patches, but"),
        (9, ("--position", "sincos_2d"), "position 'sincos_2d' is not that of the initial weights, 'learned_1d'"),
        (9, ("--activation", "gelo"), "activation 'gelo'"),
    ],
)
def test_an_npz_file_that_does_not_fit_the_request_is_refused_in_one_line(vitbench, tmp_path, places, options, says):
    path = save_grey(tmp_path, places=places)
    said = vitbench("train", "--init", path, *options, "--results", tmp_path / "results")
    assert said.status == 2 and says in said.err and said.err.count("\n") == 1, said.err
