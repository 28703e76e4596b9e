"""Do verdicts at one rate for all stand beside those at each arm's own, only where all arms have the seeds?"""

from __future__ import annotations

import pytest

from tests.made_up_records import DESIGN, make_record
from vitbench.analysis.comparison.assessment import assess
from vitbench.analysis.comparison.load import compare
from vitbench.analysis.comparison.shared_rates import at_shared_rates
from vitbench.analysis.tables.cells import raw_rows
from vitbench.analysis.tables.further import further_tables, shared_rates
from vitbench.analysis.tables.reading import reading

WOBBLE = (0.001, -0.001, 0.0005, -0.0005, 0.0)
CURVES = {"cls": {1e-3: 0.60, 2e-3: 0.62, 4e-3: 0.58}, "gap": {1e-3: 0.56, 2e-3: 0.60, 4e-3: 0.62}}
"""As in Figure 9: at the class token's best rates gap is worse; at gap's own best it is as good."""


def records(curves=CURVES, *, seeds=5, runs=lambda arm, rate, seed: True, **fields):
    rates = tuple(sorted({rate for by_rate in curves.values() for rate in by_rate}))
    design = DESIGN.model_copy(update={"baseline": "cls", "arms": tuple(curves), "learning_rates": rates})
    design = design.model_copy(update=fields.pop("design", {}))
    return [
        make_record(
            arm,
            seed=seed,
            learning_rate=rate,
            test=top1 + (WOBBLE[seed % 5] if arm != "cls" else 0),
            val=top1,
            model={"pool": arm},
            design=design,
            **fields,
        )
        for arm, by_rate in curves.items()
        for rate, top1 in by_rate.items()
        for seed in range(seeds)
        if runs(arm, rate, seed)
    ]


def verdicts_of(made):
    (comparison,) = compare(made)
    return {
        rate: {label: decision.verdict.value for label, decision in arms.items()}
        for rate, arms in at_shared_rates(comparison).items()
    }


def test_both_arms_are_at_the_shared_rate_and_at_their_own_elsewhere():
    assert verdicts_of(records()) == {1e-3: {"gap": "worse"}, 2e-3: {"gap": "worse"}, 4e-3: {"gap": "better"}}
    (comparison,) = compare(records())
    table = shared_rates(assess(comparison))
    assert table.rows == [
        {
            "arm": "gap",
            "both at 0.001": "worse, −4.00",
            "both at 0.002": "worse, −2.00",
            "both at 0.004": "better, +4.00",
            "each at its own": "equivalent, 0.00",
            "misleading": "0.001, 0.002, 0.004",
        }
    ]


def test_a_rate_at_which_an_arm_lacks_seeds_is_left_out():
    made = records(runs=lambda arm, rate, seed: arm == "cls" or rate != 4e-3 or seed < 2)
    assert list(verdicts_of(made)) == [1e-3, 2e-3]


def test_where_rates_are_tried_on_two_seeds_alone_there_is_no_such_table():
    made = records(runs=lambda arm, rate, seed: seed < 2 or rate == 2e-3, design={"tuning_seeds": 2})
    assert verdicts_of(made) == {}
    (comparison,) = compare(made)
    assert "One learning rate for all" not in [table.title for table in further_tables(assess(comparison))]


@pytest.mark.parametrize(
    "curves", [{"cls": {1e-3: 0.6}, "gap": {1e-3: 0.5}}, {"cls": CURVES["cls"]}], ids=["one rate", "no arm"]
)
def test_without_a_choice_of_rates_or_another_arm_there_is_none(curves):
    assert verdicts_of(records(curves)) == {}


def test_with_another_field_tuned_a_rate_is_no_setting():
    made = records(design={"tuned": {"weight_decay": (0.05,)}})
    assert verdicts_of(made) == {}


def test_an_arm_with_rates_of_its_own_shares_the_place_in_the_grid():
    made = records(
        {"cls": CURVES["cls"], "gap": {50 * rate: top1 for rate, top1 in CURVES["gap"].items()}},
        design={"learning_rates": (1e-3, 2e-3, 4e-3), "learning_rate_scales": {"gap": 50.0}},
    )
    assert [arms["gap"] for arms in verdicts_of(made).values()] == ["worse", "worse", "better"]


def test_seeds_that_were_added_after_a_look_do_not_count_there():
    (comparison,) = compare(records(seeds=8, design={"looks": (5, 8), "seeds": None}))
    counts = {arms["gap"].difference.n for arms in at_shared_rates(comparison).values()}
    assert counts == {5}


def test_arms_of_one_rate_are_tested_together():
    curves = CURVES | {"map": CURVES["gap"]}
    (comparison,) = compare(records(curves))
    decisions = at_shared_rates(comparison)[1e-3]
    assert sorted(decision.corrected_for for decision in decisions.values()) == [1, 2]


def test_a_run_that_diverged_at_that_rate_leaves_better_open():
    made = records(runs=lambda arm, rate, seed: (arm, rate, seed) != ("gap", 4e-3, 4))
    made += [
        make_record("gap", seed=4, learning_rate=4e-3, outcome="diverged", model={"pool": "gap"}, design=made[0].design)
    ]
    assert verdicts_of(made)[4e-3] == {"gap": "open"}


def test_an_open_verdict_at_the_own_rate_is_misled_by_none_and_the_page_says_how_to_read_it():
    curves = {"cls": CURVES["cls"], "gap": {1e-3: 0.56, 2e-3: 0.6205, 4e-3: 0.60}}
    made = [
        record.model_copy(
            update={"metrics": {**record.metrics, "test_top1": record.metrics["test_top1"] + 0.02 * (record.seed % 2)}}
        )
        if record.arm == "gap" and record.learning_rate == 2e-3
        else record
        for record in records(curves)
    ]
    (comparison,) = compare(made)
    (row,) = shared_rates(assess(comparison)).rows
    assert row["each at its own"].startswith("open") and row["misleading"] == "–"
    assert any(sentence.startswith("One learning rate for all: ") for sentence in reading(assess(comparison)))


def test_the_csv_has_verdict_and_interval_at_each_shared_rate():
    (comparison,) = compare(records())
    of_baseline, of_gap = raw_rows(assess(comparison))
    name = "with_both_at_rate_0.002"
    assert of_gap[f"verdict_{name}"] == "worse" and of_baseline[f"verdict_{name}"] is None
    assert of_gap[f"difference_{name}_mean_points"] == pytest.approx(-2.0)
    # SD 0.079 points over 5 seeds: t(4) 2.776 × 0.0791 / √5 = 0.098 points either side.
    assert of_gap[f"interval_{name}_low_points"] == pytest.approx(-2.098, abs=1e-3)
