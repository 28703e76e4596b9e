"""Is a model of timm trained, counted and timed like one of ours, by its name?"""

from __future__ import annotations

import json

import pytest
import timm
import torch

from vitbench.config import RunConfig, TimmConfig, ViTConfig
from vitbench.models import build_model
from vitbench.models.weights import load_trained, save_trained
from vitbench.records import RecordStore

MIXER = ("timm:mlp_mixer.MlpMixer", *("--model-kwargs", "patch_size=2"), *("--model-kwargs", "num_blocks=1"))
SMALL = (*MIXER, "--model-kwargs", "embed_dim=16")


def test_it_trains_on_the_data_as_timm_builds_it(vitbench, tmp_path):
    recipe = ("--data", "digits", "--epochs", 6, "--batch-size", 64, "--learning-rate", 5e-3, "--precision", "fp32")
    said = vitbench("train", *SMALL, *recipe, "--device", "cpu", "--threads", 1, "--results", tmp_path)
    assert said.status == 0 and "test top-1" in said.out
    (record,) = RecordStore(tmp_path).read("train")
    own = timm.models.mlp_mixer.MlpMixer(
        num_classes=10, img_size=8, in_chans=1, patch_size=2, num_blocks=1, embed_dim=16
    )
    assert record.cost.params == sum(p.numel() for p in own.parameters())
    assert record.metrics["test_top1"] > 0.5  # chance is 0.1
    assert record.config.model.model_dump() == {
        "timm": "mlp_mixer.MlpMixer",
        "image_size": 8,
        "in_channels": 1,
        "num_classes": 10,
        "options": {"patch_size": 2, "num_blocks": 1, "embed_dim": 16},
    }


def test_its_counts_are_those_that_timm_publishes(vitbench):
    counts = json.loads(vitbench("flops", "timm:resnet18", "--json").out)
    assert counts["params"] == 11_689_512 and counts["macs"] == pytest.approx(1.82e9, rel=0.005)
    assert set(counts["counters"]) == {"fvcore", "FlopCounterMode"} and counts["blocks"] == []
    said = vitbench("flops", *SMALL, "--image-size", 32, "--num-classes", 10)
    assert said.status == 0 and "two counts agree" in said.out and "mlp_mixer.MlpMixer" in said.out


def test_it_is_timed_beside_ours(vitbench):
    request = ("--image-size", 8, "--num-classes", 10, "--in-channels", 1, "--mode", "infer", "--batch-size", 2)
    fast = ("--seconds", 0.05, "--no-memory", "--threads", 1, "--device", "cpu", "--precision", "fp32", "--json")
    (row,) = json.loads(vitbench("throughput", *SMALL, *request, *fast).out)
    assert row["variant"] == "timm:mlp_mixer.MlpMixer" and row["images_per_second"] > 0 and not row["reason"]
    assert row["config"]["options"]["embed_dim"] == 16
    # 4 × 4 patches of 4 pixels × 16; tokens 16 → 8 → 16 at 16 channels, channels 16 → 64 → 16 at 16 tokens; 10 classes.
    assert row["macs"] == 16 * 4 * 16 + 16 * 2 * 16 * 8 + 16 * 2 * 16 * 64 + 16 * 10


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (("train", "timm:resnet81"), "no model of timm"),
        (("train", "timm:resnet18", "--width", 32), "TimmConfig has no field 'width'"),
        (("flops", "timm:resnet18", "--patch-size", 4), "by timm's name: --model-kwargs KEY=VALUE"),
        (("train", "Nano/2", "--model-kwargs", "depth=3"), "are for a timm:NAME"),
        (("train", "timm:resnet18", "--model-kwargs", "depth"), "is not KEY=VALUE"),
        (("flops", "timm:resnet18", "--model-kwargs", "depth=3"), "cannot be made"),
        (("throughput", "timm:resnet18", "--peer", "torchvision"), "is timm's own"),
    ],
    ids=lambda value: " ".join(map(str, value))[:40] if isinstance(value, tuple) else "",
)
def test_a_wrong_request_is_answered_in_a_line(vitbench, tmp_path, request_, says):
    results = ("--results", tmp_path) if request_[0] == "train" else ()
    said = vitbench(*request_, *results)
    assert said.status == 2, said
    assert said.err.startswith("vitbench: ") and says in said.err and said.err.count("\n") == 1
    assert not list(tmp_path.rglob("*.jsonl"))


