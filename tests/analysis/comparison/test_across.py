"""Is what one study found on several data sets put side by side, and put into words by the written rule?"""

from __future__ import annotations

import csv

import pytest

from tests.made_up_records import DESIGN, make_record
from vitbench.analysis.comparison.across import arms_across
from vitbench.analysis.comparison.assessment import assess
from vitbench.analysis.comparison.load import compare
from vitbench.analysis.comparison.wording import verdict_text
from vitbench.analysis.pages import write_tables
from vitbench.analysis.tables.across import across_table, summary

WOBBLE = (0.001, -0.001, 0.0005, -0.0005, 0.0)


def records(dataset, *, gap, wobble=WOBBLE, **fields):
    """Five seeds of cls at 90 % and of gap that much above it, give or take the wobble."""
    data = {"dataset": dataset, **fields.pop("data", {})}
    return [
        make_record(arm, seed=seed, test=0.9 + more, data=data, model={"pool": arm}, **fields)
        for seed, wobbles in enumerate(wobble)
        for arm, more in (("cls", 0.0), ("gap", gap + wobbles))
    ]


def found(*records):
    return arms_across(map(assess, compare(records)))


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        (0.02, 0.03, "alike"),  # better, better
        (-0.02, -0.03, "alike"),  # worse, worse
        (0.0, 0.0, "alike"),  # equivalent, equivalent: ±0.1 points, within half a point
        (0.02, -0.03, "opposed"),
        (0.02, 0.0, "differs"),  # better, equivalent
        (0.0, -0.03, "differs"),
    ],
)
def test_an_arm_is_alike_opposed_or_differs_by_its_verdicts(first, second, together):
    (arm,) = found(*records("digits", gap=first), *records("shapes", gap=second))
    assert (arm.study, arm.arm, arm.together) == ("pool", "gap", together)


def test_an_open_verdict_leaves_it_open():
    wide = tuple(20 * one for one in WOBBLE)  # SD 1.6 points around half a point
    (arm,) = found(*records("digits", gap=0.005, wobble=wide), *records("shapes", gap=0.005, wobble=wide))
    assert [verdict_text(finding.decision) for finding in arm.findings.values()] == ["open"] * 2
    assert arm.together == "open"


def test_of_an_open_arm_the_seeds_on_each_data_set_are_said():
    wide = tuple(20 * one for one in (*WOBBLE, 0.0))
    arms = found(*records("digits", gap=0.02), *records("shapes", gap=0.005, wobble=wide))
    assert [row["together"] for row in across_table(arms).rows] == ["open: 5, 6 seeds"]


def test_better_here_and_worse_there_is_opposed_whatever_a_third_says():
    wide = tuple(20 * one for one in WOBBLE)
    third = records("bars", gap=0.005, wobble=wide)
    (arm,) = found(*records("digits", gap=0.02), *records("shapes", gap=-0.02), *third)
    assert arm.together == "opposed"


def test_a_data_set_at_the_ceiling_says_nothing_of_the_arm():
    at_ceiling = [
        make_record(arm, seed=seed, test=1.0, data={"dataset": "shapes"}, model={"pool": arm})
        for seed in range(5)
        for arm in ("cls", "gap")
    ]
    assert found(*records("digits", gap=0.02), *at_ceiling) == []
    (arm,) = found(*records("digits", gap=0.02), *at_ceiling, *records("bars", gap=0.02))
    assert list(arm.findings) == ["bars", "digits"]


def test_the_cells_are_those_computed_by_hand():
    """Five pairs, SD 0.079 points: t(4) 2.776 × 0.0791 / √5 = 0.098 points either side."""
    arms = found(*records("shapes", gap=0.03), *records("digits", gap=0.02))
    assert across_table(arms).rows == [
        {
            "study": "Pool",
            "budget": "quick, Micro",
            "arm": "gap",
            "digits": "+2.00 [+1.90, +2.10]: better",
            "shapes": "+3.00 [+2.90, +3.10]: better",
            "together": "alike",
        }
    ]
    assert summary(arms) == (
        "Verdicts of 1 arm on two data sets or more: alike for 1, opposed for none, differs for none, open for none."
    )


