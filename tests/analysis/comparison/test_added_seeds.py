"""Does a comparison say by which rule its seeds came, and where that rule was no rule?"""

from __future__ import annotations

import pytest

from tests.made_up_records import DESIGN, make_record
from vitbench.analysis.comparison.added_seeds import about_looks
from vitbench.analysis.comparison.findings import findings_of
from vitbench.analysis.comparison.load import compare
from vitbench.analysis.comparison.wording import verdict_text

TWO = DESIGN.model_copy(update={"baseline": "cls", "arms": ("cls", "gap")})


def records(seeds, *, planned=None, looks=(), day="2026-11-01", effect=0.02):
    """Of two arms, each run a minute after that of the seed before."""
    design = TWO.model_copy(update={"seeds": planned, "looks": looks})
    for seed in seeds:
        at = {"started": f"{day}T10:{seed:02}:00Z", "finished": f"{day}T10:{seed:02}:50Z"}
        for arm, accuracy in (("cls", 0.8), ("gap", 0.8 + effect + 0.001 * (seed % 3))):
            model = {"pool": "gap"} if arm == "gap" else {}
            yield make_record(arm, seed=seed, test=accuracy, model=model, design=design).model_copy(update=at)


def verdict_of(*parts):
    (comparison,) = compare([record for part in parts for record in part])
    return verdict_text(findings_of(comparison).arms["gap"].decision), " ".join(about_looks(comparison))


def test_seeds_raised_by_eye_are_told_beside_the_verdict():
    verdict, notes = verdict_of(records(range(3), planned=3), records(range(3, 6), planned=6, day="2026-11-02"))
    assert verdict == "better, seeds were added after looking"
    assert "Seeds were added after looking" in notes


@pytest.mark.parametrize("before", [3, None])
def test_also_beside_records_that_do_not_say_how_many_were_planned(before):
    verdict, _ = verdict_of(records(range(3), planned=before), records(range(3, 6), planned=6, day="2026-11-02"))
    assert verdict == "better, seeds were added after looking"


@pytest.mark.parametrize(
    "parts",
    [
        (records(range(6), planned=6),),
        (records(range(3), planned=6), records(range(3, 6), planned=6, day="2026-11-02")),  # interrupted
        (records(range(6)),),  # older records
        (records(range(6)), records(range(6), planned=6, day="2026-11-02")),
        (records(range(3, 6), planned=6), records(range(3), planned=3, day="2026-11-02")),  # a smaller plan came later
    ],
)
def test_one_plan_is_none_that_was_raised(parts):
    assert verdict_of(*parts) == ("better", "")


def test_a_new_arm_that_gets_all_seeds_later_hides_nothing():
    later = [r for r in records(range(6), planned=6, day="2026-11-02") if r.seed > 2 or r.arm == "gap"]
    first = [r for r in records(range(3), planned=3) if r.arm == "cls"]
    assert verdict_of(first, later)[0] == "better, seeds were added after looking"


def test_a_rule_that_was_given_up_is_none():
    rule, fixed = records(range(3), looks=(3, 5)), records(range(3, 4), planned=4, day="2026-11-02")
    verdict, notes = verdict_of(rule, fixed)
    assert verdict == "better, seeds were added after looking"
    assert "they came by a rule, which was then given up for a fixed number" in notes


def test_the_looks_are_told_and_which_are_over():
    verdict, notes = verdict_of(records(range(4), looks=(3, 5)))
    assert verdict == "better"
    assert "after 3, 5 seeds, so far after 3." in notes
    assert "2 runs beyond the last look do not count yet." in notes


def test_a_rule_that_came_later_or_was_changed_is_told():
    _, notes = verdict_of(records(range(3)), records(range(3, 5), looks=(3, 5)))
    assert "The rule was fixed when 3 seeds of a fixed number had been run." in notes
    _, notes = verdict_of(records(range(3), looks=(3, 9)), records(range(3, 5), looks=(3, 5)))
    assert "The looks were changed on the way: before, they were (3, 9)." in notes
