"""Does `vitbench trace` print and write what was asked for?"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from vitbench.profiling.trace import CHROME_NAME

QUICK = ("--device", "cpu", "--precision", "fp32", "--batch-size", 2, "--steps", 1)


def test_json_is_one_document_with_a_trace_for_each_mode(vitbench, tmp_path):
    said = vitbench("trace", "Nano/8", *QUICK, "--out", tmp_path, "--json")
    documents = json.loads(said.out)
    assert said.status == 0 and said.out.count("\n") == 1
    assert [(d["variant"], d["implementation"], d["mode"]) for d in documents] == [
        ("Nano/8", "vitbench", "infer"),
        ("Nano/8", "vitbench", "train"),
    ]
    for document in documents:
        breakdown = document["breakdown"]
        assert sum(row["seconds"] for row in breakdown["rows"]) == pytest.approx(breakdown["step_seconds"])
        assert document["reason"] == "" and document["overhead"] > 0
        summary = json.loads(Path(document["files"]["summary"]).read_text(encoding="utf-8"))
        assert summary["breakdown"] == document["breakdown"]
    assert len({document["files"]["events"] for document in documents}) == 2


def test_a_folder_holds_the_trace_and_the_summary_and_tables_are_printed(vitbench, tmp_path):
    said = vitbench("trace", "Nano/8", "--mode", "train", "--depth", 1, *QUICK, "--out", tmp_path)
    (folder,) = tmp_path.iterdir()
    assert said.status == 0 and folder.name == "Nano-8-vitbench-train-fp32-eager-batch-2-depth-1"
    assert {path.name for path in folder.iterdir()} == {CHROME_NAME, "summary.json"}
    for heading in (
        "What the time is spent on",
        "Kinds of operations",
        "Blocks",
        "Operators",
        "Step without",
        "Ratio of medians",
    ):
        assert heading in said.out
    assert re.search(r"^attention +[\d.,]+", said.out, re.MULTILINE)
    step = re.search(r"^step .* ([\d.,]+) +100\.0$", said.out, re.MULTILINE)
    assert step is not None
    assert f"Step under the profiler: {step[1]} ms" in said.out


def test_a_peer_is_traced_in_place_of_ours(vitbench, tmp_path):
    said = vitbench("trace", "Nano/8", "--peer", "timm", "--mode", "infer", *QUICK, "--out", tmp_path, "--json")
    (document,) = json.loads(said.out)
    assert document["implementation"] == "timm"
    assert {"patch_embed", "blocks.0.attn"} <= {row["part"] for row in document["breakdown"]["rows"]}


def test_what_cannot_run_says_why_and_the_other_mode_goes_on(vitbench, tmp_path, monkeypatch):
    from vitbench.profiling import trace

    record = trace.record

    def refuse_inference(candidate, device, *, steps):
        if candidate.mode == "infer":
            raise RuntimeError("no such operator")
        return record(candidate, device, steps=steps)

    monkeypatch.setattr(trace, "record", refuse_inference)
    said = vitbench("trace", "Nano/8", *QUICK, "--out", tmp_path, "--json")
    first, second = json.loads(said.out)
    assert said.status == 1 and first["reason"] == "RuntimeError: no such operator" and second["reason"] == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["Nano/9"], "unknown variant"),
        (["Nano/8", "--mode", "both"], "mode 'both' is not known; use infer, train"),
        (["Nano/8", "--precision", "fp8"], "precision 'fp8' is not known; use auto, fp32, bf16"),
        (["Nano/8", "--compile", "auto"], "compile 'auto' is not known; use off, on"),
        (["Nano/8", "--batch-size", "0"], "batch_size 0 is too few"),
        (["Nano/8", "--steps", "0"], "steps 0 is too few"),
        (["Nano/8", "--peer", "nobody"], "peer 'nobody' is not known; use timm"),
    ],
)
def test_a_wrong_request_is_refused_in_one_line(vitbench, tmp_path, arguments, says):
    said = vitbench("trace", *arguments, "--out", tmp_path)
    assert said.status == 2 and says in said.err and said.err.count("\n") == 1 and not said.out


def test_a_folder_that_cannot_be_written_is_refused_in_one_line(vitbench, tmp_path):
    (tmp_path / "file").write_text("")
    said = vitbench("trace", "Nano/8", "--mode", "infer", *QUICK, "--out", tmp_path / "file")
    assert said.status == 2 and "give another --out" in said.err
