"""Does `vitbench flops` tell what a model costs, for people and as JSON, and refuse what makes no sense?"""

from __future__ import annotations

import json

import pytest

from vitbench.config import ViTConfig
from vitbench.costs import cross_check
from vitbench.costs.counts import Counts
from vitbench.costs.macs import count, count_parts
from vitbench.variants import variant


def test_the_json_has_the_keys_of_the_contract_and_b16s_published_numbers(vitbench):
    status, out, err = vitbench("flops", "B/16", "--json")
    facts = json.loads(out)
    assert (status, err, out.count("\n")) == (0, "", 1)
    assert facts["variant"] == "B/16" and facts["image_size"] == [224, 224]
    assert facts["params"] / 1e6 == pytest.approx(86.57, abs=0.005)
    assert facts["activations"] / 1e6 == pytest.approx(23.90, abs=0.005)
    assert facts["macs"] == 17_563_828_224  # 12·(12·n·D² + 2·n²·D) + patches·P²·C·D + D·K
    assert (facts["macs"] + facts["norms"]["macs"]) / 1e9 == pytest.approx(17.58, abs=0.005)
    assert [block["name"] for block in facts["blocks"]] == [f"blocks.{i}" for i in range(12)]
    assert all(set(block) == {"name", "params", "macs", "activations"} for block in facts["blocks"])
    for quantity in ("params", "macs", "activations"):
        assert sum(part[quantity] for part in facts["parts"]) == facts[quantity]
        assert {counter[quantity] for counter in facts["counters"].values()} == {facts[quantity]}
    assert list(facts["counters"]) == ["closed form", "fvcore", "FlopCounterMode"]
    assert facts["flops"] == 2 * facts["macs"]
    assert "1 MAC is 2 FLOPs" in facts["conventions"]


def test_any_field_of_the_model_is_an_option_and_the_counts_follow_it(vitbench):
    changes = {"width": 32, "depth": 2, "num_heads": 4, "image_size": (16, 24), "pool": "map", "position": "relative"}
    changes |= {"position_site": "every_layer", "num_registers": 2, "head": "mlp", "qkv_bias": False}
    options = ["--width", 32, "--depth", 2, "--num-heads", 4, "--image-size", "16x24", "--pool", "map"]
    options += ["--position", "relative", "--position-site", "every_layer", "--num-registers", 2, "--head", "mlp"]
    facts = json.loads(vitbench("flops", "Micro/4", *options, "--no-qkv-bias", "--json").out)
    config = variant("Micro/4", **changes)
    counts = count(config)
    assert facts["config"] == config.model_dump(mode="json")
    assert (facts["params"], facts["macs"], facts["activations"]) == (counts.params, counts.macs, counts.activations)
    help_words = vitbench("flops", "--help").out.replace(",", " ").replace("/", " ").split()
    assert {f"--{name.replace('_', '-')}" for name in ViTConfig.model_fields} <= set(help_words)


@pytest.mark.parametrize(("mode", "flops_per_mac"), [("infer", 2), ("train", 6)])
def test_flops_are_those_of_the_batch_and_the_mode_and_macs_those_of_an_image(vitbench, mode, flops_per_mac):
    facts = json.loads(vitbench("flops", "Nano/2", "--image-size", 8, "--batch-size", 5, "--mode", mode, "--json").out)
    macs = count(variant("Nano/2", image_size=8)).macs
    assert (facts["macs"], facts["flops"]) == (macs, flops_per_mac * macs * 5)
    assert (facts["mode"], facts["batch_size"]) == (mode, 5)


@pytest.mark.parametrize("mode", ["infer", "train"])
def test_the_cpus_own_kernels_are_counted_alike(vitbench, mode):
    command = ("flops", "Nano/2", "--image-size", 8, "--pool", "map", "--mode", mode, "--json", "--device")
    on_meta, on_cpu = (json.loads(vitbench(*command, device).out) for device in ("meta", "cpu"))
    assert (on_meta.pop("device"), on_cpu.pop("device")) == ("meta", "cpu")
    assert on_meta == on_cpu


def test_people_get_a_table_with_equal_blocks_folded_and_the_conventions(vitbench):
    status, out, err = vitbench("flops", "Ti/16", "--batch-size", 256, "--mode", "train")
    assert (status, err) == (0, "")
    rows = {line.split()[0]: line for line in out.splitlines() if line}
    assert rows["blocks.0–11,"].split()[:3] == ["blocks.0–11,", "each", "444,864"]  # 12 D² + 13 D
    assert "12 × 8.1%" in rows["blocks.0–11,"]
    assert rows["total"].split()[1:4] == ["5,717,416", "1,253,683,200", "5,974,636"]
    assert "blocks.1" not in rows and "pool" not in rows
    assert "256 images, train: 1.926 TFLOPs (6 × MACs × images)" in out
    assert "three counts agree: closed form, fvcore, FlopCounterMode; largest relative difference 0.00%" in out
    assert "not counted: norms" in out


def test_counts_that_disagree_end_with_status_1_and_one_line(vitbench, monkeypatch):
    def one_block_too_dear(config):
        return {**count_parts(config), "blocks.1": Counts(1, 2, 3)}

    monkeypatch.setattr(cross_check, "count_parts", one_block_too_dear)
    status, out, err = vitbench("flops", "Nano/2", "--image-size", 8, "--json")
    assert (status, out, err.count("\n")) == (1, "", 1)
    # D = 32: weights (3 + 1 + 2 + 2)·D², biases (3 + 1 + 2 + 1)·D, two norms of 2·D.
    assert err == (
        "vitbench: counts of blocks.1 disagree: params are 1 by closed form, "
        f"{8 * 32**2 + 7 * 32 + 4 * 32:,} by fvcore, {8 * 32**2 + 7 * 32 + 4 * 32:,} by FlopCounterMode\n"
    )


WRONG = {
    "unknown variant": (("Bb/16",), "unknown variant 'Bb/16'"),
    "unknown pool": (("Nano/2", "--pool", "mean"), "pool 'mean'"),
    "patch that does not divide": (("Ti/16", "--image-size", "100"), "patch_size 16 does not divide image_size 100"),
    "no batch": (("Nano/2", "--batch-size", "0"), "batch_size 0"),
    "unknown mode": (("Nano/2", "--mode", "eval"), "mode 'eval' is not known; use infer, train"),
    "unknown device": (("Nano/2", "--device", "tpu"), "device 'tpu' is not known"),
    "too many blocks": (("B/16", "--depth", "10000"), "depth 10000 is more than can be traced, 1,000 blocks"),
    "too many blocks in a stem": (("R50+B/16", "--stem-layers", "3,4,5000"), "stem_layers (3, 4, 5000) is more than"),
    "too many tokens": (("B/16", "--image-size", "999984"), "image_size 999984 gives 3,906,125,002 tokens"),
    "too many hidden units": (("B/16", "--mlp-ratio", "1e13"), "mlp_ratio '1e13'"),
}


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["text", "json"])
@pytest.mark.parametrize(("arguments", "says"), WRONG.values(), ids=WRONG)
def test_a_wrong_request_is_refused_in_one_line(vitbench, arguments, says, as_json):
    status, out, err = vitbench("flops", *arguments, *as_json)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("vitbench: ") and says in err
