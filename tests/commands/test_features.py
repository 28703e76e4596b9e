"""Does `vitbench features` export what the model that is named makes of the images that are named?"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tests.commands.kept_weights import keep_weights
from tests.models.convert.saved_weights import save_timm
from vitbench.data import load, normalise
from vitbench.models import convert
from vitbench.models.weights import load_trained

ON_CPU = ("--device", "cpu", "--threads", "1")


@pytest.mark.parametrize("split", ["train", "test"])
def test_features_are_the_model_s_of_images_normalised_as_in_its_training(vitbench, tmp_path, split):
    path = keep_weights(tmp_path, mean=(0.3,), std=(0.2,))
    out = tmp_path / "mine.npz"
    arguments = ("--data", "digits", "--split", split, "--batch-size", 500, "--results", tmp_path, *ON_CPU)
    said = vitbench("features", path.stem[:6], "--out", out, *arguments)
    assert said.status == 0, said.err
    data = load("digits")
    images = getattr(data, split)
    with torch.inference_mode():
        pixels = normalise(torch.from_numpy(images.array), (0.3,), (0.2,))
        expected = load_trained(path).model.features(pixels).numpy()
    with np.load(out) as found:
        np.testing.assert_allclose(found["features"], expected, rtol=0, atol=1e-5)
        np.testing.assert_array_equal(found["labels"], images.labels)
        np.testing.assert_array_equal(found["ids"], np.arange(len(images)))
        facts = json.loads(str(found["facts"]))
    assert facts["weights"] == f"run:{path.stem}@{facts['weights_sha256'][:8]}" and facts["data_sha256"] == data.sha256
    assert (facts["split"], facts["mean"], facts["std"]) == (split, [0.3], [0.2])
    assert "32 features each" in said.out and str(out) in said.out


def test_images_are_resized_to_the_model_s_size_and_the_file_of_weights_may_be_given(vitbench, tmp_path):
    path = keep_weights(tmp_path, image_size=12)
    said = vitbench(
        *("features", path, "--data", "digits", "--out", tmp_path / "mine.npz", "--results", tmp_path / "nowhere"),
        *(*ON_CPU, "--json"),
    )
    assert said.status == 0, said.err
    told = json.loads(said.out)
    assert told["image_size"] == [12, 12] and told["images"] == 599 and told["width"] == 32
    images = load("digits", image_size=(12, 12)).test
    trained = load_trained(path)
    with torch.inference_mode():
        pixels = normalise(torch.from_numpy(images.array), trained.mean, trained.std)
        expected = trained.model.features(pixels).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "mine.npz")["features"], expected, rtol=0, atol=1e-5)


def test_weights_of_timm_see_images_normalised_as_the_data_are(vitbench, tmp_path):
    name = save_timm(tmp_path / "mine")
    said = vitbench("features", name, "--data", "digits", "--out", tmp_path / "mine.npz", *ON_CPU, "--json")
    assert said.status == 0, said.err
    told, data = json.loads(said.out), load("digits", image_size=(32, 32))
    assert told["mean"] == list(data.mean) and told["weights"].startswith("timm:mine@")
    with torch.inference_mode():
        pixels = normalise(torch.from_numpy(data.test.array[:5]), data.mean, data.std)
        expected = convert.load_named(name, in_channels=1).eval().features(pixels).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "mine.npz")["features"][:5], expected, rtol=0, atol=1e-4)


def test_grey_images_are_repeated_for_weights_that_take_colours(vitbench, tmp_path):
    path = keep_weights(tmp_path, in_channels=3)
    said = vitbench("features", path, "--data", "digits", "--out", tmp_path / "mine.npz", *ON_CPU)
    assert said.status == 0 and "images of digits are grey, and repeated for three channels" in said.err
    trained, images = load_trained(path), load("digits").test
    with torch.inference_mode():
        pixels = normalise(torch.from_numpy(images.array[:9]).repeat(1, 3, 1, 1), trained.mean, trained.std)
        expected = trained.model.features(pixels).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "mine.npz")["features"][:9], expected, rtol=0, atol=1e-5)


WRONG = {
    "no such run": (("abcd1234",), "run 'abcd1234' has no weights in"),
    "no such model": (("timm:nonsense",), "'timm:nonsense' is no model of timm"),
    "no such file": (("gone.safetensors",), "run 'gone.safetensors': there is no such file"),
    "other split": (("mine", "--split", "validation"), "split 'validation' is not known; use train, test"),
    "other format": (("mine", "--out", "mine.csv"), "out 'mine.csv' has no format"),
    "other precision": (("mine", "--precision", "fp8"), "precision 'fp8' is not known; use fp32, bf16"),
    "other data": (("mine", "--data", "digit"), "did you mean digits?"),
    "other device": (("mine", "--device", "tpu"), "device 'tpu' is not known"),
    "other channels": (("two",), "takes images of 2 channels, but those of digits have 1"),
    "a folder that is a file": (("mine", "--out", "FILE/mine.npz"), "cannot be written"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_request_is_refused_in_one_line_and_leaves_nothing(vitbench, tmp_path, case):
    arguments, says = WRONG[case]
    kept = {"mine": {}, "two": {"in_channels": 2}}.get(arguments[0])
    name = arguments[0] if kept is None else keep_weights(tmp_path, **kept)
    (tmp_path / "file").write_text("")
    rest = [argument.replace("FILE", str(tmp_path / "file")) for argument in arguments[1:]]
    out = tmp_path / "out" / "mine.npz"
    said = vitbench("features", name, "--data", "digits", "--out", out, "--results", tmp_path, *ON_CPU, *rest)
    assert said.status == 2 and says in said.err and said.err.count("\n") == 1, said.err
    assert not out.parent.exists()
