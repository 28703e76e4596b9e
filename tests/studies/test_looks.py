"""Are the looks of a study those that were asked for, and is what contradicts itself refused in a line?"""

from __future__ import annotations

import pytest

from tests.made_up_records import make_record
from vitbench.analysis.statistics.verdicts import FEWEST_SEEDS
from vitbench.data import describe
from vitbench.studies import BUDGETS, Arm, Overrides, Study, make_plan
from vitbench.studies.looks import FEWEST, LOOKS, LookedAt, looks_of, parse_until
from vitbench.studies.resolved_study import resolve_study

DIGITS = describe("digits")
ARMS = [Arm("gap", pool="gap"), Arm("map", pool="map")]


def study(**fields):
    return Study(question="?", source="", baseline=Arm("cls"), arms=ARMS, name="three_pools", **fields)


@pytest.mark.parametrize(
    ("rule", "asked", "expected"),
    [
        (None, {}, ()),
        (None, {"seeds": 3}, ()),
        (None, {"until": "settled"}, LOOKS),
        (None, {"until": "settled", "max_seeds": 18}, (5, 8, 12, 18)),
        (None, {"until": "settled", "max_seeds": 20}, (5, 8, 12, 18, 20)),
        (None, {"until": "settled", "max_seeds": 60}, (*LOOKS, 60)),
        ("settled", {}, LOOKS),
        ((3, 6), {}, (3, 6)),
        ((3, 6), {"until": "settled"}, LOOKS),
        ("settled", {"until": (3, 6)}, (3, 6)),
        ((3, 6), {"max_seeds": 4}, (3, 4)),
        ((3, 6), {"seeds": 4}, ()),  # a fixed number, in place of the study's rule
    ],
)
def test_looks(rule, asked, expected):
    resolved = resolve_study(study(until=rule), BUDGETS["smoke"], DIGITS, Overrides(**asked))
    assert resolved.looks == resolved.design.looks == expected


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"until": "settled", "seeds": 3}, "seeds 3 does not go with --until"),
        ({"max_seeds": 9}, "max_seeds 9 is for --until settled"),
        ({"until": "settled", "max_seeds": 4}, "max_seeds 4 is less than the first look, 5 seeds"),
    ],
)
def test_what_contradicts_itself_is_refused(asked, line):
    with pytest.raises(ValueError, match=line):
        looks_of(asked.pop("until", None), **asked)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("setled", "until: 'setled' is no rule; give settled, or 5,8,12"),
        ("5,x", "until: '5,x' is no rule"),
        ("8,5", "until: .* is no rule"),
        ("1,5", "until: the first look, at 1 seeds, is too early"),
        ("5,1001", "until: the last look, at 1001 seeds, is too late; give 1000 or fewer"),
    ],
)
def test_a_rule_on_the_command_line(text, line):
    assert (parse_until("settled"), parse_until("6,9,12")) == ("settled", (6, 9, 12))
    with pytest.raises(ValueError, match=line):
        parse_until(text)


@pytest.mark.parametrize("until", ["setled", 5, (), (8, 5), (5, 5), (2, 5), (5.0,), (True, 5)])
def test_a_rule_that_is_none_is_refused_where_the_study_is_written(until):
    with pytest.raises(ValueError, match=r"until|is no rule|too early"):
        study(until=until)


def test_until_settled_every_arm_has_the_seeds_of_the_first_look_and_records_say_the_rule():
    plan = make_plan(study(until=(4, 7)), BUDGETS["smoke"], DIGITS)
    assert {run.config.seed for run in plan.runs} == {0, 1, 2, 3}
    assert {(run.design.looks, run.design.seeds) for run in plan.runs} == {((4, 7), None)}
    fixed = make_plan(study(), BUDGETS["smoke"], DIGITS)
    assert {(run.design.looks, run.design.seeds) for run in fixed.runs} == {((), 2)}


def test_seeds_that_are_added_never_move_the_choice_of_a_setting():
    rates = Overrides(learning_rates=(1e-3, 2e-3))
    resolved = resolve_study(study(until=(4, 7)), BUDGETS["smoke"], DIGITS, rates)
    assert resolved.design.tuning_seeds == 4
    assert resolve_study(study(), BUDGETS["smoke"], DIGITS, rates).design.tuning_seeds is None  # all, as before


def later(plan):
    return plan.later and plan.later.runs, plan.expected and plan.expected.runs


FIELDS = ("run_id", "study", "arm", "budget", "variant", "design", "config")


def plan_of(looked_at):
    """After the first look, by a judge that says this."""
    of_study = study(until=(4, 7, 9)), BUDGETS["smoke"], DIGITS
    records = [
        make_record().model_copy(update={**{name: getattr(run, name) for name in FIELDS}, "seed": run.config.seed})
        for run in make_plan(*of_study).runs
    ]
    return make_plan(*of_study, records=records, judge=lambda *_: looked_at)


def test_open_arms_and_what_they_are_compared_with_get_the_seeds_of_the_next_look():
    plan = plan_of(LookedAt(4, {"gap": 4, "map": 7}, {"map": 8.5}))
    seeds = {arm: sorted(run.config.seed for run in plan.runs if run.arm == arm) for arm in ("cls", "gap", "map")}
    assert seeds == {"cls": [*range(7)], "gap": [*range(4)], "map": [*range(7)]}
    # At most two seeds more of two arms; 1.5 are expected of each.
    assert later(plan) == (4, 3)
    assert plan.later.training_flops == pytest.approx(
        sum(2 * r.training_flops for r in plan.runs[:3] if r.arm != "gap")
    )


def test_of_a_settled_study_nothing_follows():
    assert later(plan_of(LookedAt(4, {"gap": 4, "map": 4}, {}))) == (None, None)


def test_before_the_first_look_nothing_can_be_expected():
    assert later(plan_of(LookedAt(0, {"gap": 4, "map": 4}, {"gap": None, "map": None}))) == (3 * 5, None)
    assert later(make_plan(study(until=(4, 7, 9)), BUDGETS["smoke"], DIGITS)) == (3 * 5, None)  # no run is recorded


def test_what_a_look_has_shown_is_a_sentence():
    words = LookedAt(4, {"gap": 4, "map": 7}, {"map": 8.5}, {"gap": "better", "map": "open"}).sentence(
        "pools", "digits"
    )
    assert words == "pools on digits after 4 seeds. Better: gap. Open, to 7 seeds: map"
    over = LookedAt(9, {"gap": 4, "map": 9}, {}, {"gap": "better", "map": "open"}).sentence("pools", "digits")
    assert over == "pools on digits after 9 seeds. Better: gap. Open at the last look: map"


def test_the_first_look_has_the_fewest_seeds_of_a_verdict():
    assert FEWEST == FEWEST_SEEDS
