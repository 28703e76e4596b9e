"""Does the forest plot show each arm's difference, its interval and its verdict, whatever came of the arm?"""

from __future__ import annotations

import pytest

from tests.analysis.charts.test_resolution import records as records_of_sizes
from tests.made_up_records import DESIGN, make_record
from vitbench.analysis.charts.forest import forest_figure
from vitbench.analysis.charts.verdict_looks import VERDICT_LOOKS
from vitbench.analysis.comparison.assessment import assess
from vitbench.analysis.comparison.findings import decisions_of
from vitbench.analysis.comparison.load import compare
from vitbench.analysis.plots import render
from vitbench.analysis.statistics.verdicts import MARGIN, Verdict
from vitbench.records import Outcome

BASE = (0.80, 0.81, 0.805, 0.79, 0.80)
SPREAD = (-2, 1, 0, 2, -1)
"""Of a difference over seeds; its mean is 0."""


def arm(name, difference, spread=0.001, *, num_seeds=5):
    return [
        make_record(name, seed=seed, test=BASE[seed] + difference + spread * SPREAD[seed]) for seed in range(num_seeds)
    ]


def comparison_of(*arms):
    (comparison,) = compare([record for each in (arm("cls", 0, 0), *arms) for record in each])
    return comparison


def axes_of(comparison):
    (axes,) = forest_figure(comparison).axes
    return axes


def means_drawn(axes):
    """Row to (place, marker, colour) of each mean that is drawn as a mark."""
    marks = [line for line in axes.lines if line.get_marker() != "None"]
    return {line.get_ydata()[0]: (line.get_xdata()[0], line.get_marker(), line.get_color()) for line in marks}


def bars_drawn(axes):
    return {
        line.get_ydata()[0]: tuple(line.get_xdata())
        for line in axes.lines
        if line.get_marker() == "None" and line.get_ydata()[0] == line.get_ydata()[1]
    }


def words_of(axes):
    """All text beside the rows, by row."""
    rows = {}
    for text in axes.texts:
        if getattr(text, "xy", (0, 0))[0] == 1 and text.xycoords != "axes fraction":
            rows.setdefault(text.xy[1], []).append(text.get_text())
    return rows


def caption_of(comparison):
    return " ".join(" ".join(text.get_text() for text in forest_figure(comparison).texts).split())


def test_each_arm_stands_at_its_mean_within_the_interval_that_decided_with_every_seed_beneath():
    comparison = comparison_of(arm("better", 0.02), arm("worse", -0.02), arm("same", 0.0005, 0.0005))
    axes, decisions = axes_of(comparison), decisions_of(comparison)
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["better", "worse", "same"]
    expected = {0: (2.0, Verdict.BETTER), 1: (-2.0, Verdict.WORSE), 2: (0.05, Verdict.EQUIVALENT)}
    for row, (mean, verdict) in expected.items():
        look = VERDICT_LOOKS[verdict]
        assert means_drawn(axes)[row] == (pytest.approx(mean), look.marker, look.color)
    for row, decision in enumerate(decisions.values()):
        assert bars_drawn(axes)[row] == pytest.approx([100 * bound for bound in decision.interval])
    seeds = [sorted(x for x, _ in points.get_offsets()) for points in axes.collections]
    assert seeds[0] == pytest.approx([1.8, 1.9, 2.0, 2.1, 2.2])
    # 3.961 is Student's t for 1 − 0.05 / 3 and 4 degrees of freedom; the spread is √2.5 tenths of a point: ± 0.28.
    assert words_of(axes)[0] == ["5", "+2.00 [+1.72, +2.28]", "better"]
    assert "cls (80.10 %)" in caption_of(comparison)


def test_the_picture_and_the_table_have_one_verdict():
    comparison = comparison_of(arm("gap", 0.003, 0.002), arm("map", -0.01), arm("mean", 0.0, 0.0005))
    findings = assess(comparison).findings.arms
    assert decisions_of(comparison) == {label: finding.decision for label, finding in findings.items()}


def test_the_margin_of_equivalence_is_shaded_and_always_in_sight():
    axes = axes_of(comparison_of(arm("same", 0.0, 0.0001)))
    (band,) = axes.patches
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((-100 * MARGIN, 100 * MARGIN))
    low, high = axes.get_xlim()
    assert low < -100 * MARGIN and high > 100 * MARGIN


def test_an_arm_far_off_is_an_arrow_with_its_number_and_the_others_keep_their_room():
    comparison = comparison_of(arm("near", 0.001), arm("far", -0.40), arm("also near", 0.004))
    axes = axes_of(comparison)
    low, high = axes.get_xlim()
    assert low > -7 and high < 7
    assert set(means_drawn(axes)) == {0, 2}
    assert [text.get_text() for text in axes.texts if text.get_text() == "−40.00"] == ["−40.00"]
    assert words_of(axes)[1][1].startswith("−40.00 [")
    assert "Arrow: goes on beyond the scale." in caption_of(comparison)
    assert "Arrow" not in caption_of(comparison_of(arm("near", 0.001), arm("also near", 0.004)))


