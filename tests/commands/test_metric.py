"""Does `--metric` say what arms are judged by, from the plan to the table?"""

from __future__ import annotations

import json

from vitbench.records import RecordStore

PLAN = ("pooling", "--budget", "smoke", "--seeds", "1", "--learning-rate", "1e-3", "--epochs", "1")


def test_the_metric_is_in_plans_records_and_tables_and_a_change_is_told(vitbench, tmp_path):
    at = ("--results", tmp_path)
    assert json.loads(vitbench("plan", *PLAN, "--metric", "loss", "--json", *at).out)["metrics"] == {"pooling": "loss"}
    assert "pooling: arms will be judged by loss" in vitbench("plan", *PLAN, "--metric", "loss", *at).out
    assert "judged by" not in vitbench("plan", *PLAN, *at).out
    assert vitbench("run", *PLAN, "--metric", "loss", "--jobs", "1", *at).status == 0
    assert {record.design.metric for record in RecordStore(tmp_path).read("pooling")} == {"loss"}
    assert "Judged by loss (nats), less is better; declared before the runs." in vitbench("tables", *at).out
    said = vitbench("tables", "--metric", "brier", *at).out
    assert "Judged by Brier score, less is better; not declared: the study declared loss." in said
    told = vitbench("plan", *PLAN, *at).out
    assert "4 recorded runs declared loss as what arms are judged by, and top1 is asked for now" in told


def test_a_metric_that_is_none_is_refused_in_a_line(vitbench, tmp_path):
    for command in (("plan", *PLAN), ("run", *PLAN), ("tables",), ("plots",), ("report",)):
        said = vitbench(*command, "--metric", "los", "--results", tmp_path)
        assert (said.status, said.out) == (2, "")
        assert "metric 'los' is none; did you mean loss?" in said.err and said.err.count("\n") == 1
