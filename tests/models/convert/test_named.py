"""Are weights found by name, known by content, and their absence told in one line?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from huggingface_hub.errors import LocalEntryNotFoundError

from tests.models.convert.test_npz import checkpoint, save
from vitbench.models.convert import identity, load_named

MODEL: dict[str, Any] = {"img_size": 32, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2}


@pytest.fixture(autouse=True)
def nothing_remembered():
    load_named.cache_clear()


def save_timm(folder: Path, seed: int = 0) -> str:
    """A checkpoint as timm writes it, and the name that it goes by."""
    torch.manual_seed(seed)
    model = timm.create_model("vit_tiny_patch16_224", **MODEL, num_classes=7)
    timm.models.save_for_hf(model, folder, model_args=MODEL)
    return f"timm:local-dir:{folder}"


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
    ids = [identity(name, load_named(name, in_channels=3)) for name in (here, there, other)]
    assert ids[0] == ids[1] != ids[2]
    assert ids[0].startswith("timm:mine@") and len(ids[0].partition("@")[2]) == 8


def test_an_npz_file_is_loaded_by_its_path(tmp_path):
    path = save(tmp_path, checkpoint("vit"))
    model = load_named(str(path), in_channels=3)
    assert identity(str(path), model).startswith("weights.npz@")
    expected = np.load(path)["head/bias"]
    np.testing.assert_array_equal(model.head.classifier.bias.detach(), expected)
    with pytest.raises(ValueError, match="is for images of 3 channels, but the data's have 1"):
        load_named(str(path), in_channels=1)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "timm:vit_tiny_patch16_225",
            r"^init 'timm:vit_tiny_patch16_225' is no model of timm; did you mean timm:vit_tiny",
        ),
        ("timm:vit_base_patch16_xp_224", "timm has no weights for this model"),
        ("timm:local-dir:/nowhere", "^init 'timm:local-dir:/nowhere' cannot be loaded: "),
        ("weights.pt", "^init 'weights.pt' is neither timm:NAME nor a checkpoint FILE.npz"),
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
    with pytest.raises(ValueError, match=r"cannot be loaded: An error happened while .* HF_HOME") as refusal:
        load_named("timm:vit_tiny_patch16_224", in_channels=3)
    assert "\n" not in str(refusal.value)


def test_a_model_that_cannot_be_expressed_is_refused_with_its_name(monkeypatch):
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **k: create(name))
    with pytest.raises(ValueError, match=r"^init 'timm:deit_tiny_distilled_patch16_224': dist_token"):
        load_named("timm:deit_tiny_distilled_patch16_224", in_channels=3)
