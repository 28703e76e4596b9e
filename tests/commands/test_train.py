"""Does `vitbench train` train as a budget does, where it is asked to?"""

from __future__ import annotations

import json

import pytest
import torch

from tests.commands.kept_weights import keep_weights
from tests.execution.run_results import with_other_bits
from vitbench.config import TrainConfig
from vitbench.data import describe
from vitbench.models.weights import load_trained
from vitbench.records import RecordStore
from vitbench.studies import BUDGETS, load_study, make_plan


@pytest.mark.parametrize(("budget", "dataset"), [("smoke", "digits"), ("quick", "shapes"), ("standard", "digits")])
def test_a_recipe_is_that_of_the_budgets_studies(vitbench, tmp_path, monkeypatch, budget, dataset):
    asked = []
    monkeypatch.setattr(
        "vitbench.execution.single.execute_watched", lambda job: asked.append(job.run.config) or _stop()
    )
    vitbench("train", "Nano/2", "--recipe", budget, "--data", dataset, "--results", tmp_path, "--learning-rate", 1e-3)
    planned = make_plan(load_study("position"), BUDGETS[budget], describe(dataset)).runs[0].config
    (config,) = asked
    assert config.train == planned.train.replace(learning_rate=1e-3)
    assert (config.data.crop_padding, config.data.flip) == (planned.data.crop_padding, planned.data.flip)


@pytest.mark.parametrize(
    ("options", "padding"), [((), 4), (("--image-size", 48), 6), (("--image-size", 48, "--crop-padding", 4), 4)]
)
def test_crops_move_by_the_same_share_of_images_of_another_size_unless_told(
    vitbench, tmp_path, monkeypatch, options, padding
):
    # As CIFAR-10, but there: digits come at 8 pixels, and have no crops of their own.
    info = describe("digits").model_copy(update={"image_size": (32, 32), "crop_padding": 4})
    asked = []
    monkeypatch.setattr("vitbench.execution.single.describe", lambda *_, **__: info)
    monkeypatch.setattr(
        "vitbench.execution.single.execute_watched", lambda job: asked.append(job.run.config) or _stop()
    )
    vitbench("train", "Nano/4", "--data", "digits", "--results", tmp_path, *options)
    (config,) = asked
    assert config.data.crop_padding == padding


def test_crops_follow_the_image_size_of_initial_weights(vitbench, tmp_path, monkeypatch):
    info = describe("digits").model_copy(update={"crop_padding": 2})
    asked = []
    monkeypatch.setattr("vitbench.execution.single.describe", lambda *_, **__: info)
    monkeypatch.setattr(
        "vitbench.execution.single.execute_watched", lambda job: asked.append(job.run.config) or _stop()
    )
    vitbench("train", "--init", keep_weights(tmp_path, image_size=12), "--data", "digits", "--results", tmp_path)
    (config,) = asked
    # 2 pixels of 8 are 3 of 12.
    assert (config.model.image_size, config.data.crop_padding) == (12, 3)


def _stop():
    raise ValueError("asked, and not run")


def test_what_is_given_goes_over_the_recipe(vitbench, tmp_path):
    arguments = ("--recipe", "smoke", "--batch-size", 128, "--train-images", 256, "--results", tmp_path, "--json")
    said = vitbench("train", "Nano/2", *arguments)
    assert said.status == 0, said.err
    record = json.loads(said.out)
    assert record["config"]["train"]["epochs"] == 1 != TrainConfig().epochs
    assert record["config"]["train"]["batch_size"] == 128
    assert record["design"]["train_images"] == 256


def test_an_unknown_recipe_is_refused(vitbench, tmp_path):
    said = vitbench("train", "Nano/2", "--recipe", "grand", "--results", tmp_path)
    assert said.status == 2
    assert "grand" in said.err


def test_the_weights_of_a_run_are_kept_and_another_run_starts_from_them(vitbench, tmp_path):
    small = ("--data", "digits", "--train-images", 128, "--batch-size", 64, "--epochs", 1, "--precision", "fp32")
    request = ("train", "Nano/2", *small, "--device", "cpu", "--threads", 1, "--results", tmp_path, "--json")
    first = json.loads(vitbench(*request, "--no-keep-weights").out)
    assert not list(tmp_path.glob("checkpoints/*"))
    again = json.loads(vitbench(*request).out)  # recorded, but its weights are not there
    assert again["weights_sha256"] == first["weights_sha256"]
    (path,) = tmp_path.glob("checkpoints/*")
    assert path.name == f"{first['run_id']}.safetensors"
    kept = load_trained(path)
    assert kept.weights_sha256 == first["weights_sha256"]
    written = path.stat().st_mtime_ns
    assert json.loads(vitbench(*request).out) == again and path.stat().st_mtime_ns == written

    for name in (first["run_id"][:8], path):
        record = json.loads(vitbench("train", "--init", name, *small, *request[-5:], "--learning-rate", 1e-9).out)
        assert record["config"]["init"] == f"run:{first['run_id']}@{first['weights_sha256'][:8]}"
    # At a rate of almost nothing all but the head is what it was.
    tuned = load_trained(tmp_path / "checkpoints" / f"{record['run_id']}.safetensors").model.state_dict()
    for name, value in kept.model.state_dict().items():
        assert torch.allclose(tuned[name], value, atol=1e-6) != name.startswith("head."), name


def test_a_run_that_has_other_bits_with_other_threads_is_trained_for_its_weights_once(vitbench, tmp_path):
    small = ("--data", "digits", "--train-images", 128, "--batch-size", 64, "--epochs", 1, "--precision", "fp32")
    request = ("train", "Nano/2", *small, "--device", "cpu", "--threads", 1, "--results", tmp_path, "--json")
    vitbench(*request, "--no-keep-weights")
    store = RecordStore(tmp_path)
    (first,) = store.read("train")
    first = with_other_bits(first, threads=2)
    store.path("train").unlink()
    store.append(first)
    trained, third = vitbench(*request), vitbench(*request)
    assert (trained.status, third.status, trained.err + third.err) == (0, 0, "") and third.out == trained.out
    assert len(store.read("train")) == 2 and store.read("train")[0] == first


def test_attention_alone_can_be_fine_tuned_at_another_image_size(vitbench, tmp_path):
    small = ("--data", "digits", "--train-images", 128, "--batch-size", 64, "--epochs", 1, "--precision", "fp32")
    place = ("--device", "cpu", "--threads", 1, "--results", tmp_path, "--json")
    first = json.loads(vitbench("train", "Nano/2", *small, *place).out)
    tuned = json.loads(
        vitbench("train", "--init", first["run_id"], "--image-size", 12, "--trainable", "attention", *small, *place).out
    )
    assert tuned["config"]["model"]["image_size"] == 12 and tuned["outcome"] == "completed"
    before, after = (
        load_trained(tmp_path / "checkpoints" / f"{run['run_id']}.safetensors").model.state_dict()
        for run in (first, tuned)
    )
    for name, value in before.items():
        if name == "position.tables.0.table":
            assert value.shape[0] == 16 and after[name].shape[0] == 36
        else:
            moved = ".attention." in name or name.startswith("head.")
            assert torch.equal(value, after[name]) != moved, name
