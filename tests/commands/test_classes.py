"""Is a head that was trained on some classes never taken for one of others, of which there are as many?"""

from __future__ import annotations

import json

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

ON_CPU = ("--device", "cpu", "--threads", "1")
TRAIN = ("--epochs", "1", "--batch-size", "8", "--precision", "fp32", "--json", *ON_CPU)


@pytest.fixture
def of_cats_and_dogs(vitbench, tmp_path, paint):
    """A run of two classes, cat and dog, whose weights are kept."""
    said = vitbench("train", "Nano/4", "--data", paint(0), "--results", tmp_path, *TRAIN)
    return json.loads(said.out)["run_id"]


def keep_no_names(tmp_path, run):
    """As files were written before names were kept."""
    path = tmp_path / "checkpoints" / f"{run}.safetensors"
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata.pop("class_names")) == ["cat", "dog"]
    save_file(load_file(path), path, metadata=metadata)


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        (("dog", "emu"), "class 0 is 'cat' to the model, and 'dog' in these images"),
        (("cat", "emu"), "class 1 is 'dog' to the model, and 'emu' in these images"),
    ],
)
def test_a_head_is_not_kept_for_other_classes(vitbench, tmp_path, paint, of_cats_and_dogs, classes, says):
    other = paint(1, classes=classes, where=tmp_path / "other")
    request = ("train", "--init", of_cats_and_dogs, "--data", other, "--results", tmp_path, *TRAIN)
    said = vitbench(*request, "--keep-head", "--epochs", "0")
    assert said.status == 2 and said.err.count("\n") == 1 and said.err.startswith("vitbench: keep_head: ")
    assert says in said.err and "leave --keep-head out" in said.err
    assert vitbench(*request).status == 0  # a new head may learn any classes


def test_a_head_of_the_same_classes_is_kept_on_other_images(vitbench, tmp_path, paint, of_cats_and_dogs):
    other = paint(1, train=20, where=tmp_path / "other")
    request = ("train", "--init", of_cats_and_dogs, "--data", other, "--results", tmp_path, "--keep-head", *TRAIN)
    said = vitbench(*request, "--epochs", "0")
    assert said.status == 0 and not said.err
    keep_no_names(tmp_path, of_cats_and_dogs)
    said = vitbench(*request, "--epochs", "0", "--seed", "1")
    assert said.status == 0 and "whether they are the same was not checked" in said.err


def test_three_sets_of_four_classes_are_not_one(vitbench, tmp_path):
    shapes = ("--train-images", "64", "--results", tmp_path, "--epochs", "1", "--batch-size", "32", "--json", *ON_CPU)
    run = json.loads(vitbench("train", "Nano/8", "--data", "shapes", *shapes).out)["run_id"]
    said = vitbench("train", "--init", run, "--keep-head", "--data", "shapes/quadrant", *shapes)
    assert said.status == 2 and "class 0 is 'left' to the model, and 'upper left' in these images" in said.err


def test_a_confusion_is_drawn_of_the_models_own_classes_alone(vitbench, tmp_path, paint, of_cats_and_dogs, monkeypatch):
    monkeypatch.setattr("vitbench.analysis.insides.figures.render", lambda *_, **__: {})

    def figures(*classes, only="confusion,rollout"):
        data = paint(1, classes=classes, where=tmp_path / "-".join(classes))
        arguments = (
            "--data",
            data,
            "--only",
            only,
            "--images",
            "4",
            "--results",
            tmp_path,
            "--device",
            "cpu",
            "--json",
        )
        said = vitbench("figures", of_cats_and_dogs, *arguments)
        return json.loads(said.out), said.err

    document, said = figures("dog", "emu")
    assert document["skipped"] == {"confusion": "class 0 is 'cat' to the model, and 'dog' in these images"} and not said
    shown = document["figures"]["rollout"]["images"]
    assert {one["label"] for one in shown} == {"dog", "emu"} and {one["predicted"] for one in shown} <= {"cat", "dog"}
    document, said = figures("cat", "dog", only="confusion")
    assert document["figures"]["confusion"]["classes"] == ["cat", "dog"] and not said
    keep_no_names(tmp_path, of_cats_and_dogs)
    document, said = figures("dog", "emu", only="confusion")
    assert "confusion" in document["figures"] and "whether they are the same was not checked" in said
