"""What does `vitbench check` print, and with which status does it end?"""

from __future__ import annotations

import json
import re

import pytest

from tests.inspection.checked import write_arms
from tests.users_study import write_study

SMALL = ("--budget", "smoke", "--data", "digits", "--device", "cpu", "--threads", "1")


@pytest.fixture
def faulty(tmp_path):
    """A study with a good arm, one of another width, and one with a dead field."""
    arms = {"pooled": "pool='gap'", "narrow": "pool=parts.OtherWidth", "crop": "eval_crop=0.9"}
    return write_arms(tmp_path, arms)


def test_a_table_and_a_line_for_each_error(vitbench, faulty):
    status, out, err = vitbench("check", faulty, *SMALL)
    assert (status, err) == (1, "")
    first, header, *rows = out.splitlines()
    assert first == "mine on digits, Nano/2; baseline base"
    assert header.split() == [
        "arm",
        "differs",
        "in",
        "params",
        "MMACs",
        "step",
        "shared",
        "seen",
        "in",
        "position",
        "found",
    ]
    assert re.match(r"base +nothing +26,762 +0\.476 +\d\.\d+ MiB +yes +ok", rows[0])
    assert re.match(r"pooled +pool gap +26,698 +0\.445 +\d\.\d+ MiB +43/43 +logits +yes +ok", rows[1])
    assert re.search(r"^narrow: error: forward: pool OtherWidth@\w{8} gives \[64, 31\], expected \[64, 32\]", out, re.M)
    assert re.search(r"^crop: error: difference: eval_crop 0.9 has no effect", out, re.M)
    assert "pooled: error" not in out and "Traceback" not in out


def test_json_has_the_facts_of_every_arm(vitbench, faulty):
    status, out, err = vitbench("check", faulty, *SMALL, "--json")
    facts = json.loads(out)
    assert (status, err, facts["study"], facts["budget"]) == (1, "", "mine", "smoke")
    base, pooled, narrow, _ = facts["arms"]
    assert (base["arm"], base["is_baseline"], base["start"], base["errors"]) == ("base", True, None, [])
    assert (pooled["changes"], pooled["effects"], pooled["finite"]) == (
        {"pool": "gap"},
        {"pool": "logits"},
        {"fp32": True, "bf16": True},
    )
    assert (
        pooled["start"]["only_in_baseline"] == ["class_token", "position.tables.0.class_token"]
        and pooled["deterministic"] is True
    )
    assert [problem["check"] for problem in narrow["errors"]] == ["forward"]


def test_the_memory_of_a_step_is_what_a_run_records(vitbench, tmp_path):
    study = write_arms(tmp_path, {"pooled": "pool='gap'"})
    options = (*SMALL, "--precision", "fp32")
    checked = json.loads(vitbench("check", study, *options, "--json").out)["arms"]
    run = (*options, "--seeds", "1", "--learning-rate", "1e-3", "--results", tmp_path / "results", "--jobs", "1")
    assert vitbench("run", study, *run).status == 0
    records = [json.loads(line) for line in (tmp_path / "results/records/mine.jsonl").read_text().splitlines()]
    recorded = {record["arm"]: record["cost"]["peak_memory_bytes"] for record in records}
    for arm in checked:
        assert arm["peak_memory_bytes"] == pytest.approx(recorded[arm["arm"]], rel=0.05)


def test_nothing_is_trained_or_recorded(vitbench, faulty, tmp_path):
    vitbench("check", faulty, *SMALL, "--arm", "pooled", "--results", tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_one_arm_alone_beside_the_baseline(vitbench, faulty):
    status, out, _ = vitbench("check", faulty, *SMALL, "--arm", "pooled", "--json")
    assert status == 0 and [arm["arm"] for arm in json.loads(out)["arms"]] == ["base", "pooled"]


def test_other_arms_are_checked_where_the_baseline_cannot_run(vitbench, tmp_path):
    study = write_arms(tmp_path, {"pooled": "mlp_ratio=2.0"}, baseline="pool=parts.OtherWidth")
    status, out, err = vitbench("check", study, *SMALL, "--json")
    base, pooled = json.loads(out)["arms"]
    assert (status, err) == (1, "") and base["errors"][0]["check"] == "forward"
    assert pooled["errors"] == [] and "the baseline cannot be run" in pooled["warnings"][0]["text"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("check",), "check takes one study; give its name, or the path of a study file"),
        (("check", "pooling", "position"), "check takes one study"),
        (
            ("check", "pooling", *SMALL, "--arm", "gep"),
            "study 'pooling': arm 'gep' is none of its arms; did you mean gap?",
        ),
        (("check", "poolin"), "unknown study 'poolin'; did you mean pooling?"),
        (
            ("check", "pooling", *SMALL, "--batch-size", "100000"),
            "batch_size 100000 is more than the 256 training images",
        ),
    ],
)
def test_a_wrong_request_is_one_line(vitbench, arguments, line):
    status, out, err = vitbench(*arguments)
    assert (status, out) == (2, "") and line in err and err.count("\n") == 1


def test_a_file_that_cannot_be_imported_is_one_line(vitbench, tmp_path):
    status, out, err = vitbench("check", write_study(tmp_path, "import not_there\n"), *SMALL)
    assert (status, out) == (2, "") and "not_there" in err and err.count("\n") == 1
