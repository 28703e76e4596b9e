"""Do the rows of arms hold the numbers computed by hand?"""

from __future__ import annotations

import csv
import io

import pytest

from tests.analysis.two_arms import two_arms
from tests.made_up_records import make_record
from vitbench.analysis.comparison.assessment import assess
from vitbench.analysis.comparison.load import compare
from vitbench.analysis.tables import captions, page
from vitbench.analysis.tables import cells as table_cells
from vitbench.records import Design, Outcome


def cells(comparison, arm_index):
    return table_cells.arm_rows(assess(comparison))[arm_index]


def test_the_cells_are_those_computed_by_hand():
    (comparison,) = compare(two_arms())
    row = cells(comparison, 1)
    assert row["top-1 (%)"] == "93.00 ± 2.83 (n=2)"
    assert row["difference (points)"] == "+2.00 (n=2)"  # two seeds decide nothing; the CSV has their interval
    raw = table_cells.raw_rows(assess(comparison))[1]
    interval = raw["difference_ci95_low_points"], raw["difference_ci95_high_points"]
    assert interval == pytest.approx((-10.706, 14.706), abs=1e-3)
    assert row["MACs relative to baseline"] == "1.10×"
    assert row["GMACs"] == "0.00330"
    assert row["params"] == "201k"
    assert row["learning rate"] == "0.001 (fixed)"
    assert row["training (images/s)"] == "1,050"
    assert row["peak memory (MiB)"] == "100"
    assert row["completed runs"] == "2/2"
    assert cells(comparison, 0)["arm"] == "cls (baseline)"
    assert cells(comparison, 0)["difference (points)"] == "–"


def test_one_seed_has_no_deviation_and_no_interval():
    (comparison,) = compare([make_record("cls", test=0.9), make_record("gap", test=0.85)])
    row = cells(comparison, 1)
    assert row["top-1 (%)"] == "85.00 (n=1)"
    assert row["difference (points)"] == "−5.00 (n=1)"


def test_diverged_and_failed_runs_are_counted_in_the_row():
    (comparison,) = compare(
        [
            make_record(seed=0),
            make_record(seed=1, outcome=Outcome.DIVERGED),
            make_record(seed=2, outcome=Outcome.FAILED),
        ]
    )
    assert cells(comparison, 0)["completed runs"] == "1/3 (1 failed, 1 diverged)"


def test_where_rates_were_chosen_the_difference_at_the_baseline_s_rate_stands_beside(store_with):
    # cls is best at 1e-3 (0.90), gap at 1e-2 (0.95); at 1e-3 gap has 0.80: 10 points below, by each of two seeds.
    accuracies = {("cls", 1e-3): 0.90, ("cls", 1e-2): 0.70, ("gap", 1e-3): 0.80, ("gap", 1e-2): 0.95}
    records = [
        make_record(arm, seed=seed, learning_rate=rate, test=value)
        for (arm, rate), value in accuracies.items()
        for seed in (0, 1)
    ]
    (comparison,) = compare(records)
    row = cells(comparison, 1)
    assert row["difference (points)"].startswith("+5.00")
    assert row["difference at baseline's rate (points)"].startswith("−10.00")
    (fixed,) = compare(two_arms())
    assert "difference at baseline's rate (points)" not in table_cells.arm_rows(assess(fixed))[0]
    raw = table_cells.raw_rows(assess(fixed))[0]
    assert {"difference_at_baseline_rate_mean_points", "epochs", "training_tflop"} <= set(raw)


def tuned_comparison():
    design = Design(
        question="",
        source="",
        baseline="cls",
        arms=("cls",),
        learning_rates=(2e-3,),
        tuned={"weight_decay": (0.05, 0.2), "mixup": (0.0,)},
        tuning_seeds=1,
    )
    records = [
        make_record(learning_rate=2e-3, seed=seed, test=test, train={"weight_decay": wd}, design=design)
        for seed, wd, test in ((0, 0.05, 0.9), (0, 0.2, 0.8), (1, 0.05, 0.9))
    ]
    (comparison,) = compare(records)
    return comparison


