"""Are records and verdicts in the frames those of the records and of the tables, and is every column described?"""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vitbench
from tests.made_up_records import DESIGN, make_record
from vitbench.analysis.comparison.load import load_assessments
from vitbench.analysis.frames import OF_VERDICTS
from vitbench.analysis.tables.page import texts_of

PAGE = Path(__file__).parents[2] / "docs" / "notebook.md"
POOLS = DESIGN.model_copy(update={"baseline": "cls", "arms": ("cls", "gap"), "learning_rates": (1e-3,)})


@pytest.fixture
def root(store_with):
    """Five seeds of two arms, two points apart, one of them failed at first."""
    values = [0.90, 0.91, 0.89, 0.905, 0.90]
    records = [
        make_record(arm, seed=seed, test=value + gain, design=POOLS, model=model, curve=(0.5, value))
        for arm, gain, model in (("cls", 0.0, {}), ("gap", 0.02 + 0.001, {"pool": "gap"}))
        for seed, value in enumerate(values)
    ]
    failed = make_record("gap", seed=9, outcome="failed", reason="out of memory", model={"pool": "gap"}, design=POOLS)
    return store_with(*records, failed)


def test_there_is_a_row_for_each_run(root):
    runs = vitbench.load(root).records()
    assert len(runs) == 11 and runs.outcome.value_counts().to_dict() == {"completed": 10, "failed": 1}
    gap = runs[(runs.arm == "gap") & (runs.seed == 1)].iloc[0]
    assert (
        gap.test_top1 == 0.931 and gap["config.model.pool"] == "gap" and gap["environment.device"] == "cpu: Example CPU"
    )
    assert (gap.finished - gap.started).total_seconds() == 60
    assert runs[runs.outcome == "failed"].test_top1.isna().all()


def test_verdicts_are_those_of_the_table(root):
    (assessment,) = load_assessments(root)
    rows = {row["arm"]: row for row in csv.DictReader(io.StringIO(texts_of(assessment)["csv"]))}
    frame = vitbench.load(root).verdicts().set_index("arm")
    assert list(frame.index) == ["cls", "gap"] and frame.loc["gap", "baseline"] == "cls"
    for column, heading in (
        ("mean", "test_top1_mean_percent"),
        ("sd", "test_top1_sd_points"),
        ("difference", "difference_mean_points"),
        ("low", "interval_low_points"),
        ("high", "interval_high_points"),
        ("confidence", "interval_confidence"),
        ("params", "params"),
    ):
        assert frame.loc["gap", column] == float(rows["gap"][heading]), column
    assert frame.loc["gap", "verdict"] == rows["gap"]["verdict"] == "better"
    assert frame.loc[["cls"], ["difference", "verdict", "baseline"]].isna().all(axis=None)


def test_curves_have_every_epoch(root):
    curves = vitbench.load(root).curves()
    assert len(curves) == 20 and curves.groupby("epoch").val_top1.mean()[1] == pytest.approx(0.5)


def test_a_folder_without_records_and_an_unknown_metric_are_refused(root, tmp_path):
    with pytest.raises(ValueError, match="no records under"):
        vitbench.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="accuracy"):
        vitbench.load(root).verdicts(metric="accuracy")


def test_every_column_of_verdicts_is_described(root):
    described = set(re.findall(r"`(\w+)`", PAGE.read_text().split("## `verdicts()`")[1].split("## ")[0]))
    assert set(OF_VERDICTS) <= described
    assert list(vitbench.load(root).verdicts().columns) == list(OF_VERDICTS)


def test_the_page_runs_as_written():
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL))
    namespace: dict[str, object] = {}
    exec(code, namespace)
    assert set(namespace["verdicts"].study) >= {"position", "pooling"}


def test_importing_vitbench_stays_light():
    code = "import sys, vitbench; print(any(name in sys.modules for name in ('pandas', 'torch', 'pydantic')))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"
