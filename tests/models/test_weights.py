"""Do weights that a run was left with come back as they were, and is what is not such a file refused?"""

from __future__ import annotations

import json
import os
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vitbench.config import DataConfig, RunConfig, TrainConfig, ViTConfig
from vitbench.models import build_model
from vitbench.models.weights import find_weights, load_trained, save_trained, weights_sha256

SMALL = {"image_size": 8, "in_channels": 1, "patch_size": 2, "width": 32, "depth": 2, "num_heads": 1, "num_classes": 10}


def run_config(**model) -> RunConfig:
    return RunConfig(model=ViTConfig(**{**SMALL, **model}), data=DataConfig(), train=TrainConfig(epochs=2), seed=3)


@pytest.fixture
def kept(tmp_path):
    """Saves a model of these fields; returns (the model, its configuration, the file)."""

    def keep(**fields):
        config = run_config(**fields)
        model = build_model(config.model, seed=config.seed)
        path = tmp_path / "checkpoints" / f"{config.run_id}.safetensors"
        save_trained(path, model, config, mean=(0.3,), std=(0.2,))
        return model, config, path

    return keep


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"position": "relative", "position_site": "every_layer_shared"},
        {"position": "rope_2d", "position_site": "every_layer", "num_registers": 2},
        {"position": "sincos_2d", "pool": "map"},
        {"stem": "conv", "stem_width": 16, "pool": "gap", "final_norm": "pooled"},
    ],
    ids=lambda fields: "-".join(map(str, fields.values())),
)
def test_a_model_comes_back_to_the_bit_with_all_that_is_needed_to_use_it(kept, fields):
    model, config, path = kept(**fields)
    found = load_trained(path)
    images = torch.rand(4, 1, 8, 8)
    assert torch.equal(found.model(images), model.eval()(images))
    assert (found.config, found.mean, found.std) == (config, (0.3,), (0.2,))
    assert found.weights_sha256 == weights_sha256(model) and not found.model.training
    # Any other reader of the format finds every tensor under its name in the state, and the configuration as JSON.
    tensors = load_file(path)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in tensors.items())
    header = path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")]
    assert json.loads(json.loads(header)["__metadata__"]["config"]) == config.model_dump(mode="json")
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:1000]), "cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:-4] + bytes(4)), "are damaged"),
        (lambda path: save_file(load_file(path), path), "are not a run's of this vitbench"),
        (lambda path: path.unlink(), "cannot be read"),
    ],
    ids=["torn", "another bit", "foreign", "not there"],
)
def test_what_is_no_whole_file_of_ours_is_refused_in_a_line(kept, spoil, says):
    _, _, path = kept()
    spoil(path)
    with pytest.raises(ValueError, match=says) as refused:
        load_trained(path)
    assert "\n" not in str(refused.value)


def test_a_run_is_found_by_the_beginning_of_its_id_by_its_file_and_not_by_chance(kept, tmp_path):
    _, config, path = kept()
    assert find_weights(config.run_id, tmp_path) == find_weights(config.run_id[:4], tmp_path) == path
    assert find_weights(str(path), tmp_path / "elsewhere") == path
    twin = path.with_name(f"{config.run_id[:6]}0123456789.safetensors")
    twin.write_bytes(path.read_bytes())
    for name, says in (
        (config.run_id[:4], "give more digits"),
        ("0123", "has no weights in"),
        ("Ti/16", "is neither a .safetensors file nor a run_id"),
        ("none.safetensors", "there is no such file"),
    ):
        with pytest.raises(ValueError, match=says):
            find_weights(name, tmp_path)


def test_weights_that_cannot_be_written_leave_nothing_half(kept, tmp_path):
    model, config, _ = kept()
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written"):
        save_trained(tmp_path / "file" / "x.safetensors", model, config, mean=(0.3,), std=(0.2,))


def test_the_digest_is_of_names_and_values():
    import hashlib

    layer = torch.nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -2.0]]))
        layer.bias.copy_(torch.tensor([0.5]))
    # IEEE 754, little-endian.
    values = [b"weight", bytes.fromhex("0000803f000000c0"), b"bias", bytes.fromhex("0000003f")]
    assert weights_sha256(layer) == hashlib.sha256(b"".join(values)).hexdigest()
    wide = torch.nn.Conv2d(3, 4, 3)
    digest = weights_sha256(wide)
    assert weights_sha256(wide.to(memory_format=torch.channels_last)) == digest


def test_weights_of_an_older_schema_keep_the_name_that_they_were_written_under(kept, tmp_path):
    _, config, path = kept()
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    fields = json.loads(metadata["config"])
    del fields["train"]["layer_decay"], fields["train"]["trainable"]  # as before there were these two
    older = tmp_path / "checkpoints" / "0123456789abcdef.safetensors"
    save_file(load_file(path), older, metadata=metadata | {"config": json.dumps(fields), "run_id": older.stem})
    found = load_trained(find_weights("0123", tmp_path))
    assert found.run_id == "0123456789abcdef" and found.config == config
    assert found.identity == f"run:0123456789abcdef@{metadata['weights_sha256'][:8]}"


def test_metadata_that_lack_something_are_refused_in_a_line(kept):
    _, _, path = kept()
    save_file(load_file(path), path, metadata={"vitbench": "1", "config": "{}"})
    with pytest.raises(ValueError, match="are not a run's of this vitbench"):
        load_trained(path)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_weights_have_the_mode_that_the_umask_gives(kept, umask, mode):
    before = os.umask(umask)
    try:
        _, _, path = kept()
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == mode
