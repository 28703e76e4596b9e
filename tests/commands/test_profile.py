"""Does `vitbench profile` leave behind what it measured, go on where it stopped, and say what could not be run?"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import timm

from vitbench.commands.profile import Unit, chosen, units_of, write_parts
from vitbench.commands.profile_models import CPU, CUDA, Model, Workload
from vitbench.device import Device, open_device
from vitbench.profiling.peers import PEERS

TINY = Model("Nano/4", 2, {"image_size": 8, "num_classes": 4, "depth": 1})
WORKLOAD = Workload((TINY,), (TINY,), contest_precisions=("fp32",), contest_compiles=("off",))
SMALL = ("--image-size", 8, "--num-classes", 4, "--depth", 1, "--batch-size", 2, "--seconds", 0.05, "--device", "cpu")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    from vitbench.device import cpu
    from vitbench.profiling import contest, roofline

    monkeypatch.setattr(contest, "QUALIFYING_SECONDS", 0.0)
    monkeypatch.setattr(roofline, "CPU_SIDES", (64,))
    monkeypatch.setattr(roofline, "COPIED_BYTES", 2**16)
    monkeypatch.setattr(cpu, "peak_rise", lambda make_work, *, threads: make_work() and 12345)
    monkeypatch.setattr(Device, "bf16_speedup", lambda _: 1.0)
    measure = roofline.measure_ceilings
    monkeypatch.setattr(roofline, "measure_ceilings", lambda device: measure(device, max_seconds=0.01))


def measured(tmp_path, only, *, fresh=False, seconds=0.05):
    """Measures the parts of the tiny workload that `only` names; gives (how much failed, facts by name)."""
    device = open_device("cpu")
    units = chosen(units_of(WORKLOAD, device=device, seconds=seconds), only)
    failed = write_parts(units, device=device, results=tmp_path, seconds=seconds, fresh=fresh)
    return failed, {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("profiles/*/**/*.json")}


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


def test_throughput_rows_are_those_of_the_command_with_samples_and_memory(tmp_path):
    failed, parts = measured(tmp_path, ["throughput"])
    (row,) = parts["Nano-4-8px-batch2-train"]["facts"]["rows"]
    assert failed == 0 and row["peak_memory_bytes"] == 12345 and len(row["samples"]) >= 8
    assert (row["variant"], row["mode"], row["batch_size"], row["precision"]) == ("Nano/4", "train", 2, "fp32")
    environment = parts["Nano-4-8px-batch2-train"]["environment"]
    assert environment["device"].startswith("cpu: ") and environment["threads"] >= 1 and environment["torch"]


def test_a_traced_step_s_rows_sum_to_it(tmp_path):
    _, parts = measured(tmp_path, ["traces/Nano-4-8px-batch2-train"])
    facts = parts["Nano-4-8px-batch2-train"]["facts"]
    rows = [dict(zip(facts["columns"], row, strict=True)) for row in facts["rows"]]
    assert sum(row["seconds"] for row in rows) == pytest.approx(facts["step_seconds"], rel=1e-3)
    assert {"blocks.0", "optimizer"} <= {row["block"] for row in rows} and "mlp" in {row["role"] for row in rows}


def test_each_pooling_meets_the_peers_that_have_it(tmp_path):
    cls, gap = "Nano-4-8px-batch2-cls-infer", "Nano-4-8px-batch2-gap-train"
    failed, parts = measured(tmp_path, [f"peers/{cls}", f"peers/{gap}"])
    assert failed == 0
    met = {name: [row["implementation"] for row in part["facts"]["rows"]] for name, part in parts.items()}
    assert met == {cls: ["vitbench", *PEERS], gap: ["vitbench", "timm", "vit-pytorch"]}
    facts = parts[gap]["facts"]
    assert len({len(row["samples"]) for row in facts["rows"]}) == 1
    assert all(len(heat["samples"]) >= 3 and len(heat["warmup"]) == 3 for heat in facts["heats"])
    assert facts["versions"]["timm"]


def test_a_peer_that_cannot_run_is_counted_and_its_reason_kept(tmp_path, monkeypatch):
    def absent(config):
        raise ModuleNotFoundError("No module named 'transformers'")

    monkeypatch.setitem(PEERS, "transformers", (("cls",), absent))
    failed, parts = measured(tmp_path, ["peers/Nano-4-8px-batch2-cls-infer"])
    facts = parts["Nano-4-8px-batch2-cls-infer"]["facts"]
    assert failed == 1 and "transformers" not in {row["implementation"] for row in facts["rows"]}
    assert [heat["reason"] for heat in facts["heats"] if heat["implementation"] == "transformers"] == [
        "ModuleNotFoundError: No module named 'transformers'"
    ]


def test_fresh_and_more_seconds_measure_again(tmp_path):
    _, first = measured(tmp_path, ["ceilings"])
    _, same = measured(tmp_path, ["ceilings"])
    _, fresh = measured(tmp_path, ["ceilings"], fresh=True)
    _, longer = measured(tmp_path, ["ceilings"], seconds=0.06)
    started = [parts["ceilings"]["started"] for parts in (first, same, fresh, longer)]
    assert started[0] == started[1] < started[2] < started[3]


def unit(name, measure):
    return Unit(name, {}, measure)


def test_a_part_that_fails_says_why_the_others_go_on_and_it_is_tried_again(tmp_path):
    calls = []

    def broken():
        calls.append("broken")
        raise RuntimeError("no\nluck")

    units = [unit("flops/a", broken), unit("flops/b", lambda: ({"macs": 1}, 0))]
    given = {"device": open_device("cpu"), "results": tmp_path, "seconds": 1.0, "fresh": False}
    assert write_parts(units, **given) == write_parts(units, **given) == 1
    parts = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("profiles/*/flops/*.json")}
    assert calls == ["broken"] * 2
    assert parts["a"]["reason"] == "RuntimeError: no luck" and parts["b"]["facts"] == {"macs": 1}


def test_what_was_measured_before_an_interruption_stays(tmp_path):
    def interrupted():
        raise KeyboardInterrupt

    units = [unit("flops/a", lambda: ({}, 0)), unit("flops/b", interrupted)]
    with pytest.raises(KeyboardInterrupt):
        write_parts(units, device=open_device("cpu"), results=tmp_path, seconds=1.0, fresh=False)
    assert [path.name for path in tmp_path.glob("profiles/*/flops/*")] == ["a.json"]


@pytest.mark.parametrize("workload", [CPU, CUDA], ids=["cpu", "cuda"])
def test_the_default_parts_have_names_of_their_own_and_all_peers_in_every_contest(workload):
    units = units_of(workload, device=open_device("cpu"), seconds=1.0)
    names = [unit.name for unit in units]
    assert len(set(names)) == len(names)
    cls = [unit for unit in units if unit.name.startswith("peers/") and "-cls-" in unit.name]
    assert len(cls) == 4 and all(unit.request["implementations"] == ["vitbench", *PEERS] for unit in cls)
    assert all(len(unit.request["settings"]) == 4 for unit in cls)


def test_the_contests_on_cpu_are_the_issue_s_two_shapes():
    small, large = (model.config() for model in CPU.contests)
    assert (small.image_size, small.patch_size, small.width, small.depth, small.num_heads) == (32, 4, 192, 6, 3)
    assert (large.image_size, large.patch_size, large.width, large.depth, large.num_heads) == (224, 16, 384, 12, 6)
    assert [(m.batch_size, m.config().num_classes) for m in CPU.contests] == [(128, 10), (16, 1000)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["Nano/9"], "unknown variant"),
        (["--seconds", "0"], "seconds 0 is no time to measure in"),
        (["Nano/4", "--batch-size", "0"], "batch_size 0 is not a number of images"),
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


def test_a_model_that_no_peer_has_is_measured_without_them(tmp_path):
    stem = replace(TINY, variant="C+Ti/16", fields={"image_size": 32})
    units = units_of(Workload((stem,), (stem,)), device=open_device("cpu"), seconds=1.0)
    assert {unit.name.partition("/")[0] for unit in units} == {"ceilings", "flops", "throughput", "traces"}


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
    assert page.count("Parts of ours are not counted for models of timm") == 2  # by role and by block
    assert page.count("Not counted part by part in closed form for models of timm") == 1
    for command in ("tables", "plots"):
        assert vitbench(command, "--results", tmp_path).status == 0
    assert {path: path.read_bytes() for path in written} == written
    again = vitbench(*arguments)
    assert again.status == 0 and again.err.count(": measured ") == 6


def test_options_of_a_model_of_timm_give_its_parts_names_of_their_own():
    fields = ({}, {"options": {"layers": [1, 1, 1, 1]}}, {"options": {"layers": [2, 1, 1, 1]}})
    models = tuple(Model("timm:resnet18", 2, {"image_size": 32, **given}) for given in fields)
    units = units_of(Workload(models, models), device=open_device("cpu"), seconds=1.0)
    names = [unit.name for unit in units]
    assert len(set(names)) == len(names) == 1 + 3 * 5
    assert "flops/timm-resnet18-32px" in names and not any(set(name) & set(":[]{}, ") for name in names)
