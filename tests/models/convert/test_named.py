"""Are weights found by name, known by content, and their absence told in one line?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from huggingface_hub.errors import LocalEntryNotFoundError

from tests.models.convert.saved_weights import checkpoint, save, save_timm
from vitbench.models.convert import Hints, load_named, weights_identity
from vitbench.models.convert.named import _from_timm


@pytest.fixture(autouse=True)
def nothing_remembered():
    _from_timm.cache_clear()


def test_a_checkpoint_of_timm_is_loaded_by_name(tmp_path):
    name = save_timm(tmp_path / "mine")
    model = load_named(name, in_channels=3)
    peer = timm.create_model(name.removeprefix("timm:"), pretrained=True).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(images), peer(images), rtol=0, atol=1e-5)
    assert model.config.num_classes == 7


def test_timm_fits_the_first_layer_to_the_data_s_channels(tmp_path):
    name = save_timm(tmp_path / "mine")
    grey, coloured = (load_named(name, in_channels=c).stem.proj.weight for c in (1, 3))
    # A grey image is one whose channels are equal.
    torch.testing.assert_close(grey, coloured.view(32, 3, 16).sum(dim=1), rtol=0, atol=1e-6)


def test_identity_is_the_content_s_and_not_the_place_s(tmp_path):
    here, there = save_timm(tmp_path / "a" / "mine"), save_timm(tmp_path / "b" / "mine")
    other = save_timm(tmp_path / "c" / "mine", seed=1)
    ids = [weights_identity(name, load_named(name, in_channels=3)) for name in (here, there, other)]
    assert ids[0] == ids[1] != ids[2]
    assert ids[0].startswith("timm:mine@") and len(ids[0].partition("@")[2]) == 8


def test_an_npz_file_is_loaded_by_its_path(tmp_path):
    path = save(tmp_path, checkpoint("vit"))
    model = load_named(str(path), in_channels=3)
    assert weights_identity(str(path), model).startswith("weights.npz@")
    expected = np.load(path)["head/bias"]
    np.testing.assert_array_equal(model.head.classifier.bias.detach(), expected)
    with pytest.raises(ValueError, match="is for images of 3 channels, but the data's have 1"):
        load_named(str(path), in_channels=1)


def test_what_an_npz_file_does_not_tell_is_taken_from_the_hints(tmp_path):
    oblong, bare = checkpoint("bv", pool="gap"), checkpoint("bv", pool="gap")
    oblong["pos_embedding"] = oblong["pos_embedding"][:, :6]
    del bare["pos_embedding"]
    (tmp_path / "bare").mkdir()
    hints = Hints(image_size=(8, 12), activation="gelu", position="sincos_2d")
    told, untold, square = (
        load_named(str(save(folder, arrays)), in_channels=3, hints=hints).config
        for folder, arrays in ((tmp_path, oblong), (tmp_path / "bare", bare), (tmp_path, checkpoint("vit")))
    )
    assert (told.grid, told.position, told.activation) == ((2, 3), "learned_1d", "gelu")
    assert (untold.grid, untold.position, untold.activation) == ((2, 3), "sincos_2d", "gelu")
    assert square.image_size == 12
    assert load_named(str(tmp_path / "weights.npz"), in_channels=3).config.activation == "gelu_tanh"


def test_identity_depends_on_names_and_shapes_and_not_on_bytes_alone():
    states = ({"a": (2, 3)}, {"b": (2, 3)}, {"a": (3, 2)}, {"a": (6,)}, {"a": (2, 3)})
    modules = [
        torch.nn.ParameterDict({name: torch.nn.Parameter(torch.zeros(shape)) for name, shape in state.items()})
        for state in states
    ]
    ids = [weights_identity("weights.npz", module) for module in modules]
    assert len(set(ids)) == 4 and ids[0] == ids[-1]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "timm:vit_tiny_patch16_225",
            r"^init 'timm:vit_tiny_patch16_225' is no model of timm; did you mean timm:vit_tiny",
        ),
        ("timm:vit_base_patch16_xp_224", "timm has no weights for this model"),
        ("timm:local-dir:/nowhere", "^init 'timm:local-dir:/nowhere' cannot be loaded: "),
        ("weights.pt", "^init 'weights.pt' is neither timm:NAME, nor a run_id, nor a FILE.safetensors or FILE.npz"),
        ("missing.npz", "missing.npz cannot be read as npz"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(name, says):
    with pytest.raises(ValueError, match=says) as refusal:
        load_named(name, in_channels=3)
    assert "\n" not in str(refusal.value)


def test_a_hub_that_cannot_be_reached_is_said_in_one_line(monkeypatch):
    def unreachable(*arguments: Any, **settings: Any) -> None:
        raise LocalEntryNotFoundError("An error happened\nwhile trying to locate the file")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(
        ValueError, match=r"cannot be loaded: LocalEntryNotFoundError: An error happened while .* HF_HOME"
    ) as refusal:
        load_named("timm:vit_tiny_patch16_224", in_channels=3)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("deit_tiny_distilled_patch16_224", "dist_token"),
        ("resnet18", "module 'ResNet' cannot be expressed"),
    ],
)
def test_what_cannot_be_expressed_is_refused_before_its_weights_are_looked_for(monkeypatch, name, says):
    create, asked = timm.create_model, []

    def watched(model_name: str, *, pretrained: bool, **settings: Any) -> torch.nn.Module:
        asked.append(pretrained)
        return create(model_name, pretrained=False, **settings)

    monkeypatch.setattr(timm, "create_model", watched)
    with pytest.raises(ValueError, match=rf"^init 'timm:{name}': {says}"):
        load_named(f"timm:{name}", in_channels=3)
    assert asked == [False]
    assert load_named("timm:vit_tiny_patch16_224", in_channels=3).config.width == 192 and asked == [False, False, True]


def damage(folder: Path, kind: str) -> None:
    config = folder / "config.json"
    match kind:
        case "weights cut off":
            weights = (folder / "pytorch_model.bin").read_bytes()
            (folder / "pytorch_model.bin").write_bytes(weights[: len(weights) // 2])
        case "safetensors cut off":
            (folder / "model.safetensors").write_bytes(b"\x00\x01")  # timm prefers this file
        case "no architecture":
            config.write_text("{}")
        case "not JSON":
            config.write_text("{")
        case "unknown argument":
            config.write_text(json.dumps(json.loads(config.read_text()) | {"model_args": {"colour": "red"}}))


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("weights cut off", r"\w+Error"),
        ("safetensors cut off", "SafetensorError"),
        ("no architecture", "KeyError"),
        ("not JSON", "JSONDecodeError"),
        ("unknown argument", "TypeError"),
    ],
)
def test_a_damaged_folder_is_said_in_one_line_with_the_kind_of_error(tmp_path, kind, error):
    name = save_timm(tmp_path / "mine")
    damage(tmp_path / "mine", kind)
    with pytest.raises(ValueError, match=rf"^init '{name}' cannot be loaded: {error}: ") as refusal:
        load_named(name, in_channels=3)
    assert "\n" not in str(refusal.value)
