"""Is what an arm loses on distorted test images held against what the baseline loses, seed by seed?"""

from __future__ import annotations

import csv
import io

import pytest
from scipy import stats

from tests.made_up_records import DESIGN, make_record
from vitbench.analysis.comparison.assessment import assess
from vitbench.analysis.comparison.load import compare
from vitbench.analysis.plots import render
from vitbench.analysis.statistics.verdicts import Verdict
from vitbench.analysis.tables import page
from vitbench.analysis.tables.further import further_tables
from vitbench.records import Outcome


def records(accuracies, *, name="shuffle"):
    """`accuracies`: arm → for each seed, (plain, at 25 %, at 100 %)."""
    made = []
    for arm, by_seed in accuracies.items():
        for seed, (plain, weak, strong) in enumerate(by_seed):
            record = make_record(arm, seed=seed, test=plain)
            distorted = {f"{name}_25/test_top1": weak, f"{name}_100/test_top1": strong, f"{name}_100/test_loss": 2.0}
            made.append(record.model_copy(update={"metrics": {**record.metrics, **distorted}}))
    return made


THREE = {
    "cls": [(0.90, 0.70, 0.30), (0.92, 0.71, 0.31), (0.88, 0.69, 0.28), (0.91, 0.72, 0.33)],
    "none": [(0.60, 0.60, 0.60), (0.62, 0.62, 0.62), (0.58, 0.58, 0.58), (0.61, 0.61, 0.61)],
    "rope": [(0.91, 0.70, 0.33), (0.93, 0.70, 0.29), (0.87, 0.70, 0.28), (0.92, 0.71, 0.32)],
}


def of(accuracies, **options):
    (comparison,) = compare(records(accuracies, **options))
    return assess(comparison)


def test_the_difference_of_changes_is_that_of_two_paired_t_tests_under_holm():
    (shuffle,) = of(THREE).robustness
    assert (shuffle.name, shuffle.strengths) == ("shuffle", (25, 100))
    expected = {}
    for arm in ("none", "rope"):
        mine, baseline = ([strong - plain for plain, _, strong in THREE[name]] for name in (arm, "cls"))
        differences = [a - b for a, b in zip(mine, baseline, strict=True)]
        decision = shuffle.decisions[arm]
        assert list(decision.difference.by_seed.values()) == pytest.approx(differences)
        expected[arm] = stats.ttest_1samp(differences, 0).pvalue
    low, high = sorted(expected.values())
    assert sorted(d.adjusted_p for d in shuffle.decisions.values()) == pytest.approx([2 * low, max(2 * low, high)])
    assert shuffle.decisions["none"].verdict is Verdict.BETTER
    assert shuffle.decisions["rope"].verdict is Verdict.OPEN


def test_an_arm_that_loses_nothing_says_so_in_the_table_of_that_distortion():
    table = next(table for table in further_tables(of(THREE)) if table.title == "Distorted test images: shuffle")
    rows = {row["arm"]: row for row in table.rows}
    assert rows["none"]["change at 100 % of patches (points)"] == "0.00"
    assert rows["cls"]["change at 100 % of patches (points)"] == "−59.75"  # 90.25 to 30.5
    assert (rows["cls"]["verdict"], rows["none"]["verdict"]) == ("the baseline", "better")
    assert rows["none"]["difference of changes (points)"].startswith("+59.75 [")
    assert (rows["rope"]["plain (%)"], rows["rope"]["25 % of patches (%)"]) == ("90.75", "70.25")


def test_the_rule_and_what_it_is_not_corrected_for_stand_below():
    text = page.markdown(of(THREE))
    assert "## Distorted test images: shuffle" in text
    assert "They are not corrected for the number of distortions, here 1" in text
    assert "shuffle: so many of the model's patches change places" in text


def test_the_csv_has_every_strength_and_the_verdict():
    rows = {row["arm"]: row for row in csv.DictReader(io.StringIO(page.texts_of(of(THREE))["csv"]))}
    assert float(rows["rope"]["shuffle_25_test_top1_mean_percent"]) == pytest.approx(70.25)
    assert float(rows["cls"]["shuffle_100_change_mean_points"]) == pytest.approx(-59.75)
    assert (rows["none"]["shuffle_100_verdict"], rows["cls"]["shuffle_100_verdict"]) == ("better", "")


def test_without_distorted_images_nothing_is_added():
    plain = [make_record(arm, seed=seed, test=0.8 + 0.01 * seed) for arm in ("cls", "gap") for seed in range(3)]
    (comparison,) = compare(plain)
    assessment = assess(comparison)
    assert assessment.robustness == ()
    text = "".join(page.texts_of(assessment).values())
    assert "istorted" not in text and "shuffle" not in text
    assert render(comparison, "robustness") == {}


def test_seeds_that_were_not_evaluated_are_in_no_pair_and_fewer_than_three_give_no_verdict():
    some = records({arm: by_seed[:2] for arm, by_seed in THREE.items()})
    some += [make_record(arm, seed=seed, test=0.9) for arm in THREE for seed in (2, 3)]
    (comparison,) = compare(some)
    (shuffle,) = assess(comparison).robustness
    assert {d.verdict for d in shuffle.decisions.values()} == {Verdict.NONE}
    assert shuffle.decisions["none"].difference.n == 2
    assert render(comparison, "robustness")


