"""Is an exported model the trained one, read by the library that it is for, and is what cannot leave refused?"""

from __future__ import annotations

import json

import pytest
import timm
import torch

from vitbench.config import DataConfig, RunConfig, TrainConfig
from vitbench.inspection import model_export
from vitbench.models import build_model
from vitbench.models.weights import load_trained, save_trained
from vitbench.variants import variant

MEAN, STD = (0.4,), (0.3,)


@pytest.fixture
def trained(tmp_path):
    """`trained(pool="gap")`: a model as a run leaves it; what is exported need not have learned anything."""

    def make(**fields):
        shape = {"image_size": 8, "in_channels": 1, "num_classes": 10}
        config = RunConfig(model=variant("Nano/2", **shape, **fields), data=DataConfig(), train=TrainConfig(epochs=1))
        model = build_model(config.model, seed=3)
        with torch.no_grad():
            model.head.classifier.weight.normal_()  # a head of zeros would hide the rest
        path = tmp_path / f"{config.run_id}.safetensors"
        save_trained(path, model, config, mean=MEAN, std=STD, class_names=[*"0123456789"])
        return load_trained(path)

    return make


def images(size: int) -> torch.Tensor:
    return torch.randn(size, 1, 8, 8, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize("fields", [{}, {"pool": "map"}, {"position": "rope_2d", "position_site": "every_layer"}])
def test_safetensors_hold_weights_and_configuration(trained, tmp_path, fields):
    model = trained(**fields)
    document = model_export.export_model(model, tmp_path / "out.safetensors", "safetensors")
    again = load_trained(tmp_path / "out.safetensors")
    assert document["largest_difference"] == 0 and again.config == model.config and again.mean == MEAN
    torch.testing.assert_close(again.model(images(3)), model.model(images(3)), rtol=0, atol=0)


@pytest.mark.parametrize(
    "fields", [{}, {"pool": "gap", "num_registers": 2}, {"position": "sincos_2d"}, {"pool": "map"}]
)
def test_timm_reads_the_folder_by_itself(trained, tmp_path, fields):
    model = trained(**fields)
    model_export.export_model(model, tmp_path / "folder", "timm")
    theirs = timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True).eval()
    torch.testing.assert_close(theirs(images(4)), model.model(images(4)), rtol=0, atol=1e-5)
    assert theirs.pretrained_cfg["mean"] == list(MEAN) and theirs.pretrained_cfg["label_names"] == [*"0123456789"]
    assert json.loads((tmp_path / "folder" / "config.json").read_text())["vitbench"]["seed"] == 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


@pytest.mark.parametrize("fields", [{}, {"pool": "map", "position": "relative", "position_site": "every_layer"}])
def test_onnx_takes_any_batch(trained, tmp_path, fields):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = trained(**fields)
    document = model_export.export_model(model, tmp_path / "out.onnx", "onnx")
    session = runtime.InferenceSession(str(tmp_path / "out.onnx"), providers=["CPUExecutionProvider"])
    (theirs,) = session.run(["logits"], {"images": images(5).numpy()})
    torch.testing.assert_close(torch.from_numpy(theirs), model.model(images(5)), rtol=0, atol=1e-4)
    assert json.loads(session.get_modelmeta().custom_metadata_map["mean"]) == list(MEAN)
    assert document["largest_difference"] <= model_export.TOLERANCE


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"activation": "swiglu"}, "activation 'swiglu'"),
        ({"norm_eps": 1e-3}, "norm_eps 0.001"),
        ({"position": "rope_2d", "position_site": "every_layer"}, "position 'rope_2d, every_layer'"),
    ],
)
def test_what_a_folder_for_timm_cannot_say_is_refused_and_nothing_is_left(trained, tmp_path, fields, says):
    with pytest.raises(ValueError, match=says):
        model_export.export_model(trained(**fields), tmp_path / "folder", "timm")
    assert not (tmp_path / "folder").exists()


def test_a_model_that_comes_back_different_is_not_written(trained, tmp_path, monkeypatch):
    model = trained()
    create_model = timm.create_model

    def with_another_head(*arguments, **options):
        module = create_model(*arguments, **options)
        torch.nn.init.ones_(module.head.weight)
        return module

    monkeypatch.setattr(timm, "create_model", with_another_head)
    with pytest.raises(ValueError, match="nothing was written"):
        model_export.export_model(model, tmp_path / "folder", "timm")
    assert not (tmp_path / "folder").exists()


def test_a_folder_that_is_there_is_kept(trained, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("mine")
    with pytest.raises(ValueError, match="is there already"):
        model_export.export_model(trained(), tmp_path / "folder", "timm")
    assert (tmp_path / "folder" / "mine").read_text() == "mine"


def test_the_command_exports_a_run(trained, tmp_path, vitbench):
    model = trained()
    (path,) = tmp_path.glob("*.safetensors")
    said = vitbench("export", path, "--to", "timm", "--out", tmp_path / "folder", "--json")
    assert said.status == 0 and json.loads(said.out)["weights"] == model.identity
    assert vitbench("export", path, "--to", "keras", "--out", tmp_path / "other").status == 2