def test_a_setting_of_several_fields_is_written_out_and_each_field_is_a_column_of_the_csv(store_with):
    comparison = tuned_comparison()
    row = cells(comparison, 0)
    assert row["setting"] == "lr 0.002, weight_decay 0.05, mixup 0 (edge)"
    assert "top-1 at baseline's setting (%)" in row and "learning rate" not in row
    (raw,) = csv.DictReader(io.StringIO(page.texts_of(assess(comparison))["csv"]))
    assert (raw["learning_rate"], raw["weight_decay"], raw["weight_decay_edge"]) == ("0.002", "0.05", "lowest")
    sentence = captions.conventions(assess(comparison))[0]
    assert "at the setting with the best mean validation accuracy" in sentence
    assert (
        "Settings are compared on those of seed 0 at which every setting has a result; the other seeds are held out"
        in (sentence)
    )
    assert "mixup as tuned" in captions.facts(comparison)["Data"]


def test_what_was_made_equal_is_said_and_each_arm_has_its_epochs_and_training_flops():
    design = Design(
        question="",
        source="",
        baseline="cls",
        arms=("cls", "gap"),
        learning_rates=(1e-3,),
        match="flops",
        epochs={"cls": 20, "gap": 24.5},
        train_images=1280,
    )
    records = [make_record("cls", design=design), make_record("gap", train={"epochs": 24.5}, design=design)]
    (comparison,) = compare(records)
    assert [cells(comparison, index)["epochs"] for index in (0, 1)] == ["20", "24.5"]
    # Ten steps of 128 an epoch: 24.5 epochs are 245 steps.
    flops = [row["training_tflop"] * 1e12 for row in table_cells.raw_rows(assess(comparison))]
    assert flops[1] / flops[0] == pytest.approx(24.5 / 20)
    assert any("Training FLOPs are equal, not epochs" in text for text in captions.conventions(assess(comparison)))
    assert captions.facts(comparison)["Budget"] == "quick, 20 epochs of the baseline and equal training FLOPs"


def arms_that_change(changes, *, design=None, **fields):
    """The baseline and one arm for each of these changes, by name."""
    plan = Design(
        question="", source="", baseline="base", arms=("base", *changes), learning_rates=(1e-3,), changes=changes
    ).model_copy(update=design or {})
    return [make_record(name, seed=seed, design=plan, **fields) for name in ("base", *changes) for seed in range(3)]


@pytest.mark.parametrize(
    ("changes", "design", "says_more"),
    [
        ({"gap": {"pool": "gap"}}, {}, False),
        ({"4 registers": {"num_registers": 4}, "Mean all": {"pool": "mean_all"}}, {}, False),
        ({"gap": {"pool": "gap"}, "no smoothing": {"label_smoothing": 0.1}}, {}, True),
        ({"gap": {"pool": "gap", "label_smoothing": 0.1}}, {}, True),
        ({"gap": {"pool": "gap"}}, {"learning_rate_scales": {"gap": 2.0}}, True),
    ],
)
def test_in_what_arms_differ_is_told_only_where_it_says_more_than_their_names(changes, design, says_more):
    (comparison,) = compare(arms_that_change(changes, design=design))
    main, details = table_cells.arm_tables(assess(comparison))
    assert ("differs in" in main.columns) == says_more
    assert "differs in" not in details.columns and "differs_in" in table_cells.raw_rows(assess(comparison))[0]


def test_the_first_table_has_six_columns_at_most_and_no_column_is_lost():
    (comparison,) = compare(two_arms())
    main, details = table_cells.arm_tables(assess(comparison))
    assert main.columns == ("arm", "top-1 (%)", "difference (points)", "verdict", "GMACs", "learning rate")
    every = set(table_cells.arm_rows(assess(comparison))[0])
    assert {*main.columns, *details.columns} == every and {*main.columns} & {*details.columns} == {"arm"}
    (alone,) = compare([make_record()])
    main, details = table_cells.arm_tables(assess(alone))
    assert main.columns == ("arm", "top-1 (%)", "learning rate") and "verdict" not in details.columns


def test_a_cost_that_all_arms_share_is_no_column_of_the_first_table():
    (comparison,) = compare([make_record("cls", seed=0), make_record("gap", seed=0)])
    main, details = table_cells.arm_tables(assess(comparison))
    assert "GMACs" not in main.columns and "GMACs" in details.columns