@pytest.mark.parametrize("field", sorted(set(ViTConfig.model_fields) - set(TimmConfig.model_fields)))
def test_a_field_of_a_vit_given_to_a_model_of_timm_is_answered_with_where_timms_arguments_go(field):
    with pytest.raises(ValueError, match=f"TimmConfig has no field '{field}'; .* --model-kwargs KEY=VALUE"):
        TimmConfig(timm="resnet18", **{field: 3})


RESNET = TimmConfig(
    timm="resnet18",
    image_size=8,
    in_channels=1,
    num_classes=4,
    options={"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]},
)
FIXED = TimmConfig(
    timm="mlp_mixer.MlpMixer",
    image_size=8,
    in_channels=1,
    num_classes=4,
    options={"patch_size": 2, "num_blocks": 1, "embed_dim": 8},
)
NANO = ViTConfig(image_size=8, in_channels=1, patch_size=2, width=16, depth=1, num_heads=1, num_classes=4)


@pytest.fixture
def weights(tmp_path):
    """Saves weights of a configuration as a run's; gives their path."""

    def save(config, name="source"):
        path = tmp_path / f"{name}.safetensors"
        save_trained(path, build_model(config, seed=7), RunConfig(model=config), mean=(0.5,), std=(0.5,))
        return path

    return save


def test_fine_tuning_starts_from_the_weights_of_a_run_of_it(vitbench, tmp_path, weights):
    source = load_trained(weights(RESNET))
    # A learning rate of almost nothing: what was learned is what was there.
    recipe = ("--learning-rate", 1e-12, "--epochs", 1, "--batch-size", 64, "--precision", "fp32", "--device", "cpu")
    results = ("--threads", 1, "--results", tmp_path, "--json")
    start = ("--init", tmp_path / "source.safetensors", "--image-size", 12, "--seed", 3)
    record = json.loads(vitbench("train", *start, "--data", "digits", *recipe, *results).out)
    assert record["outcome"] == "completed", record["reason"]
    assert record["config"]["init"] == source.identity == record["arm"]
    assert source.identity == f"run:{RunConfig(model=RESNET).run_id}@{source.weights_sha256[:8]}"
    model = record["config"]["model"]
    assert model == {**RESNET.model_dump(mode="json"), "image_size": 12, "num_classes": 10}
    tuned = load_trained(tmp_path / "checkpoints" / f"{record['run_id']}.safetensors").model.timm
    torch.manual_seed(3)
    fresh = timm.create_model("resnet18", in_chans=1, num_classes=10, **RESNET.options)
    before = dict(source.model.timm.named_parameters())
    for name, value in tuned.named_parameters():
        expected = fresh.get_parameter(name) if name.startswith("fc.") else before[name]
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    ("config", "arguments", "says"),
    [
        (RESNET, ["timm:resnet34"], "variant 'timm:resnet34' is not that of the initial weights, 'timm:resnet18'"),
        (RESNET, ["Nano/2"], "variant 'Nano/2' is not that of the initial weights, 'timm:resnet18'; leave it out"),
        (RESNET, ["--model-kwargs", "layers=[1,1,1,2]"], "options {'layers': [1, 1, 1, 2]} is not that of the initial"),
        (RESNET, ["--width", 8], "TimmConfig has no field 'width'"),
        (RESNET, ["--num-classes", 3], "num_classes 3 does not fit digits, which has 10"),
        (RESNET, ["--keep-head"], "num_classes 10 is not that of the initial weights, 4"),
        (RESNET, ["--layer-decay", 0.5], "layer_decay 0.5 is for the blocks of a ViT"),
        (RESNET, ["--trainable", "attention"], "trainable 'attention' is for the blocks of a ViT"),
        (RESNET.replace(in_channels=3), [], "is for images of 3 channels, but the data's have 1"),
        (FIXED, ["--image-size", 16], "image_size 16 is not that of the initial weights, 8, which timm's mlp_mixer"),
        (NANO, ["timm:resnet18"], "variant 'timm:resnet18' is timm's, but init"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_what_the_weights_of_a_run_cannot_follow_is_refused_in_a_line(
    vitbench, tmp_path, weights, config, arguments, says
):
    said = vitbench("train", "--init", weights(config), *arguments, "--data", "digits", "--results", tmp_path)
    assert said.status == 2 and says in said.err and said.err.count("\n") == 1, said.err
    assert not list(tmp_path.rglob("*.jsonl"))
