"""Does `plan` say in what arms differ, what runs, and what was recorded as something else? As docs/arms.md shows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.users_study import write_study
from vitbench.data import describe
from vitbench.records import RecordStore
from vitbench.studies import BUDGETS, Overrides, load_study, make_plan

PAGE = (Path(__file__).parents[2] / "docs" / "arms.md").read_text()


@pytest.fixture
def my_study(tmp_path):
    """The study of docs/arms.md, as a user would save it."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    file = tmp_path / "mine.py"
    file.write_text(code)
    return file


def planned(vitbench, *arguments):
    status, out, err = vitbench("plan", *arguments, "--budget", "smoke", "--json")
    assert (status, err) == (0, "")
    return json.loads(out)


def record_all(file, results, made_up):
    runs = make_plan(load_study(str(file)), BUDGETS["smoke"], describe("digits"), Overrides()).runs
    store = RecordStore(results)
    for run in runs:
        place = {"study": run.study, "arm": run.arm, "budget": run.budget, "variant": run.variant}
        store.append(made_up(**place, config=run.config, design=run.design))


def test_every_run_says_in_what_its_arm_differs_from_the_base(vitbench, my_study, tmp_path):
    facts = planned(vitbench, my_study, "--results", tmp_path / "results")
    changes = {run["arm"]: run["changes"] for run in facts["runs"]}
    assert changes == {
        "as it is": {},
        "no warm-up": {"warmup_fraction": 0.0},
        "mixup": {"mixup": 0.2},
        "SGD": {"optimizer": "sgd"},
        "half the batch": {"batch_size": 32},
        "twice as long": {"epochs": 2},
        "pooled, smoothed": {"pool": "gap", "label_smoothing": 0.1},
    }
    rates = {run["arm"]: run["learning_rate"] for run in facts["runs"]}
    assert (rates["as it is"], rates["SGD"]) == (1e-3, 0.05)


def test_the_table_says_it_too_where_arms_differ_in_more_than_the_model(vitbench, my_study, tmp_path):
    out = vitbench("plan", my_study, "--budget", "smoke", "--results", tmp_path / "results").out
    assert re.search(r"SGD .* optimizer sgd, learning rates × 50 ", out)
    assert re.search(r"twice as long .* epochs 2 .* 2 ", out) and re.search(r"as it is .* nothing ", out)
    assert "differs in" not in vitbench("plan", "pooling", "--budget", "smoke", "--results", tmp_path / "results").out


def test_an_arm_that_differs_by_the_scale_of_its_rates_alone_has_the_column_too(vitbench, tmp_path):
    study = write_study(
        tmp_path,
        "from vitbench.studies import Arm, Study\n"
        'STUDY = Study("?", "", Arm("as it is"), [Arm("slow", learning_rate_scale=0.1)], name="mine")\n',
    )
    out = vitbench("plan", study, "--budget", "smoke", "--results", tmp_path / "results").out
    assert re.search(r"arm +variant +differs in +params", out)
    assert re.search(r"slow .* learning rates × 0\.1 ", out) and re.search(r"as it is .* nothing ", out)


def test_an_edited_arm_is_pending_and_told_while_all_others_stay_done(vitbench, my_study, tmp_path, made_up):
    results = tmp_path / "results"
    record_all(my_study, results, made_up)
    facts = planned(vitbench, my_study, "--results", results)
    assert facts["redefined_arms"] == [] and all(run["done"] for run in facts["runs"])
    my_study.write_text(my_study.read_text().replace("mixup=0.2", "mixup=0.4"))
    facts = planned(vitbench, my_study, "--results", results)
    assert {run["arm"] for run in facts["runs"] if not run["done"]} == {"mixup"}
    assert facts["redefined_arms"] == [
        {
            "study": "mine",
            "dataset": "digits",
            "arm": "mixup",
            "recorded_runs": 2,
            "fields": {"mixup": {"recorded": 0.2, "planned": 0.4}},
        }
    ]
    (line,) = re.findall(r"`mine: 6 recorded runs(.*?)`", PAGE)
    out = vitbench("plan", my_study, "--budget", "smoke", "--results", results).out
    assert f"mine: 2 recorded runs{line}" in out.replace("\n", " ")


def test_what_is_asked_for_and_an_arm_sets_itself_is_told(vitbench, my_study, tmp_path):
    command = ["plan", my_study, "--budget", "smoke", "--batch-size", "128", "--results", tmp_path / "results"]
    out = vitbench(*command).out.replace("\n", " ")
    assert "batch_size 128 does not hold for 'half the batch', as the study gives batch_size there" in out
