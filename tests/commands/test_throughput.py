"""Does `vitbench throughput` print the rows that were asked for, in the contract's words?"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.profiling.quick import quick as quick
from vitbench.config import ViTConfig
from vitbench.costs.macs import count

QUICK = ("--seconds", 0.05, "--device", "cpu", "--precision", "fp32", "--batch-size", 2)
CONTRACT = {
    *("variant", "implementation", "mode", "device", "precision", "compiled", "batch_size", "images_per_second"),
    *("latency_p50_ms", "latency_p99_ms", "macs", "mfu", "peak_memory_bytes", "samples"),
}
CONDITIONS = {"schema", "started", "device", "torch", "threads", "ceilings", "device_state"}
"""The same in every row of a run."""


def test_json_is_a_list_of_rows_in_the_contract_s_words(vitbench):
    said = vitbench("throughput", "Nano/8", "Micro/8", "--peer", "timm", *QUICK, "--json")
    rows = json.loads(said.out)
    assert said.status == 0 and said.out.count("\n") == 1
    asked = [(v, i, m) for v in ("Nano/8", "Micro/8") for i in ("vitbench", "timm") for m in ("infer", "train")]
    assert [(row["variant"], row["implementation"], row["mode"]) for row in rows] == asked
    for row in rows:
        assert set(row) >= CONTRACT
        assert row["peak_memory_bytes"] == 12345
        assert row["images_per_second"] > 0 and row["latency_p50_ms"] <= row["latency_p99_ms"]
        assert row["images_per_second"] == pytest.approx(2e3 / row["latency_p50_ms"])
        assert len(row["samples"]) >= 8 and row["device"].startswith("cpu: ")
        assert {key: row[key] for key in CONDITIONS} == {key: rows[0][key] for key in CONDITIONS}


def test_a_row_alone_is_enough_to_make_every_figure_of_it_again(vitbench):
    (row,) = json.loads(vitbench("throughput", "Nano/8", "--depth", 1, "--mode", "train", *QUICK, "--json").out)
    milliseconds = 1e3 * np.asarray(row["samples"])
    for percent in (5, 50, 95, 99):
        assert row[f"latency_p{percent}_ms"] == pytest.approx(np.percentile(milliseconds, percent))
    assert row["schema"] == 1 and len(row["warmup"]) >= 3
    assert set(row["phase_samples"]) == {"forward", "backward", "optimizer"}
    for name, samples in row["phase_samples"].items():
        assert len(samples) >= 8 and row["phases_ms"][name] == pytest.approx(1e3 * np.median(samples))
    assert set(row["ceilings"]["flops_per_second"]) == {"fp32", "bf16"} and row["ceilings"]["bytes_per_second"] > 0
    assert row["mfu"] == pytest.approx(
        6 * row["macs"] * row["images_per_second"] / row["ceilings"]["flops_per_second"]["fp32"]
    )
    config = ViTConfig.model_validate(row["config"])
    assert config.depth == 1 and count(config).macs == row["macs"]
    assert row["torch"] == torch.__version__ and row["threads"] == torch.get_num_threads()
    assert datetime.fromisoformat(row["started"]).utcoffset() == timedelta(0)
    assert set(row["device_state"]) == {"before", "after", "other_cores", "warning", "missing"}
    assert row["device_state"]["after"]["seconds"] > row["device_state"]["before"]["seconds"]
    assert row["in_turn"] and row["batch_sizes_tried"] == [] and row["batch_size_search"] == ""


def test_full_tokens_gives_a_class_token_model_both_ways_and_says_which(vitbench):
    asked = ("throughput", "Nano/8", "--mode", "infer", "--peer", "timm", "--full-tokens", *QUICK)
    rows = json.loads(vitbench(*asked, "--json").out)
    named = [(row["implementation"], row["last_block"], row["macs"]) for row in rows]
    macs = rows[0]["macs"]
    assert named == [("vitbench", "class token", macs), ("vitbench", "all tokens", macs), ("timm", "all tokens", macs)]
    lines = vitbench(*asked).out.splitlines()
    assert "last block" in lines[1] and any("vitbench" in line and "all tokens" in line for line in lines)


def test_full_tokens_adds_nothing_where_all_tokens_are_computed_anyway(vitbench):
    asked = ("throughput", "Nano/8", "--pool", "gap", "--mode", "infer", "--full-tokens", *QUICK)
    (row,) = json.loads(vitbench(*asked, "--json").out)
    assert row["last_block"] == "all tokens" and "last block" not in vitbench(*asked).out


def test_cuda_graphs_are_refused_on_a_cpu(vitbench):
    said = vitbench("throughput", "Nano/8", "--compile", "graphs", *QUICK)
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert "compile 'graphs' is of CUDA, and this is cpu: " in said.err and "use on" in said.err


def test_energy_is_null_with_the_reason_where_the_platform_does_not_tell(vitbench, monkeypatch, tmp_path):
    from vitbench.device import cpu, rapl

    monkeypatch.setattr(cpu, "RaplCounter", lambda: rapl.RaplCounter(tmp_path))
    asked = ("throughput", "Nano/8", "--mode", "infer", *QUICK)
    (row,) = json.loads(vitbench(*asked, "--json").out)
    assert row["energy_joules_per_image"] is None and row["energy"] is None
    assert row["energy_note"].startswith("not available: no RAPL counter")
    out = vitbench(*asked).out
    assert f"energy: {row['energy_note']}" in out and "mJ/image" not in out


def test_energy_stands_in_the_table_where_the_platform_tells(vitbench, monkeypatch):
    from vitbench.device import cpu, energy
    from vitbench.profiling import throughput

    monkeypatch.setattr(cpu, "RaplCounter", lambda: SimpleNamespace(source="RAPL"))
    monkeypatch.setattr(throughput, "measure_energy", lambda call, counter: energy.Energy(5.0, 1000, 0.5))
    asked = ("throughput", "Nano/8", "--mode", "infer", *QUICK)
    (row,) = json.loads(vitbench(*asked, "--json").out)
    assert row["energy_joules_per_image"] == 0.0025 and row["energy"] == {"joules": 5.0, "calls": 1000, "seconds": 0.5}
    lines = vitbench(*asked).out.splitlines()
    (heading,) = (line for line in lines if "mJ/image" in line)
    (values,) = (line for line in lines if line.startswith("Nano/8  "))
    end = heading.index("mJ/image") + len("mJ/image")
    assert values[:end].endswith("  2.5")
    assert "energy: RAPL, in a loop of 0.5 s; idle power is not subtracted" in lines


def test_a_searched_batch_size_is_the_row_s_and_its_curve_is_told(vitbench, monkeypatch):
    from vitbench.profiling import throughput
    from vitbench.profiling.batch_size import Trial

    trials = (Trial(1, 10.0), Trial(2, 30.0), Trial(4, 25.0), Trial(8, reason="out of memory at batch 8"))
    monkeypatch.setattr(throughput, "search_batch_size", lambda *_, **__: trials)
    asked = ("throughput", "Nano/8", "--mode", "infer", *QUICK, "--batch-size", "best")
    fixed, searched = json.loads(vitbench(*asked, "--json").out)
    assert (fixed["batch_size"], fixed["batch_size_search"]) == (2, "")
    assert (searched["batch_size"], searched["batch_size_search"]) == (2, "best")
    assert [trial["batch_size"] for trial in searched["batch_sizes_tried"]] == [1, 2, 4, 8]
    assert searched["batch_sizes_tried"][1:3] == [
        {"batch_size": 2, "images_per_second": 30.0, "reason": ""},
        {"batch_size": 4, "images_per_second": 25.0, "reason": ""},
    ]
    out = vitbench(*asked).out
    assert "  best 2  " in out
    assert "tried 1: 10 images/s, 2: 30 images/s, 4: 25 images/s, 8: out of memory at batch 8" in out


def test_what_else_the_machine_did_is_a_warning_below_the_table(vitbench, monkeypatch):
    from vitbench.device import Device, DeviceState

    before = {"cpu_mhz": 2000.0, "load_average": 0.5, "cores": 4.0, "threads": 2.0, "gpu_celsius": None}
    state = DeviceState(before, {**before, "cpu_mhz": 3100.0}, 1.5, "other processes kept 1.5 of 4 cores busy", "")
    monkeypatch.setattr(Device, "state_between", lambda *_: state)
    out = vitbench("throughput", "Nano/8", "--mode", "infer", *QUICK).out
    assert "CPU 2,000 → 3,100 MHz, load average 0.5, other processes on 1.50 of 4 cores" in out
    assert "warning: other processes kept 1.5 of 4 cores busy" in out


def test_memory_may_be_left_out(vitbench):
    said = vitbench("throughput", "Nano/8", "--mode", "infer", "--no-memory", *QUICK, "--json")
    assert json.loads(said.out)[0]["peak_memory_bytes"] is None


def test_fields_of_the_model_are_options(vitbench):
    said = vitbench("throughput", "Nano/8", "--depth", 1, "--mode", "infer", *QUICK, "--json")
    one = json.loads(said.out)[0]["macs"]
    three = json.loads(vitbench("throughput", "Nano/8", "--mode", "infer", *QUICK, "--json").out)[0]["macs"]
    assert one < three


def test_the_table_has_a_line_for_each_row_and_says_what_mfu_is(vitbench):
    said = vitbench("throughput", "Nano/8", *QUICK)
    assert said.status == 0
    assert sum(line.startswith("Nano/8  ") for line in said.out.splitlines()) == 2
    assert "MFU: 2 × MACs an image" in said.out and "forward" in said.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["Nano/9"], "unknown variant"),
        (["Nano/8", "--mode", "both"], "mode 'both' is not known; use infer, train"),
        (["Nano/8", "--precision", "fp8"], "precision 'fp8' is not known; use auto, fp32, bf16"),
        (["Nano/8", "--compile", "auto"], "compile 'auto' is not known; use off, on, graphs"),
        (
            ["Nano/8", "--batch-size", "0"],
            "batch_size 0 is not from 1 to 1000000 images; give such a number, or best, max",
        ),
        (
            ["Nano/8", "--batch-size", "big"],
            "batch_size big is not from 1 to 1000000 images; give such a number",
        ),
        (["Nano/8", "--batch-size", "-4"], "batch_size -4 is not from 1 to 1000000 images"),
        (["Nano/8", "--batch-size", "1.5"], "batch_size 1.5 is not from 1 to 1000000 images"),
        (["Nano/8", "--batch-size", "max", "--device", "cpu"], "batch_size 'max' cannot be searched on cpu"),
        (["Nano/8", "--seconds", "0"], "seconds 0 is no time to measure in"),
        (["Nano/8", "--peer", "nobody"], "peer 'nobody' is not known; use timm"),
        (["Nano/8", "--peer", "timm", "--position", "none"], "position 'none' is not what timm is timed with"),
    ],
)
def test_a_wrong_request_is_refused_in_one_line(vitbench, arguments, says):
    said = vitbench("throughput", *arguments)
    assert said.status == 2 and says in said.err and said.err.count("\n") == 1 and not said.out


def test_what_a_class_token_leaves_out_is_said_below_the_rows(vitbench):
    said = vitbench("throughput", "Nano/8", "--mode", "infer", *QUICK)
    assert "computes the class token alone in its last block" in said.out and "(Nano/8)" in said.out
    assert "class token alone" not in vitbench("throughput", "Nano/8", "--pool", "gap", "--mode", "infer", *QUICK).out