@pytest.mark.parametrize(
    "other",
    [
        {"train": {"label_smoothing": 0.1}},
        {"budget": "smoke"},
        {"variant": "Mini/2"},
        {"data": {"mixup": 0.2}},
        {"data": {"validation_fraction": 0.3}},
        {"environment": {"precision": "bf16"}},
        {"harness_version": 2},
        {"study": "other"},
    ],
    ids=str,
)
def test_what_differs_in_more_than_its_data_is_not_put_side_by_side(other):
    first, second = compare(records("digits", gap=0.02)), compare(records("shapes", gap=0.02, **other))
    assert arms_across(map(assess, [*first, *second])) == []


@pytest.mark.parametrize(
    "other",
    [
        {"data": {"flip": True, "crop_padding": 4}},
        {"train": {"epochs": 5}},
        {"variant": "Micro/4"},
        {"environment": {"data_sha256": "e" * 64}},
    ],
    ids=str,
)
def test_what_a_budget_has_for_each_data_set_may_differ(other):
    assert len(found(*records("digits", gap=0.02), *records("shapes", gap=0.02, **other))) == 1


@pytest.mark.parametrize("first", [True, False], ids=["the other one first", "the other one last"])
@pytest.mark.parametrize(
    ("shared", "other"),
    [
        ({"train": {"epochs": 4}}, {"train": {"epochs": 20}}),
        ({"train": {"epochs": 20}}, {"train": {"epochs": 4}}),
        ({"variant": "Micro/4"}, {"variant": "Micro/2"}),
        ({"variant": "Micro/2"}, {"variant": "Micro/4"}),
        ({"data": {"flip": True}}, {"data": {"flip": False}}),
    ],
    ids=str,
)
def test_where_a_data_set_was_used_in_several_ways_equal_ones_stand_side_by_side(shared, other, first):
    once, again = records("digits", gap=0.02, **shared), records("digits", gap=-0.02, **other)
    (arm,) = found(*(again if first else once), *(once if first else again), *records("shapes", gap=0.02, **shared))
    assert [verdict_text(finding.decision) for finding in arm.findings.values()] == ["better", "better"]


def test_budgets_and_sizes_have_rows_of_their_own():
    small = [*records("digits", gap=0.02), *records("shapes", gap=0.02)]
    large = [*records("digits", gap=-0.02, variant="Mini/2"), *records("shapes", gap=-0.02, variant="Mini/4")]
    rows = [(row["budget"], row["digits"].partition(": ")[2]) for row in across_table(found(*small, *large)).rows]
    assert sorted(rows) == [("quick, Micro", "better"), ("quick, Mini", "worse")]


def test_runs_that_two_studies_share_count_once():
    first = [*records("digits", gap=0.02), *records("shapes", gap=0.02)]
    again = [record.model_copy(update={"study": "other", "taken_from": "pool"}) for record in first]
    arms = arms_across(map(assess, [*compare(first), *compare(again)]))
    assert [arm.study for arm in arms] == ["other", "pool"]
    assert summary(arms).startswith("Verdicts of 1 arm on two data sets or more: alike for 1,")


def test_what_has_too_few_seeds_for_a_verdict_is_not_judged():
    assert found(*records("digits", gap=0.02), *records("shapes", gap=0.02, wobble=WOBBLE[:2])) == []


def test_a_tuned_field_need_not_be_the_same():
    design = DESIGN.model_copy(update={"tuned": {"mixup": (0.0, 0.2)}, "learning_rates": (1e-3,)})
    one = records("digits", gap=0.02, data={"mixup": 0.2}, design=design)
    assert len(found(*one, *records("shapes", gap=0.02, design=design))) == 1


def test_the_page_and_its_csv_are_written_linked_and_removed_once_one_data_set_is_left(store_with):
    root = store_with(*records("digits", gap=0.02), *records("shapes", gap=-0.02))
    write_tables(root)
    page = (root / "tables" / "across.md").read_text(encoding="utf-8")
    assert "opposed for 1," in page and "| Pool | quick, Micro | gap |" in page
    assert "(across.md)" in (root / "tables" / "README.md").read_text(encoding="utf-8")
    with (root / "tables" / "across.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["dataset"], row["verdict"], row["seeds"]) for row in rows] == [
        ("digits", "better", "5"),
        ("shapes", "worse", "5"),
    ]
    assert float(rows[1]["difference_points"]) == pytest.approx(-2.0)
    mine = root / "tables" / "mine.csv"
    mine.write_text("a\n1\n", encoding="utf-8")
    (root / "records" / "pool.jsonl").unlink()
    write_tables(store_with(*records("digits", gap=0.02)))
    left = {path.name for path in (root / "tables").iterdir() if path.is_file()}
    assert left == {"README.md", "mine.csv"}