def test_a_bar_that_comes_back_into_the_scale_is_drawn_as_far_as_it_comes():
    comparison = comparison_of(*[arm(f"near {i}", 0.001) for i in range(4)], arm("wide", -0.09, 0.05))
    axes = axes_of(comparison)
    low, _ = axes.get_xlim()
    right = 100 * decisions_of(comparison)["wide"].interval.high
    assert low < right and means_drawn(axes).keys() == {0, 1, 2, 3}
    assert bars_drawn(axes)[4] == pytest.approx((low, min(right, axes.get_xlim()[1])))


@pytest.mark.parametrize(
    ("records", "verdict", "says"),
    [
        (arm("gap", 0.01, num_seeds=2), Verdict.NONE, ["2", "+0.95", "no verdict"]),
        (
            [*arm("gap", 0.02)[:4], make_record("gap", seed=4, outcome=Outcome.DIVERGED)],
            Verdict.OPEN,
            ["4", "+2.03", "open, 1 run\ndiverged"],
        ),
    ],
    ids=["too few seeds", "a run diverged"],
)
def test_where_no_interval_decided_there_is_a_mark_without_a_bar_that_says_why(records, verdict, says):
    comparison = comparison_of(records)
    axes, look = axes_of(comparison), VERDICT_LOOKS[verdict]
    assert means_drawn(axes)[0][1:] == (look.marker, look.color)
    assert bars_drawn(axes) == {}
    assert words_of(axes)[0] == says
    assert "No bar: nothing decided." in caption_of(comparison)


def test_at_the_ceiling_is_said():
    (comparison,) = compare([make_record(name, seed=seed, test=1.0) for name in ("cls", "gap") for seed in range(3)])
    axes = axes_of(comparison)
    assert words_of(axes)[0] == ["3", "0.00", "at the ceiling"]
    assert means_drawn(axes)[0][1] == VERDICT_LOOKS[Verdict.AT_CEILING].marker


def test_an_arm_without_a_run_that_ended_has_a_row_that_says_so():
    broken = [make_record("broken", seed=seed, outcome=Outcome.DIVERGED) for seed in range(3)]
    axes = axes_of(comparison_of(arm("gap", 0.01), broken))
    assert words_of(axes)[1] == ["0", "no seed with both", "no verdict"]
    assert means_drawn(axes).keys() == {0}


def test_arms_with_different_baselines_stand_beneath_the_one_that_they_are_compared_with():
    (comparison,) = compare(records_of_sizes())
    axes = axes_of(comparison)
    headings = {text.get_position()[1]: text.get_text() for text in axes.texts if text.get_text().startswith("against")}
    # Means by hand: 0.9 and 0.5, and seeds add 0, 0.1 and 0.2 points.
    assert headings[0] == "against 1-D, 8 px (90.10 %)" and headings[2] == "against 1-D, 12 px (50.10 %)"
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert names[:4] == ["", "sincos, 8 px", "", "sincos, 12 px"]
    assert "Line at 0: 1-D at the same image size." in caption_of(comparison)


@pytest.mark.parametrize("num_arms", [1, 35])
def test_one_arm_and_thirty_five_have_as_much_height_each(num_arms):
    arms = [arm(f"arm {i}", 0.001 * i) for i in range(num_arms)]
    figure = forest_figure(comparison_of(*arms))
    assert figure.get_size_inches()[1] == pytest.approx(0.31 * num_arms + 2.0, abs=0.4)
    assert len(words_of(figure.axes[0])) == num_arms


def test_nothing_to_compare_gives_no_picture():
    assert render(comparison_of(), "forest") == {}
    (comparison,) = compare([make_record("cls", seed=0), make_record("gap", seed=1)])
    assert render(comparison, "forest") == {}


def test_another_metric_is_drawn_in_its_unit_with_its_margin_and_less_loss_is_better():
    comparison = comparison_by_loss({"gap": -0.1, "map": 0.1})
    axes, metric = axes_of(comparison), comparison.metric
    (band,) = axes.patches
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((-metric.margin, metric.margin))
    drawn = {row: (mean, marker) for row, (mean, marker, _) in means_drawn(axes).items()}
    better, worse = VERDICT_LOOKS[Verdict.BETTER].marker, VERDICT_LOOKS[Verdict.WORSE].marker
    assert drawn == {0: (pytest.approx(-0.1), better), 1: (pytest.approx(0.1), worse)}
    for row, decision in enumerate(decisions_of(comparison).values()):
        assert bars_drawn(axes)[row] == pytest.approx(list(decision.interval))
    assert axes.get_xlabel() == "difference in test loss (nats, less is better)"
    assert words_of(axes)[0][1].startswith("−0.1000 [−0.1")
    assert "cls (1.0000 nats)" in caption_of(comparison) and "±0.013 nats" in caption_of(comparison)


def comparison_by_loss(differences):
    design = DESIGN.model_copy(update={"metric": "loss", "baseline": "cls", "arms": ("cls", *differences)})
    records = [make_record(name, seed=seed, design=design) for name in design.arms for seed in range(5)]
    (comparison,) = compare(
        [
            record.model_copy(
                update={
                    "metrics": {
                        **record.metrics,
                        "test_loss": 1
                        + differences.get(record.arm, 0)
                        + (record.arm != "cls") * 0.001 * SPREAD[record.seed],
                    }
                }
            )
            for record in records
        ]
    )
    return comparison
