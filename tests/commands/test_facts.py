"""Do the commands that compute nothing start without torch, and is their JSON what the contract says?"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from vitbench.config import RunConfig
from vitbench.records import Record, RecordStore
from vitbench.studies import BUDGETS, IN_ALL, STUDIES

WITHOUT_TORCH = """
import sys
from vitbench.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
heavy = sorted({"torch", "timm", "torchvision", "sklearn", "scipy", "matplotlib"} & set(sys.modules))
print("imported:", *heavy, file=sys.stderr)
"""


@pytest.mark.parametrize("command", [["list"], ["list", "--json"], ["plan", "all"], ["plan", "all", "--json"]])
def test_facts_are_told_without_importing_torch(command, tmp_path):
    places = ["--results", str(tmp_path / "results")] if command[0] == "plan" else []
    said = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_TORCH, *command, *places],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stderr == "imported:\n"
    assert said.stdout
    assert not (tmp_path / "results").exists()


def test_a_plan_with_records_imports_no_torch_either(tmp_path, made_up):
    RecordStore(tmp_path).append(made_up())
    command = ["plan", "pooling", "--budget", "smoke", "--results", str(tmp_path), "--json"]
    said = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *command], capture_output=True, text=True, check=True)
    assert said.stderr == "imported:\n"


def test_list_names_studies_budgets_data_sets_and_variants(vitbench):
    status, out, err = vitbench("list", "--json")
    facts = json.loads(out)
    assert (status, err) == (0, "")
    assert [study["name"] for study in facts["studies"]] == list(STUDIES)
    assert [budget["name"] for budget in facts["budgets"]] == list(BUDGETS) == ["smoke", "quick", "standard", "paper"]
    assert {"digits", "shapes"} <= {data["name"] for data in facts["datasets"]}
    sizes = {row["name"]: row["params"] for row in facts["variants"]}
    # Dosovitskiy et al. 2021, Table 1 (86M, 307M, 632M); Touvron et al. 2021, Table 1 (5M, 22M).
    published = {"Ti/16": 5.7e6, "S/16": 22e6, "B/16": 86.6e6, "L/16": 304e6, "H/14": 632e6}
    assert {name: sizes[name] for name in published} == pytest.approx(published, rel=0.01)
    assert all(word in vitbench("list").out for word in ("pooling", "digits", "smoke", "B/16"))


def test_the_plan_as_json_has_the_keys_of_the_contract_and_nothing_else_is_on_stdout(vitbench, tmp_path):
    status, out, err = vitbench("plan", "all", "--budget", "smoke", "--results", tmp_path / "none", "--json")
    facts = json.loads(out)
    assert (status, err) == (0, "")
    assert {run["study"] for run in facts["runs"]} == set(IN_ALL)
    for run in facts["runs"]:
        assert set(run) >= {"run_id", "arm", "seed", "learning_rate", "macs", "done"}
        assert len(run["run_id"]) == 16 and run["macs"] > 0 and run["done"] is False


def test_the_plan_tells_what_is_done(vitbench, tmp_path, made_up):
    smoke = ["plan", "pooling", "--budget", "smoke", "--results", tmp_path]
    before = json.loads(vitbench(*smoke, "--json").out)["runs"]
    # Runs by hand what the first line plans: the smoke budget's Nano on 256 digits.
    config = made_up().config
    record = made_up(config=config.replace(train={**config.train.model_dump(), "learning_rate": 1e-3}))
    assert record.run_id == before[0]["run_id"]
    RecordStore(tmp_path).append(record)
    after = json.loads(vitbench(*smoke, "--json").out)["runs"]
    assert [run["run_id"] for run in after if run["done"]] == [record.run_id]
    assert f"{len(before) - 1} of {len(before)} runs to do" in vitbench(*smoke).out


def test_a_data_set_or_study_given_twice_is_planned_once(vitbench, tmp_path):
    def planned(*arguments):
        options = ("--budget", "smoke", "--results", tmp_path, "--json")
        return [run["run_id"] for run in json.loads(vitbench("plan", *arguments, *options).out)["runs"]]

    once = planned("pooling", "--data", "torch/cifar10")
    assert planned("pooling", "pooling", "--data", "torch/cifar10", "--data", "torch/CIFAR10") == once
    assert len(set(once)) == len(once)


def test_jobs_beyond_the_runs_do_not_shorten_the_estimate(vitbench, tmp_path):
    options = ("pooling", "--budget", "smoke", "--seeds", "1", "--learning-rate", "1e-3", "--results", tmp_path)
    assert json.loads(vitbench("plan", *options, "--jobs", "50", "--json").out)["workers"] == 4  # arms


def test_train_as_json_prints_the_record_that_it_wrote_and_a_second_call_prints_it_again(vitbench, tmp_path):
    command = [
        *("train", "Nano/4", "--epochs", "1", "--batch-size", "64", "--train-images", "64", "--width", "16"),
        *("--pool", "gap", "--num-registers", "1", "--device", "cpu", "--precision", "fp32", "--threads", "1"),
        *("--results", tmp_path, "--json"),
    ]
    status, out, err = vitbench(*command)
    assert (status, err, out.count("\n")) == (0, "", 1)
    record = Record.model_validate_json(out)
    assert RecordStore(tmp_path).read("train") == [record]
    model = record.config.model
    assert (model.width, model.pool, model.num_registers, model.patch_size, model.depth) == (16, "gap", 1, 4, 3)
    assert record.config.train.batch_size == record.config.data.train_images == 64
    assert set(record.metrics) >= {"test_top1", "val_top1", "test_loss"}
    assert RunConfig.model_validate(json.loads(out)["config"]).run_id == record.run_id

    assert vitbench(*command).out == out
    assert len(RecordStore(tmp_path).read("train")) == 1
    assert "not run again" in vitbench(*command[:-1]).out


@pytest.mark.parametrize("command", ["tables", "plots", "report"])
def test_an_empty_results_folder_is_answered_in_a_line(vitbench, tmp_path, command):
    said = vitbench(command, "--results", tmp_path / "empty")
    assert said.status in (0, 2)
    assert (said.out + said.err).count("\n") <= 1 and "Traceback" not in said.err


def test_version_is_printed_alone(vitbench):
    from vitbench import __version__

    assert vitbench("--version").out.strip() == __version__


STAGED = ("plan", "pooling", "--budget", "smoke", "--seeds", "4", "--tune-seeds", "1", "--extend", "1", "--results")


def test_a_plan_in_stages_says_what_is_known_and_how_much_may_follow(vitbench, tmp_path):
    # Four arms × two rates on one seed; then two more rates, and three seeds at 1 + 3 × 2 settings.
    facts = json.loads(vitbench(*STAGED, tmp_path, "--json").out)
    assert len(facts["runs"]) == 8
    assert facts["later"]["runs_at_most"] == 4 * 2 + 3 * 7 and facts["later"]["hours_at_most"] > 0
    assert "then at most 29 more" in vitbench(*STAGED, tmp_path).out
    whole = vitbench("plan", "pooling", "--budget", "smoke", "--results", tmp_path)
    assert "then at most" not in whole.out
    assert (
        json.loads(vitbench("plan", "pooling", "--budget", "smoke", "--results", tmp_path, "--json").out)["later"]
        is None
    )


def test_a_plan_tells_settings_and_epochs(vitbench, tmp_path):
    command = ("plan", "patch_size", "--budget", "smoke", "--seeds", "1", "--results", tmp_path)
    command = (*command, "--tune", "weight_decay=0.05,0.2", "--match", "flops", "--epochs", "2")
    facts = json.loads(vitbench(*command, "--json").out)
    assert {run["tuned"]["weight_decay"] for run in facts["runs"]} == {0.05, 0.2}
    epochs = {run["arm"]: run["epochs"] for run in facts["runs"]}
    assert epochs["2 px"] == 2 and epochs["1 px"] < 2 < epochs["4 px"]
    assert "settings × seeds" in vitbench(*command).out and "epochs" in vitbench(*command).out


def test_a_plan_of_equal_time_says_that_it_estimates_until_it_is_measured(vitbench, tmp_path):
    command = ("plan", "pooling", "--budget", "smoke", "--seeds", "1", "--match", "time", "--results", tmp_path)
    assert json.loads(vitbench(*command, "--json").out)["epochs_are_estimates"] is True
    assert "`vitbench run` measures how fast each arm trains" in vitbench(*command).out
    assert not (tmp_path / "rates").exists()
