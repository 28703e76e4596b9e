"""Does `vitbench train` train as a budget does, where it is asked to?"""

from __future__ import annotations

import json

import pytest

from vitbench.config import TrainConfig
from vitbench.data import describe
from vitbench.studies import BUDGETS, load_study, plan


@pytest.mark.parametrize(("budget", "dataset"), [("smoke", "digits"), ("quick", "shapes"), ("standard", "digits")])
def test_a_recipe_is_that_of_the_budgets_studies(vitbench, tmp_path, monkeypatch, budget, dataset):
    asked = []
    monkeypatch.setattr("vitbench.commands.train._execute_here", lambda job: asked.append(job.run.config) or _stop())
    vitbench("train", "Nano/2", "--recipe", budget, "--data", dataset, "--results", tmp_path, "--learning-rate", 1e-3)
    planned = plan(load_study("position"), BUDGETS[budget], describe(dataset))[0].config
    (config,) = asked
    assert config.train == planned.train.replace(learning_rate=1e-3)
    assert (config.data.crop_padding, config.data.flip) == (planned.data.crop_padding, planned.data.flip)


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
