"""Does `vitbench throughput` print the rows that were asked for, in the contract's words?"""

from __future__ import annotations

import json

import pytest

QUICK = ("--seconds", 0.05, "--device", "cpu", "--precision", "fp32", "--batch-size", 2)
CONTRACT = {
    *("variant", "implementation", "mode", "device", "precision", "compiled", "batch_size", "images_per_second"),
    *("latency_p50_ms", "latency_p99_ms", "macs", "mfu", "peak_memory_bytes", "samples"),
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    from vitbench.profiling import device, roofline

    monkeypatch.setattr(roofline, "CPU_SIDES", (64,))
    monkeypatch.setattr(roofline, "COPIED_BYTES", 2**16)
    monkeypatch.setattr(
        device, "peak_rise", lambda make_work, *, threads: make_work() and 12345
    )  # a process takes seconds
    measure = roofline.measure_ceilings
    monkeypatch.setattr(roofline, "measure_ceilings", lambda device: measure(device, max_seconds=0.01))


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
        (["Nano/8", "--compile", "auto"], "compile 'auto' is not known; use off, on"),
        (["Nano/8", "--batch-size", "0"], "batch_size 0 is not a number of images"),
        (["Nano/8", "--seconds", "0"], "seconds 0 is no time to measure in"),
        (["Nano/8", "--peer", "nobody"], "peer 'nobody' is not known; use timm"),
        (["Nano/8", "--peer", "timm", "--position", "none"], "position 'none' is not what timm is timed with"),
    ],
)
def test_a_wrong_request_is_refused_in_one_line(vitbench, arguments, says):
    said = vitbench("throughput", *arguments)
    assert said.status == 2 and says in said.err and said.err.count("\n") == 1 and not said.out
