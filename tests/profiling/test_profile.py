"""Does a profile measure each part once, keep what it measured, and say what could not be run?"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.profiling.quick import quick as quick
from vitbench.device import open_device
from vitbench.profiling.peers import PEERS
from vitbench.profiling.profile import measure_parts
from vitbench.profiling.profile_parts import PlannedPart, ProfilePlan
from vitbench.profiling.workload import CPU, CUDA, ProfiledModel, Workload

TINY = ProfiledModel("Nano/4", 2, {"image_size": 8, "num_classes": 4, "depth": 1})
WORKLOAD = Workload((TINY,), (TINY,), contest_precisions=("fp32",), contest_compiles=("off",))


def measured(tmp_path, only, *, fresh=False, seconds=0.05):
    """Measures the parts of the tiny workload that `only` names; gives (how much failed, facts by name)."""
    device = open_device("cpu")
    parts = ProfilePlan(WORKLOAD, device, seconds).parts(only)
    failed = measure_parts(parts, device=device, results=tmp_path, seconds=seconds, fresh=fresh, say=print)
    return failed, {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("profiles/*/**/*.json")}


def test_throughput_rows_are_those_of_the_command_with_samples_and_memory(tmp_path):
    failed, parts = measured(tmp_path, ["throughput"])
    (row,) = parts["Nano-4-8px-batch2-train"]["facts"]["rows"]
    assert failed == 0 and row["peak_memory_bytes"] == 12345 and len(row["samples"]) >= 8
    assert (row["variant"], row["mode"], row["batch_size"], row["precision"]) == ("Nano/4", "train", 2, "fp32")
    environment = parts["Nano-4-8px-batch2-train"]["environment"]
    assert environment["device"].startswith("cpu: ") and environment["threads"] >= 1 and environment["torch"]


def test_full_tokens_are_further_rows_of_throughput_and_a_measurement_of_their_own(tmp_path):
    device, only = open_device("cpu"), ["throughput/Nano-4-8px-batch2-infer"]
    for full_tokens in (False, True):
        parts = ProfilePlan(WORKLOAD, device, 0.05, full_tokens).parts(only)
        assert measure_parts(parts, device=device, results=tmp_path, seconds=0.05, fresh=False, say=print) == 0
        (path,) = tmp_path.glob("profiles/*/throughput/*.json")
        last_blocks = [row["last_block"] for row in json.loads(path.read_text())["facts"]["rows"]]
        assert last_blocks == ["class token", "all tokens"][: 1 + full_tokens]
    assert "full_tokens" not in ProfilePlan(WORKLOAD, device, 0.05).parts(only)[0].request


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


def planned_part(name, measure):
    return PlannedPart(name, {}, measure)


def test_a_part_that_fails_says_why_the_others_go_on_and_it_is_tried_again(tmp_path):
    calls = []

    def broken():
        calls.append("broken")
        raise RuntimeError("no\nluck")

    planned = [planned_part("flops/a", broken), planned_part("flops/b", lambda: ({"macs": 1}, 0))]
    given = {"device": open_device("cpu"), "results": tmp_path, "seconds": 1.0, "fresh": False, "say": print}
    assert measure_parts(planned, **given) == measure_parts(planned, **given) == 1
    parts = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("profiles/*/flops/*.json")}
    assert calls == ["broken"] * 2
    assert parts["a"]["reason"] == "RuntimeError: no luck" and parts["b"]["facts"] == {"macs": 1}


def test_what_was_measured_before_an_interruption_stays(tmp_path):
    def interrupted():
        raise KeyboardInterrupt

    planned = [planned_part("flops/a", lambda: ({}, 0)), planned_part("flops/b", interrupted)]
    with pytest.raises(KeyboardInterrupt):
        measure_parts(planned, device=open_device("cpu"), results=tmp_path, seconds=1.0, fresh=False, say=print)
    assert [path.name for path in tmp_path.glob("profiles/*/flops/*")] == ["a.json"]


@pytest.mark.parametrize("workload", [CPU, CUDA], ids=["cpu", "cuda"])
def test_the_default_parts_have_names_of_their_own_and_all_peers_in_every_contest(workload):
    planned = ProfilePlan(workload, open_device("cpu"), 1.0).parts()
    names = [part.name for part in planned]
    assert len(set(names)) == len(names)
    cls = [part for part in planned if part.name.startswith("peers/") and "-cls-" in part.name]
    assert len(cls) == 4 and all(part.request["implementations"] == ["vitbench", *PEERS] for part in cls)
    # On CUDA with CUDA graphs too.
    assert {len(part.request["settings"]) for part in cls} == {4 if workload is CPU else 6}


def test_the_contests_on_cpu_are_the_two_published_shapes():
    small, large = (model.config() for model in CPU.contests)
    assert (small.image_size, small.patch_size, small.width, small.depth, small.num_heads) == (32, 4, 192, 6, 3)
    assert (large.image_size, large.patch_size, large.width, large.depth, large.num_heads) == (224, 16, 384, 12, 6)
    assert [(m.batch_size, m.config().num_classes) for m in CPU.contests] == [(128, 10), (16, 1000)]


def test_a_model_that_no_peer_has_is_measured_without_them(tmp_path):
    stem = replace(TINY, variant="C+Ti/16", fields={"image_size": 32})
    planned = ProfilePlan(Workload((stem,), (stem,)), open_device("cpu"), 1.0).parts()
    assert {part.name.partition("/")[0] for part in planned} == {"ceilings", "flops", "throughput", "traces"}


def test_options_of_a_model_of_timm_give_its_parts_names_of_their_own():
    fields = ({}, {"options": {"layers": [1, 1, 1, 1]}}, {"options": {"layers": [2, 1, 1, 1]}})
    models = tuple(ProfiledModel("timm:resnet18", 2, {"image_size": 32, **given}) for given in fields)
    planned = ProfilePlan(Workload(models, models), open_device("cpu"), 1.0).parts()
    names = [part.name for part in planned]
    assert len(set(names)) == len(names) == 1 + 3 * 5
    assert "flops/timm-resnet18-32px" in names and not any(set(name) & set(":[]{}, ") for name in names)
