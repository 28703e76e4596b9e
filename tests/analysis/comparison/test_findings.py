"""Whether tables say of records what the statistics say, and only where there is something to say."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from scipy import stats

from tests.made_up_records import DESIGN, make_record
from vitbench.analysis.comparison.assessment import assess
from vitbench.analysis.comparison.load import compare
from vitbench.analysis.comparison.published import CLAIMS, BySize
from vitbench.analysis.comparison.wording import settle_text, verdict_text
from vitbench.analysis.pages import print_tables, write_tables
from vitbench.analysis.statistics.crossed import CrossedDifference
from vitbench.analysis.statistics.verdicts import MARGIN, Verdict
from vitbench.analysis.tables.cells import arm_rows, raw_rows
from vitbench.analysis.tables.further import further_tables
from vitbench.analysis.tables.page import latex, markdown, tables_of
from vitbench.analysis.tables.reading import reading
from vitbench.analysis.tables.sentences import sentence
from vitbench.data import describe
from vitbench.records import Outcome, pack_correct
from vitbench.studies import BUDGETS, STUDIES, load_study, make_plan

CLS = (0.70, 0.72, 0.71, 0.73, 0.69)
GAP = (0.74, 0.75, 0.76, 0.77, 0.72)
NOISY = (0.74, 0.66, 0.75, 0.70, 0.71)


def records_of(arms, **fields):
    return [
        make_record(arm, seed=seed, test=value, **fields)
        for arm, values in arms.items()
        for seed, value in enumerate(values)
    ]


def assessment_of(arms, **fields):
    (one,) = map(assess, compare(records_of(arms, **fields)))
    return one


def rows_of(one, title):
    (table,) = (table for table in further_tables(one) if table.title == title)
    return table.rows


def test_the_verdict_is_that_of_scipys_paired_t_test_after_holm():
    one = assessment_of({"cls": CLS, "gap": GAP, "map": NOISY})
    p_gap, p_map = (stats.ttest_rel(values, CLS).pvalue for values in (GAP, NOISY))
    assert p_gap < p_map
    found = one.findings.arms
    assert found["gap"].decision.adjusted_p == pytest.approx(2 * p_gap)
    assert found["map"].decision.adjusted_p == pytest.approx(max(p_map, 2 * p_gap))
    assert (found["gap"].decision.verdict, found["map"].decision.verdict) == (Verdict.BETTER, Verdict.OPEN)
    assert found["gap"].to_settle is None
    assert found["map"].to_settle is not None


def test_two_seeds_give_no_verdict_and_no_table_of_verdicts():
    one = assessment_of({"cls": CLS[:2], "gap": GAP[:2]})
    assert one.findings.arms["gap"].decision.verdict is Verdict.NONE
    assert "Verdicts" not in [table.title for table in further_tables(one)]
    assert "no verdict" in markdown(one)


def test_images_count_for_the_interval_over_both_and_for_what_only_one_gets():
    random = np.random.RandomState(0)
    right = {"cls": random.rand(5, 400) < 0.7, "gap": random.rand(5, 400) < 0.8}
    records = [
        make_record(arm, seed=seed, test=float(bits.mean()), correct=pack_correct(bits))
        for arm, by_seed in right.items()
        for seed, bits in enumerate(by_seed)
    ]
    (one,) = map(assess, compare(records))
    finding = one.findings.arms["gap"]
    by_hand = (right["gap"] & ~right["cls"]).sum(axis=1).mean(), (right["cls"] & ~right["gap"]).sum(axis=1).mean()
    assert finding.images_only_one_gets == pytest.approx(by_hand)
    over_seeds = finding.decision.difference.interval()
    assert finding.seeds_and_images.estimate.interval().half_width >= over_seeds.half_width * (1 - 1e-9)
    share = CrossedDifference.of(right["gap"].astype(np.int8) - right["cls"]).image_share
    (cells,) = rows_of(one, "Verdicts")
    assert cells["variance from test images"] == f"{100 * share:.0f} %"
    assert [row["share_of_variance_from_images"] for row in raw_rows(one)] == [None, share]


def test_an_arm_at_the_baselines_rate_has_a_verdict_of_its_own():
    """Figure 9's story: at the class token's rate averaging fails, at its own it does as well."""
    rates = {"cls": {1e-3: (0.70, 0.72, 0.71, 0.73, 0.69), 3e-4: (0.60, 0.62, 0.61, 0.63, 0.59)}}
    rates["gap"] = {1e-3: (0.61, 0.62, 0.60, 0.63, 0.60), 3e-4: (0.701, 0.719, 0.711, 0.729, 0.690)}
    for by_rate in rates.values():  # neither is best at an edge
        by_rate |= {3e-3: (0.5,) * 5, 1e-4: (0.5,) * 5}
    records = [
        make_record(arm, seed=seed, learning_rate=rate, test=value)
        for arm, by_rate in rates.items()
        for rate, values in by_rate.items()
        for seed, value in enumerate(values)
    ]
    (one,) = map(assess, compare(records))
    finding = one.findings.arms["gap"]
    assert finding.decision.verdict is Verdict.EQUIVALENT
    assert finding.at_baseline_setting.verdict is Verdict.WORSE
    (row,) = rows_of(one, "Verdicts")
    assert row["verdict"] == "equivalent"
    assert row["at baseline's rate"].endswith("worse")
    errs = "At the baseline's rate, where it is not the arm's own: that rate was chosen on the same seeds"
    assert any(line.startswith(errs) for line in reading(one))
    of = DESIGN.model_copy(update={"tuning_seeds": 2})
    (staged,) = map(assess, compare([record.model_copy(update={"design": of}) for record in records]))
    assert staged.findings.arms["gap"].at_baseline_setting.difference.n == 3
    heading = "difference at baseline's rate (points)"
    cells = [row[heading] for row in arm_rows(staged)]
    assert cells[0] == "–" and cells[1].endswith(" (n=3): worse")
    assert any(
        "over held-out seeds 2, 3, 4 alone, which were not used to choose it." in line for line in reading(staged)
    )
    claims = {
        row.claim: row.judgement
        for row in assess(compare([r.model_copy(update={"study": "pooling"}) for r in records])[0]).findings.claims
    }
    assert claims["At the class token's learning rate, averaging the patch tokens does worse"] == "agrees"
    assert claims["Averaging the patch tokens does better than a class token"] == "disagrees"


def with_diverged(arm, seeds, records, **fields):
    return [r for r in records if (r.arm, r.seed) not in {(arm, seed) for seed in seeds}] + [
        make_record(arm, seed=seed, test=None, outcome=Outcome.DIVERGED, reason="the loss is nan", **fields)
        for seed in seeds
    ]


def test_seeds_at_which_an_arm_diverged_leave_no_verdict_that_is_good_for_it():
    records = records_of({"cls": CLS, "gap": GAP, "map": [value - 0.05 for value in GAP[:4]] + [0.6]})
    (one,) = map(assess, compare(with_diverged("gap", (1, 3), records)))
    found = one.findings.arms["gap"]
    assert found.decision.difference.n == 3 and found.decision.difference.interval().low > 0
    assert verdict_text(found.decision) == "open, 2 runs diverged"
    assert found.decision.interval is None  # it would leave out 0
    assert "open: gap" in sentence(one) and "(2 runs diverged)" in sentence(one)
    # Of the baseline: what is better than the pairs show stays so.
    (one,) = map(assess, compare(with_diverged("cls", (1, 3), records)))
    assert verdict_text(one.findings.arms["gap"].decision) == "better, 2 runs of the baseline diverged"


def test_what_is_said_of_runs_that_another_study_trained_and_of_what_would_settle_a_study(store_with, capsys):
    records = [
        record.model_copy(update={"taken_from": "position" if record.arm == "cls" else ""})
        for record in records_of({"cls": CLS, "gap": GAP, "map": NOISY}, study="pooling")
    ]
    (one,) = map(assess, compare(records))
    shared = [note for note in one.notes if note.startswith("The runs of the baseline, cls, are shared with position")]
    assert len(shared) == 1 and not any(
        "are shared with" in note for note in assessment_of({"cls": CLS, "gap": GAP}).notes
    )
    print_tables(store_with(*records))
    said = " ".join(capsys.readouterr().out.split())
    settle = settle_text(one.findings.arms["map"].to_settle)
    assert f"To settle at the mean and spread seen: map {settle}." in said
    assert "Claim: Averaging the patch tokens does better than a class token (paper: +1.5" in said
    assert said.count("Claim: ") == 3 and "5 seeds: better: agrees." in said


def test_a_diverged_run_in_any_corner_leaves_an_interaction_open():
    factors = {f"{a}, {b}": {"position": a, "pool": b} for a in ("1-D", "none") for b in ("cls", "gap")}
    arms = {"1-D, cls": CLS, "1-D, gap": GAP, "none, cls": [v - 0.05 for v in CLS], "none, gap": [v - 0.2 for v in GAP]}
    arms["none, gap"][0] += 0.001
    design = DESIGN.model_copy(update={"factors": factors, "baseline": "1-D, cls"})
    records = records_of(arms, design=design)
    (decision,) = assess(compare(records)[0]).findings.interactions.values()
    assert decision.verdict is Verdict.WORSE
    (decision,) = assess(
        compare(with_diverged("none, cls", (4,), records, design=design))[0]
    ).findings.interactions.values()
    assert decision.verdict is Verdict.OPEN and decision.difference.n == 4


def test_a_claim_that_a_rate_beyond_the_grid_could_turn_is_open():
    rates = {"cls": {1e-3: 0.60, 2e-3: 0.70, 4e-3: 0.65}, "gap": {1e-3: 0.55, 2e-3: 0.60, 4e-3: 0.62}}
    records = [
        make_record(arm, seed=seed, learning_rate=rate, test=value + 0.001 * seed * (arm == "gap"), study="pooling")
        for arm, by_rate in rates.items()
        for rate, value in by_rate.items()
        for seed in range(5)
    ]
    (one,) = map(assess, compare(records))
    assert one.findings.arms["gap"].decision.verdict is Verdict.WORSE  # and is marked, wherever it is told
    assert "(at the edge of the grid)" in sentence(one)
    rows = {row.claim: row for row in one.findings.claims}
    better = rows["Averaging the patch tokens does better than a class token"]
    assert better.judgement == "open" and better.ours.endswith("worse, at the edge of the grid")
    # At the baseline's rate nothing was chosen for the arm.
    assert rows["At the class token's learning rate, averaging the patch tokens does worse"].judgement == "agrees"


def test_a_factorial_study_has_a_table_of_interactions():
    factors = {f"{a}, {b}": {"position": a, "pool": b} for a in ("1-D", "none") for b in ("cls", "gap")}
    arms = {"1-D, cls": CLS, "1-D, gap": GAP, "none, cls": tuple(v - 0.05 for v in CLS), "none, gap": NOISY}
    one = assessment_of(arms, design=DESIGN.model_copy(update={"factors": factors, "baseline": "1-D, cls"}))
    ((place, decision),) = one.findings.interactions.items()
    by_hand = np.array(NOISY) - np.array(arms["none, cls"]) - (np.array(GAP) - np.array(CLS))
    assert place == ("none", "gap")
    assert decision.difference.mean == pytest.approx(by_hand.mean())
    (row,) = rows_of(one, "Interactions")
    assert (row["position"], row["pool"]) == ("none", "gap")
    assert any(line.startswith("Interaction of both factors over all levels: F(1, 4)") for line in reading(one))


@pytest.mark.parametrize("names", [("pool",), ("position", "pool", "stem")], ids=["one factor", "three factors"])
def test_a_study_of_one_factor_or_three_has_tables_and_no_interactions(names, store_with):
    factors = {arm: dict.fromkeys(names, arm) for arm in ("cls", "gap")}
    records = records_of({"cls": CLS, "gap": GAP}, design=DESIGN.model_copy(update={"factors": factors}))
    (one,) = map(assess, compare(records))
    assert one.comparison.design.factors == factors
    assert [table.title for table in further_tables(one)] == ["Verdicts"]
    assert all(path.exists() for path in write_tables(store_with(*records)))


def test_csv_has_verdicts_at_full_precision():
    raw = {row["arm"]: row for row in raw_rows(assessment_of({"cls": CLS, "gap": GAP}))}
    assert (raw["cls"]["verdict"], raw["gap"]["verdict"]) == ("", "better")
    assert raw["gap"]["p_holm"] == pytest.approx(stats.ttest_rel(GAP, CLS).pvalue)
    assert raw["gap"]["margin_points"] == 100 * MARGIN
    assert raw["gap"]["probability_of_outperforming"] == 1.0
    # Five wins in five: 2 / 2^5 = 6.25 % by chance.
    assert (raw["cls"]["outperforming"], raw["gap"]["outperforming"]) == ("", "not significant")


def test_without_images_a_difference_without_spread_takes_one_image_for_a_point():
    """t(4) at 0.975 is 2.776, of one point over √5."""
    one = assessment_of({"cls": CLS, "gap": tuple(value + 0.004 for value in CLS)})
    assert arm_rows(one)[1]["difference (points)"] == "+0.40 [−0.84, +1.64]"
    assert rows_of(one, "Verdicts")[0]["difference (points)"] == "+0.40 [−0.84, +1.64]"
    raw = raw_rows(one)[1]
    assert raw["difference_mean_points"] == pytest.approx(0.4)
    assert (raw["difference_ci95_low_points"], raw["difference_ci95_high_points"]) == (None, None)
    assert raw["difference_pairs"] == 5


def test_latex_has_an_environment_for_every_table():
    one = assessment_of({"cls": CLS, "gap": GAP}, study="pooling")
    assert latex(one).count(r"\begin{table}") == latex(one).count(r"\end{table}") == len(tables_of(one)) == 4


def test_claims_of_all_studies_are_on_one_page(store_with):
    root = store_with(*records_of({"cls": CLS, "gap": GAP}, study="pooling"), *records_of({"cls": CLS, "gap": GAP}))
    write_tables(root)
    found = list(csv.DictReader(io.StringIO((root / "tables" / "claims.csv").read_text())))
    assert {row["study"] for row in found} == {"pooling"}
    assert "agrees" in {row["verdict"] for row in found}
    assert "(claims.md)" in (root / "tables" / "README.md").read_text()


@pytest.mark.parametrize("study", STUDIES)
def test_what_a_claim_is_about_is_in_its_study(study):
    runs = make_plan(load_study(study), BUDGETS["standard"], describe("shapes")).runs
    design = runs[0].design
    cells = {tuple(levels.values()) for levels in design.factors.values()}
    for claim in CLAIMS:
        if claim.study == study and not isinstance(claim.subject, BySize):  # these are found by `test_claims`
            assert claim.subject in {*design.arms, *cells}, claim.text
    assert {claim.study for claim in CLAIMS} <= set(STUDIES)


def correct_records(right, **fields):
    """A record of each arm and seed from how many of 80 test images it gets right, always the first ones."""
    return [
        make_record(arm, seed=seed, test=count / 80, correct=pack_correct(np.arange(80) < count), **fields)
        for arm, counts in right.items()
        for seed, count in enumerate(counts)
    ]


def test_a_collapse_is_worse_and_two_arms_that_make_no_error_are_at_the_ceiling():
    right = {"cls": (80, 80, 80), "gap": (20, 20, 20), "map": (80, 80, 80)}
    (one,) = map(assess, compare(correct_records(right, study="pooling")))
    rows = {row["arm"]: row for row in rows_of(one, "Verdicts")}
    assert (rows["gap"]["verdict"], rows["map"]["verdict"]) == ("worse", "at the ceiling")
    assert rows["map"]["difference (points)"] == "0.00 (n=3)"
    assert rows["map"]["seeds to settle"] == "no number: other data"
    # By the standard error of a mean over 80 images; one arm is tested.
    low, high = stats.ttest_1samp(np.repeat([-1.0, 0.0], [60, 20]), 0).confidence_interval(0.95)
    assert one.findings.arms["gap"].decision.interval == pytest.approx((low, high), rel=1e-9)
    judged = {row.claim: row.judgement for row in one.findings.claims}
    assert judged["Averaging the patch tokens does better than a class token"] == "disagrees"
    assert "at the ceiling, where nothing can show: map 0.00 (n=3)" in sentence(one)


def test_a_claim_about_an_arm_at_the_ceiling_is_open():
    (one,) = map(assess, compare(correct_records({"cls": (80, 80, 80), "gap": (80, 80, 80)}, study="pooling")))
    assert {row.judgement for row in one.findings.claims} == {"open"}


def test_interactions_of_arms_that_make_no_error_are_at_the_ceiling():
    factors = {f"{a}, {b}": {"position": a, "pool": b} for a in ("1-D", "none") for b in ("cls", "gap")}
    design = DESIGN.model_copy(update={"factors": factors, "baseline": "1-D, cls"})
    (one,) = map(assess, compare(correct_records(dict.fromkeys(factors, (80, 80, 80)), design=design)))
    ((_, decision),) = one.findings.interactions.items()
    assert decision.verdict is Verdict.AT_CEILING
    # One corner fails at every seed: the interaction is clear, by images.
    right = {**dict.fromkeys(factors, (80, 80, 80)), "none, gap": (20, 20, 20)}
    ((_, decision),) = assess(compare(correct_records(right, design=design))[0]).findings.interactions.items()
    assert decision.verdict is Verdict.WORSE


def test_an_arm_that_only_more_images_would_settle_is_told_no_number_of_seeds():
    """Of 80 images two more at every seed: open over images, however many seeds agree."""
    (one,) = map(assess, compare(correct_records({"cls": (60,) * 9, "gap": (62,) * 9})))
    finding = one.findings.arms["gap"]
    assert finding.decision.verdict is Verdict.OPEN and finding.decision.interval.low < 0
    assert (finding.to_settle, finding.smallest_difference) == (None, None)
    (row,) = rows_of(one, "Verdicts")
    assert row["seeds to settle"] == "no number: more test images"


def test_runs_that_all_answer_the_most_frequent_of_unequal_classes_are_at_the_floor():
    """72 of 80 test images are of one class: 90 % is what nothing learned gives. One image more is something."""
    unequal = {"environment": {"largest_class": 72 / 80}}
    (one,) = map(assess, compare(correct_records({"cls": (72,) * 3, "gap": (72,) * 3}, **unequal)))
    (row,) = rows_of(one, "Verdicts")
    assert row["verdict"] == "at the floor"
    (one,) = map(assess, compare(correct_records({"cls": (73,) * 3, "gap": (73,) * 3}, **unequal)))
    (row,) = rows_of(one, "Verdicts")
    assert row["verdict"] == "open"
    # Records that do not say it: one of ten classes would be 10 %.
    (one,) = map(assess, compare(correct_records({"cls": (72,) * 3, "gap": (72,) * 3})))
    (row,) = rows_of(one, "Verdicts")
    assert row["verdict"] == "open"


def test_runs_that_all_get_the_same_images_right_are_open_and_not_at_the_floor():
    (one,) = map(assess, compare(correct_records({"cls": (79,) * 3, "gap": (79,) * 3})))
    (row,) = rows_of(one, "Verdicts")
    assert (row["verdict"], row["difference (points)"]) == ("open", "0.00 (n=3)")
