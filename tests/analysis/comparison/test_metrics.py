"""Are arms judged by any metric as by top-1: with its sign, unit and margin, and is what was not declared said to be so?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from scipy import stats

from tests.made_up_records import DESIGN, make_record
from vitbench.analysis.charts.accuracy import accuracy_figure
from vitbench.analysis.charts.cost import cost_figure, pareto_front
from vitbench.analysis.comparison.assessment import assess
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.comparison.load import compare, load_assessments
from vitbench.analysis.comparison.metrics import by_both, nats_of_half_a_point
from vitbench.analysis.comparison.together import Together
from vitbench.analysis.pages import write_tables
from vitbench.analysis.statistics.verdicts import Verdict
from vitbench.analysis.tables.cells import arm_tables, raw_rows
from vitbench.analysis.tables.further import further_tables
from vitbench.analysis.tables.page import latex, markdown
from vitbench.analysis.tables.secondary import loss_and_top1_summary, secondary
from vitbench.analysis.tables.sentences import sentence
from vitbench.records import Record, RecordStore
from vitbench.records.metrics import METRICS

TOP1 = {"cls": (0.70, 0.72, 0.71, 0.73, 0.69), "gap": (0.74, 0.75, 0.76, 0.77, 0.72)}
LOSS = {"cls": (1.20, 1.18, 1.19, 1.17, 1.21), "gap": (1.10, 1.10, 1.08, 1.06, 1.11)}


def records(
    loss: Mapping[str, Sequence[float]] = LOSS, *, metric: str = "top1", top1: Mapping[str, Sequence[float]] = TOP1
) -> list[Record]:
    design = DESIGN.model_copy(update={"metric": metric, "baseline": "cls", "arms": ("cls", "gap")})
    return [
        with_metrics(make_record(arm, seed=seed, test=top1[arm][seed], design=design), test_loss=value)
        for arm, values in loss.items()
        for seed, value in enumerate(values)
    ]


def with_metrics(record: Record, **metrics: float) -> Record:
    return record.model_copy(update={"metrics": {**record.metrics, **metrics}})


def comparison_of(made: Sequence[Record]) -> Comparison:
    (comparison,) = compare(made)
    return comparison


def test_less_loss_is_better_and_the_difference_keeps_its_sign() -> None:
    one = assess(comparison_of(records(metric="loss")))
    finding = one.findings.arms["gap"]
    assert finding.decision.verdict is Verdict.BETTER
    assert finding.decision.difference is not None
    assert finding.decision.difference.mean == pytest.approx(-0.1)
    assert finding.decision.adjusted_p == pytest.approx(stats.ttest_rel(LOSS["gap"], LOSS["cls"]).pvalue)
    assert finding.decision.margin == METRICS["loss"].margin
    assert finding.outperforming is not None and finding.outperforming.wins == 5
    assert finding.seeds_and_images is None and finding.images_only_one_gets is None
    swapped = assess(comparison_of(records({"cls": LOSS["gap"], "gap": LOSS["cls"]}, metric="loss")))
    assert swapped.findings.arms["gap"].decision.verdict is Verdict.WORSE


def test_equivalence_is_within_the_margin_of_the_metric() -> None:
    near = {"cls": LOSS["cls"], "gap": tuple(value + 0.001 * (-1) ** seed for seed, value in enumerate(LOSS["cls"]))}
    decision = assess(comparison_of(records(near, metric="loss"))).findings.arms["gap"].decision
    assert (decision.verdict, decision.confidence) == (Verdict.EQUIVALENT, 0.9)
    far = {"cls": LOSS["cls"], "gap": tuple(value + 0.02 * (-1) ** seed for seed, value in enumerate(LOSS["cls"]))}
    assert (
        assess(comparison_of(records(far, metric="loss"))).findings.arms["gap"].decision.verdict
        is not Verdict.EQUIVALENT
    )


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_the_same_difference_at_every_seed_is_open_by_any_metric_but_top1(shift: float) -> None:
    same = {"cls": (1.0, 1.25, 1.5), "gap": (1.0 + shift, 1.25 + shift, 1.5 + shift)}
    decision = assess(comparison_of(records(same, metric="loss"))).findings.arms["gap"].decision
    assert (decision.verdict, decision.interval) == (Verdict.OPEN, None)


def test_tables_sentence_and_csv_have_the_words_and_unit_of_the_metric() -> None:
    one = assess(comparison_of(records(metric="loss")))
    row = arm_tables(one)[0].rows[1]
    assert row["loss (nats)"] == "1.0900 ± 0.0200 (n=5)"
    assert row["difference (nats)"].startswith("−0.1000 [−0.11")
    assert "top-1 (%)" not in row
    raw = raw_rows(one)[1]
    assert raw["difference_mean_nats"] == pytest.approx(-0.1)
    assert (raw["margin_nats"], raw["metric"], raw["metric_declared"]) == (0.013, "loss", "loss")
    assert raw["test_top1_mean_percent"] == pytest.approx(74.8)
    assert sentence(one).startswith("By loss, against cls (1.1900 nats after ")
    page = markdown(one)
    assert "**Judged by:** loss (nats), less is better; declared before the runs" in page
    assert "lies within ±0.013 nats" in page and "Loss is that of the test images after" in page
    assert "points" not in page.partition("Other metrics")[0]
    assert "loss (nats)" in latex(one)


def test_the_others_are_secondary_and_said_to_be_so() -> None:
    one = assess(comparison_of(records()))
    (table,) = [table for table in further_tables(one) if table.title.startswith("Other")]
    assert table.title == "Other metrics, secondary to top-1"
    assert table.rows[0] == {"arm": "cls", "loss (nats), less is better": "1.1900"}
    assert table.rows[1]["loss (nats), less is better"].startswith("1.0900: −0.1000 [") and "better" in str(
        table.rows[1]
    )
    assert "Other metrics are secondary: top-1 is what arms are judged by." in markdown(one)


def test_a_study_without_other_metrics_has_no_such_table() -> None:
    assert not secondary(comparison_of([make_record("cls"), make_record("gap")]))


def test_another_metric_than_the_declared_one_is_said_to_be_that(tmp_path) -> None:
    store = RecordStore(tmp_path)
    for record in records():
        store.append(record)
    (one,) = load_assessments(tmp_path, metric="loss")
    assert one.findings.arms["gap"].decision.verdict is Verdict.BETTER
    assert "loss (nats), less is better; not declared: the study declared top-1" in markdown(one)
    assert sentence(one).startswith("By loss, which was not declared, against cls")
    with pytest.raises(ValueError, match="metric 'brier' is in no record under"):
        load_assessments(tmp_path, metric="brier")


def test_a_metric_that_was_declared_after_runs_is_noted() -> None:
    before, after = records(), records(metric="loss")
    one = assess(comparison_of([*before[:3], *after[3:]]))
    assert one.comparison.metric.name == "loss"
    assert any("declares loss now, but recorded 3 runs by top-1" in note for note in one.notes)
    assert "declared after some of the runs" in markdown(one) and "declared after some of the runs" in sentence(one)
    assert not any("declares" in note for note in assess(comparison_of(after)).notes)
    back = assess(comparison_of([*after[:3], *before[3:]]))
    assert "**Judged by:** top-1 (%), more is better; declared after some of the runs" in markdown(back)


def test_runs_that_came_before_a_metric_are_counted_and_in_no_pair() -> None:
    made = [with_metrics(record, test_brier=0.4 + 0.01 * record.seed) for record in records(metric="brier")]
    older = [make_record("gap", seed=0, test=0.7, design=made[0].design)]
    one = assess(comparison_of([*older, *[record for record in made if (record.arm, record.seed) != ("gap", 0)]]))
    assert one.findings.arms["gap"].decision.difference is not None
    assert one.findings.arms["gap"].decision.difference.n == 4
    assert any("1 of 10 runs was recorded before Brier score was" in note for note in one.notes)


def test_verdicts_by_both_metrics_are_held_against_each_other() -> None:
    assert Together.of(Verdict.BETTER, Verdict.BETTER) is Together.ALIKE
    assert Together.of(Verdict.BETTER, Verdict.WORSE) is Together.OPPOSED
    assert Together.of(Verdict.EQUIVALENT, Verdict.WORSE) is Together.DIFFERS
    assert Together.of(Verdict.EQUIVALENT, Verdict.OPEN) is Together.OPEN
    comparison = comparison_of(records())
    (arm,) = by_both([comparison, replace(comparison, study="other")])  # of the same runs: once
    assert arm.together is Together.ALIKE
    assert arm.strength_ratio is not None
    t_loss, t_top1 = (abs(stats.ttest_rel(by["gap"], by["cls"]).statistic) for by in (LOSS, TOP1))
    assert arm.strength_ratio == pytest.approx(t_loss / t_top1)
    summary = " ".join(loss_and_top1_summary([arm]))
    assert "Of 1 arm, top-1 settles 1, loss settles 1." in summary and "alike for 1, opposed for none" in summary


def test_nats_of_half_a_point_are_the_slope_that_the_runs_were_made_with() -> None:
    top1 = {"cls": (0.70, 0.72, 0.71), "gap": (0.72, 0.73, 0.74)}
    loss = {arm: [3.0 - 2.6 * value for value in values] for arm, values in top1.items()}
    assert nats_of_half_a_point(by_both([comparison_of(records(loss, top1=top1))])) == pytest.approx(0.013)
    assert nats_of_half_a_point([]) is None


def test_the_page_on_both_metrics_is_written_and_linked(tmp_path) -> None:
    store = RecordStore(tmp_path)
    for record in records():
        store.append(record)
    names = {path.name for path in write_tables(tmp_path)}
    assert {"metrics.md", "metrics.csv"} <= names
    assert "[Do loss and top-1 judge alike?](metrics.md)" in (tmp_path / "tables" / "README.md").read_text()


def test_the_plot_of_arms_has_the_metric_on_its_axis() -> None:
    figure = accuracy_figure(comparison_of(records(metric="loss")))
    assert figure is not None
    assert figure.axes[0].get_xlabel() == "test loss (nats); dashed: baseline"
    cost = cost_figure(comparison_of(records(metric="loss")))
    assert cost is not None
    assert cost.axes[0].get_ylabel() == "test loss (nats)"


def test_of_less_loss_at_equal_cost_the_front_keeps_the_least() -> None:
    points = [(1.0, 1.2), (1.0, 1.1), (2.0, 1.3), (3.0, 0.9)]
    assert pareto_front(points, larger_is_better=False) == [(1.0, 1.1), (3.0, 0.9)]