def test_a_run_that_is_recorded_again_on_plain_images_alone_takes_no_distorted_ones_away():
    made = records(THREE)
    distorted = [r.model_copy(update={"config": r.config.replace(evaluate=("shuffle",))}) for r in made]
    plain = [r.model_copy(update={"metrics": {k: v for k, v in r.metrics.items() if "/" not in k}}) for r in made]
    for order in (distorted + plain, plain + distorted):
        (comparison,) = compare(order)
        assert len(assess(comparison).robustness) == 1


def test_an_arm_that_was_not_evaluated_has_no_row():
    (comparison,) = compare(records(THREE) + [make_record("gap", seed=seed) for seed in range(4)])
    assessment = assess(comparison)
    assert {*assessment.robustness[0].arms} == {*THREE}
    assert "gap" not in assessment.robustness[0].decisions
    page.texts_of(assessment)


def test_where_the_baseline_was_not_evaluated_there_are_accuracies_and_no_verdict():
    some = records({arm: by_seed for arm, by_seed in THREE.items() if arm != "cls"})
    (comparison,) = compare([make_record("cls", seed=seed) for seed in range(4)] + some)
    (shuffle,) = assess(comparison).robustness
    assert {d.verdict for d in shuffle.decisions.values()} == {Verdict.NONE}
    page.texts_of(assess(comparison))


def test_two_arms_at_chance_on_distorted_images_are_at_the_floor():
    at_chance = [(0.9, 0.5, 0.09), (0.8, 0.5, 0.08), (0.85, 0.5, 0.09)]
    made = records({"cls": at_chance, "gap": [at_chance[1], at_chance[0], at_chance[0]]})
    environment = made[0].environment.model_copy(update={"largest_class": 0.1})
    (comparison,) = compare([record.model_copy(update={"environment": environment}) for record in made])
    (shuffle,) = assess(comparison).robustness
    assert shuffle.decisions["gap"].verdict is Verdict.AT_FLOOR


def test_what_is_lost_alike_at_every_seed_is_not_better_for_its_lack_of_spread():
    (shuffle,) = of({"cls": [(0.9, 0.8, 0.7)] * 3, "gap": [(0.9, 0.8, 0.701)] * 3}).robustness
    assert shuffle.decisions["gap"].verdict is Verdict.OPEN


def test_of_an_arm_that_diverged_nothing_good_is_claimed():
    made = [*records(THREE), make_record("none", seed=4, outcome=Outcome.DIVERGED), make_record("cls", seed=4)]
    (comparison,) = compare(made)
    (shuffle,) = assess(comparison).robustness
    assert shuffle.decisions["none"].verdict is Verdict.OPEN


def test_the_figure_has_a_panel_for_each_distortion_and_equal_bytes():
    made = records(THREE)
    more = [
        record.model_copy(update={"metrics": {**record.metrics, "shift_1/test_top1": 0.5, "shift_4/test_top1": 0.4}})
        for record in made
    ]
    (comparison,) = compare(more)
    assert render(comparison, "robustness") == render(comparison, "robustness")
    from vitbench.analysis.charts.robustness import robustness_figure

    figure = robustness_figure(comparison)
    assert [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes if axes.get_visible()] == [
        "shift",
        "shuffle",
    ]
    plain_then_distorted = [line.get_ydata() for line in figure.axes[1].get_lines() if len(line.get_xdata()) == 3]
    assert any(list(y) == pytest.approx([60.25, 60.25, 60.25]) for y in plain_then_distorted)


def test_many_seeds_are_drawn_as_a_band():
    from vitbench.analysis.charts.robustness import MOST_SEED_LINES, robustness_figure

    for num_seeds in (MOST_SEED_LINES, MOST_SEED_LINES + 1):
        by_seed = [(0.9, 0.8 - 0.01 * seed, 0.7 + 0.01 * seed) for seed in range(num_seeds)]
        (comparison,) = compare(records({"cls": by_seed, "gap": by_seed[::-1]}))
        (axes,) = robustness_figure(comparison).axes
        assert len(axes.collections) == (2 if num_seeds > MOST_SEED_LINES else 0)


def test_in_a_study_that_adds_seeds_each_look_is_as_strict_here_as_for_plain_images():
    less = (0.02, 0.03, 0.015, 0.035)  # lost than the baseline: t(3) = 5.5
    made = records({"cls": [(0.9, 0.7, 0.3)] * 4, "gap": [(0.9, 0.7, 0.3 + more) for more in less]})
    arms = {"baseline": "cls", "arms": ("cls", "gap")}
    for looks, verdict in (((), Verdict.BETTER), ((4, 40), Verdict.OPEN)):
        design = DESIGN.model_copy(update={**arms, "looks": looks})
        (comparison,) = compare(record.model_copy(update={"design": design}) for record in made)
        (shuffle,) = assess(comparison).robustness
        assert shuffle.decisions["gap"].verdict is verdict
