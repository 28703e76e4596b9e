"""Does `vitbench profile` leave behind what it measured, go on where it stopped, and refuse what it cannot do?"""

from __future__ import annotations

import json

import pytest
import timm

from tests.profiling.quick import quick as quick

SMALL = ("--image-size", 8, "--num-classes", 4, "--depth", 1, "--batch-size", 2, "--seconds", 0.05, "--device", "cpu")


def test_one_command_writes_parts_tables_and_roofline_and_the_same_again_measures_nothing(vitbench, tmp_path):
    arguments = ("profile", "Nano/4", *SMALL, "--results", tmp_path)
    arguments += tuple(part for kind in ("ceilings", "flops", "throughput", "traces") for part in ("--only", kind))
    first = vitbench(*arguments)
    assert first.status == 0
    (folder,) = (tmp_path / "profiles").iterdir()
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names > {
        "README.md",
        "ceilings.json",
        "flops/Nano-4-8px.json",
        "throughput/Nano-4-8px-batch2-infer.json",
        "throughput/Nano-4-8px-batch2-train.json",
        "traces/Nano-4-8px-batch2-train.json",
        "tables/throughput.md",
        "tables/time-by-kind.tex",
        "tables/flops.csv",
        "plots/roofline.svg",
        "plots/roofline.png",
    }
    before = {path: path.read_bytes() for path in folder.rglob("*.json")}
    second = vitbench(*arguments)
    assert second.status == 0 and second.err.count(": measured ") == 6
    assert {path: path.read_bytes() for path in folder.rglob("*.json")} == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["Nano/9"], "unknown variant"),
        (["--seconds", "0"], "seconds 0 is no time to measure in"),
        (["Nano/4", "--batch-size", "0"], "batch_size 0 is too few; give 1 or more"),
        (["--depth", "3"], "fields of the model and batch_size are those of VARIANTs"),
        (
            ["Nano/4", "--only", "peer"],
            "only 'peer' is no part; use ceilings, flops, throughput, traces, peers, flops/Nano-4",
        ),
        (["--model-kwargs", "layers=[1]"], "fields of the model and batch_size are those of VARIANTs"),
        (["Nano/4", "--model-kwargs", "layers=[1]"], "are for a timm:NAME"),
        (["timm:resnet81"], "no model of timm; did you mean resnet"),
        (["timm:resnet18", "--width", "32"], "TimmConfig has no field 'width'"),
        (["timm:resnet18", "--model-kwargs", "layer=3"], "cannot be made for images of (224, 224) pixels"),
        (
            ["timm:resnet18", "--image-size", "32", "--only", "peers"],
            "only 'peers' is no part; use ceilings, flops, throughput, traces, flops/timm-resnet18-32px",
        ),
    ],
)
def test_a_wrong_request_is_refused_in_one_line(vitbench, arguments, says):
    said = vitbench("profile", "--device", "cpu", *arguments)
    assert said.status == 2 and says in said.err and said.err.count("\n") == 1 and not said.out


RESNET = ("timm:resnet18", "--model-kwargs", "layers=[1, 1, 1, 1]", "--model-kwargs", "channels=[8, 8, 8, 8]")
CONVOLUTIONS = (
    16 * 16 * 7 * 7 * 3 * 64  # of 32 × 32 pixels every second; then a pooling of every second
    + 8 * 8 * (3 * 3 * 64 * 8 + 3 * 3 * 8 * 8 + 64 * 8)
    + (4 * 4 + 2 * 2 + 1 * 1) * (2 * 3 * 3 * 8 * 8 + 8 * 8)
)
"""MACs of an image: of a stem, then in each of four stages of a block two 3 × 3 and, beside them, a 1 × 1."""


def test_a_model_of_timm_is_profiled_with_all_that_can_be_measured_of_it(vitbench, tmp_path):
    shape = ("--image-size", 32, "--num-classes", 4, "--batch-size", 2)
    arguments = ("profile", *RESNET, *shape, "--seconds", 0.05, "--device", "cpu", "--results", tmp_path)
    said = vitbench(*arguments)
    assert said.status == 0 and "timm:resnet18 meets no peers, which have no such model: it is timm's own" in said.err
    (folder,) = (tmp_path / "profiles").iterdir()
    parts = {path.parent.name + path.stem[-5:]: json.loads(path.read_text()) for path in folder.glob("*/timm-*.json")}
    assert set(parts) == {"flops-32px", "throughputinfer", "throughputtrain", "tracesinfer", "tracestrain"}
    own = timm.create_model("resnet18", layers=[1, 1, 1, 1], channels=[8, 8, 8, 8], num_classes=4)
    counts = parts["flops-32px"]["facts"]
    assert counts["macs"] == CONVOLUTIONS + 8 * 4 and counts["params"] == sum(p.numel() for p in own.parameters())
    assert counts["counters"] == ["fvcore", "FlopCounterMode"]
    for mode in ("infer", "train"):
        (row,) = parts[f"throughput{mode}"]["facts"]["rows"]
        assert row["images_per_second"] > 0 and row["macs"] == counts["macs"] and row["peak_memory_bytes"] == 12345
    traced = parts["tracesinfer"]["facts"]
    rows = [dict(zip(traced["columns"], row, strict=True)) for row in traced["rows"]]
    assert sum(row["flops"] for row in rows if row["kind"] == "convolution") == 2 * 2 * CONVOLUTIONS
    assert {row["block"] for row in rows} >= {"conv1", "layer1", "layer4", "fc"} and "timm" not in str(rows)
    written = {path: path.read_bytes() for path in folder.rglob("*") if path.suffix in (".md", ".csv", ".svg", ".png")}
    assert folder / "plots" / "roofline.svg" in written
    page = (folder / "README.md").read_text()
    assert page.count("in place of our parts") == 2  # by role and by block
    assert page.count("Not counted part by part in closed form for models of timm") == 1
    for command in ("tables", "plots"):
        assert vitbench(command, "--results", tmp_path).status == 0
    assert {path: path.read_bytes() for path in written} == written
    again = vitbench(*arguments)
    assert again.status == 0 and again.err.count(": measured ") == 6
