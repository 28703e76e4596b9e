"""Does `vitbench figures` show what is inside a run, say what has no meaning for it, and refuse what it cannot do?"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.models.convert.saved_weights import checkpoint, save, save_timm
from vitbench.analysis.insides.figures import KINDS, render
from vitbench.commands.figures import NAMES
from vitbench.config import DataConfig, RunConfig, TimmConfig, TrainConfig, ViTConfig
from vitbench.data import load, normalise
from vitbench.evaluation import attention_maps
from vitbench.models import build_model, convert, recording
from vitbench.models.weights import load_trained, save_trained

SMALL = {"image_size": 8, "in_channels": 1, "patch_size": 2, "width": 32, "depth": 2, "num_heads": 2, "num_classes": 10}


@pytest.fixture
def kept(tmp_path: Path) -> Callable[..., str]:
    """Keeps the weights of a run on digits, untrained; returns its run_id."""

    def keep(*, timm: str | None = None, seed: int = 0, **fields: Any) -> str:
        shape = {"image_size": 8, "in_channels": 1, "num_classes": 10}
        model_config = TimmConfig(timm=timm, **shape) if timm else ViTConfig(**{**SMALL, **fields})
        config = RunConfig(model=model_config, data=DataConfig(dataset="digits"), train=TrainConfig(), seed=seed)
        path = tmp_path / "checkpoints" / f"{config.run_id}.safetensors"
        channels = config.model.in_channels
        save_trained(path, build_model(config.model, seed=seed), config, mean=(0.3,) * channels, std=(0.25,) * channels)
        return config.run_id

    return keep


@pytest.fixture
def figures(vitbench, tmp_path):
    """Calls the command on the CPU; returns what it said."""

    def call(*arguments: object):
        return vitbench("figures", *arguments, "--results", tmp_path, "--device", "cpu")

    return call


@pytest.fixture
def undrawn(monkeypatch):
    """For tests of numbers: drawing takes longer than all the rest."""
    monkeypatch.setattr("vitbench.analysis.insides.figures.render", lambda *_, **__: {})


def test_a_run_has_every_figure_and_each_can_be_drawn_again_from_its_numbers(figures, kept, tmp_path):
    run = kept()
    said = figures(run[:6], "--images", 16)
    assert (said.status, said.err) == (0, "")
    folder = tmp_path / "figures" / run
    expected = {f"{name}.{suffix}" for name in NAMES for suffix in ("png", "svg")} | {"numbers.json"}
    assert {path.name for path in folder.iterdir()} == expected
    assert {Path(line).name for line in said.out.splitlines()} == expected
    document = json.loads((folder / "numbers.json").read_text())
    assert (document["run_id"], document["skipped"]) == (run, {}) and tuple(KINDS) == NAMES
    for name in ("filters", "class-token", "cka"):
        numbers = document["figures"][name]
        assert (folder / f"{name}.svg").read_bytes() == render(numbers["kind"], numbers, numbers["about"])["svg"], name
    assert document["figures"]["distance"]["data"]["rows"] == [i * 599 // 16 for i in range(16)]
    assert (folder / "numbers.json").stat().st_size < 100_000


def test_as_json_its_numbers_are_those_of_the_model(figures, kept, tmp_path, undrawn):
    run = kept()
    document = json.loads(figures(run, "--only", "confusion,rollout", "--only", "filters", "--images", 8, "--json").out)
    assert list(document["figures"]) == ["filters", "rollout", "confusion"]
    trained = load_trained(tmp_path / "checkpoints" / f"{run}.safetensors")
    digits = load("digits")
    pixels = torch.from_numpy(np.array(digits.test.array))
    with torch.inference_mode():
        predicted = trained.model(normalise(pixels, trained.mean, trained.std)).argmax(dim=-1).numpy()
    counts = np.array(document["figures"]["confusion"]["counts"])
    assert counts.sum(axis=1).tolist() == np.bincount(digits.test.labels).tolist()
    assert counts.sum(axis=0).tolist() == np.bincount(predicted, minlength=10).tolist()
    assert document["figures"]["confusion"]["top1"] == (predicted == digits.test.labels).mean()
    images = document["figures"]["rollout"]["images"]
    assert [image["label"] for image in images] == [str(digits.test.labels[image["row"]]) for image in images]
    assert [image["predicted"] for image in images] == [str(predicted[image["row"]]) for image in images]
    assert len(images) == 8
    relative = np.array(document["figures"]["rollout"]["relative"])
    assert relative.shape == (8, 4, 4)
    np.testing.assert_allclose(relative.mean(axis=(1, 2)), 1, rtol=0, atol=1e-4)


def blind(model: torch.nn.Module) -> None:
    """Queries of zero: attention to all tokens alike."""
    with torch.no_grad():
        for block in model.blocks:
            block.attention.qkv.weight[:32] = 0
            block.attention.qkv.bias[:32] = 0


def test_a_model_that_attends_to_all_tokens_alike_has_the_grids_mean_distance_and_an_even_rollout(
    figures, tmp_path, undrawn
):
    config = RunConfig(model=ViTConfig(**SMALL), data=DataConfig(dataset="digits"))
    model = build_model(config.model)
    blind(model)
    save_trained(tmp_path / "blind.safetensors", model, config, mean=(0.3,), std=(0.25,))
    said = figures(tmp_path / "blind.safetensors", "--only", "distance,rollout,class-token", "--images", 8, "--json")
    numbers = json.loads(said.out)["figures"]
    steps = [(2 * (i - k), 2 * (j - m)) for i in range(4) for j in range(4) for k in range(4) for m in range(4)]
    mean = np.hypot(*np.transpose(steps)).mean()
    assert numbers["distance"]["uniform_pixels"] == pytest.approx(mean)
    np.testing.assert_allclose(numbers["distance"]["distance_pixels"], mean, rtol=1e-5)
    np.testing.assert_allclose(numbers["distance"]["prefix_share"], 1 / 17, rtol=1e-5)
    np.testing.assert_allclose(numbers["rollout"]["relative"], 1, rtol=1e-5)
    np.testing.assert_allclose(numbers["class-token"]["relative"], 1, rtol=1e-5)
    # Of the class token's own, what two layers leave: ¼ + ¾ / 17.
    np.testing.assert_allclose(numbers["rollout"]["prefix_share"], 1 / 4 + 3 / 4 / 17, rtol=1e-5)


def test_similarity_of_a_sincos_table_is_a_mean_of_cosines_of_offsets(figures, kept, undrawn):
    # A place holds sin and cos of ω x and ω y for 8 frequencies each, so that ⟨p, q⟩ is a sum of cos ω Δ, and |p|² is 16.
    said = figures(kept(position="sincos_2d"), "--only", "position", "--json")
    found = np.array(json.loads(said.out)["figures"]["position"]["similarity"])
    frequencies = 10_000.0 ** (-np.arange(8) / 7)
    for i, j, k, m in np.ndindex(4, 4, 4, 4):
        expected = (np.cos(frequencies * (i - k)) + np.cos(frequencies * (j - m))).sum() / 16
        assert found[i, j, k, m] == pytest.approx(expected, abs=1e-5)


def test_what_has_no_meaning_for_a_model_is_left_out_with_its_reason(figures, kept, tmp_path, undrawn):
    run = kept(pool="gap", position="rope_2d", position_site="every_layer", stem="conv", stem_width=16)
    said = figures(run, "--images", 8)
    assert said.status == 0
    reasons = [line for line in said.out.splitlines() if "has no figure" in line]
    assert [line.partition(" ")[0] for line in reasons] == ["filters", "position", "class-token"]
    assert "convolutions" in reasons[0] and "rotations" in reasons[1] and "no class token" in reasons[2]
    assert not (tmp_path / "figures" / run / "filters.png").exists()
    document = json.loads((tmp_path / "figures" / run / "numbers.json").read_text())
    assert set(document["skipped"]) == {"filters", "position", "class-token"}
    assert "mean of all patches, since there is no class token" in document["figures"]["rollout"]["reads"]


def test_layers_of_two_runs_are_compared_even_with_a_model_of_timm_at_another_size(figures, kept, undrawn):
    ours, other, net = kept(), kept(seed=1, image_size=16), kept(timm="resnet18")
    for name, layers in ((other, ["stem", "1", "2"]), (net, ["act1", "layer1", "layer2", "layer3", "layer4"])):
        said = figures(ours, "--with", name, "--only", "cka", "--images", 130, "--json")
        assert said.status == 0, said.err
        numbers = json.loads(said.out)["figures"][f"cka-{name}"]
        assert numbers["layers"] == [["stem", "1", "2"], layers] and numbers["run_ids"] == [ours, name]
        assert np.shape(numbers["cka"]) == (3, len(layers))
    alone = json.loads(figures(ours, "--only", "cka", "--images", 130, "--json").out)["figures"]["cka"]
    assert np.diagonal(alone["cka"]).tolist() == pytest.approx([1, 1, 1])
    # What was there of the same weights stays beside it.
    assert set(json.loads(figures(ours, "--only", "filters", "--json").out)["figures"]) == {
        *("cka", "filters"),
        *(f"cka-{name}" for name in (other, net)),
    }
    assert all("a whole model" in reason for reason in json.loads(figures(net, "--json").out)["skipped"].values())


def test_numbers_and_pictures_of_other_weights_do_not_stay(figures, kept, tmp_path):
    run = kept()
    folder = tmp_path / "figures" / run
    figures(run, "--only", "distance", "--images", 4)
    (folder / "mine.png").write_bytes(b"")
    config = load_trained(tmp_path / "checkpoints" / f"{run}.safetensors").config
    other = build_model(config.model, seed=7)
    save_trained(tmp_path / "checkpoints" / f"{run}.safetensors", other, config, mean=(0.3,), std=(0.25,))
    document = json.loads(figures(run, "--only", "filters", "--json").out)
    assert set(document["figures"]) == {"filters"}
    assert {path.name for path in folder.iterdir()} == {"numbers.json", "filters.png", "filters.svg", "mine.png"}


@torch.inference_mode()
def mean_distances(model, images):
    """Mean attention distance in pixels, [blocks, heads]."""
    between = attention_maps.grid_distances(model.config.grid, model.config.patch_hw)
    found = []
    with recording.attention_maps(model.eval(), lambda _, maps: found.append(maps)):
        model(images)
    return torch.stack([attention_maps.attention_distance(maps, between).mean(dim=0) for maps in found]).numpy()


def test_weights_of_timm_have_figures_on_the_data_that_are_given(figures, kept, tmp_path):
    name = save_timm(tmp_path / "mine")
    said = figures(name, "--data", "digits", "--images", 16, "--with", kept())
    assert (said.status, said.err) == (0, "")
    model, digits = convert.load_named(name, in_channels=1), load("digits", image_size=(32, 32))
    identity = convert.weights_identity(name, model)
    folder = tmp_path / "figures" / identity.replace(":", "-")
    document = json.loads((folder / "numbers.json").read_text())
    assert document["weights"] == identity and "run_id" not in document and document["model"]["width"] == 32
    assert "position.png" in said.out and (folder / "position.png").is_file()
    assert "confusion has no figure: the model knows 7 classes, these images 10" in said.out
    # Its images are normalised as the data are, as for `vitbench probe`, and not as those of the run beside it.
    rows = document["figures"]["distance"]["data"]["rows"]
    pixels = torch.from_numpy(np.array(digits.test.array))[rows]
    found = np.array(document["figures"]["distance"]["distance_pixels"])
    np.testing.assert_allclose(found, mean_distances(model, normalise(pixels, digits.mean, digits.std)), rtol=1e-4)
    assert np.abs(found - mean_distances(model, normalise(pixels, (0.3,), (0.25,)))).max() > 1e-3
    assert identity in document["figures"]["distance"]["about"]


def test_layers_of_a_run_are_compared_with_weights_of_timm(figures, kept, tmp_path):
    name, run = save_timm(tmp_path / "mine"), kept()
    said = figures(run, "--with", name, "--only", "cka", "--images", 8)
    assert said.status == 0, said.err
    identity = convert.weights_identity(name, convert.load_named(name, in_channels=1))
    document = json.loads((tmp_path / "figures" / run / "numbers.json").read_text())
    key = f"cka-{identity.replace(':', '-')}"
    assert document["figures"][key]["run_ids"] == [run, identity] and f"{key}.svg" in said.out


def test_weights_of_timm_need_data_but_for_their_own_tables(figures, tmp_path):
    name = save_timm(tmp_path / "mine")
    said = figures(name)
    assert (
        said.status == 2
        and f"data is missing: {name} has none of its own" in said.err
        and "--only filters,position" in said.err
    )
    assert not (tmp_path / "figures").exists()
    assert figures(name, "--only", "position").status == 0


def test_a_checkpoint_of_the_papers_authors_has_figures(figures, tmp_path):
    path = save(tmp_path, checkpoint("vit"))
    said = figures(path, "--only", "filters,position")
    assert (said.status, said.err) == (0, "")
    (numbers,) = tmp_path.glob("figures/weights.npz@*/numbers.json")
    table = np.load(path)["Transformer/posembed_input/pos_embedding"][0, 1:].astype(np.float64)
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    found = np.array(json.loads(numbers.read_text())["figures"]["position"]["similarity"])
    np.testing.assert_allclose(found.reshape(len(unit), -1), unit @ unit.T, rtol=0, atol=1e-5)


def test_weights_alone_need_no_images(figures, kept, monkeypatch, undrawn):
    monkeypatch.setattr("vitbench.inspection.loaded_model.load", lambda *_, **__: pytest.fail("loaded"))
    assert figures(kept(), "--only", "filters,position").status == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--only", "filter"), "only 'filter' is not a figure; use filters, position"),
        (("--images", "600"), "images 600 is more than the 599 test images of digits"),
        (("--data", "nowhere"), "dataset 'nowhere' is neither known nor a folder"),
        (("--with", "0123"), "run '0123' has no weights"),
        (("--with", "0123", "--only", "distance"), "--with is for cka"),
    ],
)
def test_a_wrong_request_is_refused_in_a_line_and_writes_nothing(figures, kept, tmp_path, arguments, says):
    said = figures(kept(), *arguments)
    assert said.status == 2 and says in said.err and said.err.count("\n") == 1
    assert not (tmp_path / "figures").exists()


def test_images_of_other_channels_are_repeated_or_made_grey_and_that_is_said(figures, kept, folder_of_images, tmp_path):
    said = figures(
        kept(in_channels=3), "--data", folder_of_images(tmp_path / "grey"), "--images", 4, "--only", "distance"
    )
    assert said.status == 0 and "are grey, and repeated for three channels" in said.err
    said = figures(kept(in_channels=2), "--data", "digits")
    assert said.status == 2 and "takes images of 2 channels, but those of digits have 1" in said.err


def test_on_images_of_other_classes_there_is_no_confusion_and_names_are_those_of_folders(
    figures, kept, folder_of_images, tmp_path, undrawn
):
    document = json.loads(figures(kept(), "--data", folder_of_images(tmp_path / "pets"), "--images", 4, "--json").out)
    assert "the model knows 10 classes, these images 2" in document["skipped"]["confusion"]
    assert {image["label"] for image in document["figures"]["rollout"]["images"]} == {"cat", "dog"}


def test_fewer_test_images_than_usual_are_all_looked_at(figures, kept, folder_of_images, tmp_path, undrawn):
    folder = folder_of_images(tmp_path / "pets")
    said = figures(kept(), "--data", folder, "--only", "rollout", "--json")
    rows = json.loads(said.out)["figures"]["rollout"]["data"]["rows"]
    assert rows == list(range(len(load(str(folder), image_size=(8, 8)).test))) and len(rows) < 128
