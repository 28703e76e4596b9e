"""Are tables, plots and the report made of runs of users' code, in a process that has none of it?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.made_up_records import make_record
from vitbench.analysis.comparison.assessment import assess
from vitbench.analysis.comparison.load import compare, load_assessments
from vitbench.analysis.pages import write_tables
from vitbench.analysis.plots import write_plots
from vitbench.analysis.report import write_report
from vitbench.config import ModuleConfig, RunConfig
from vitbench.records import Design, Record

PART, MODULE = "ConditionalPosition@1a2b3c4d", "MyModel@5e6f7a8b"
DESIGN = Design(
    question="Does my position embedding help?",
    source="",
    baseline="cls",
    arms=("cls", "CPE", "mine", "CPE, 12 px"),
    learning_rates=(1e-3, 2e-3),
    train_images=1000,
    changes={"CPE": {"position": PART}, "mine": {"module": MODULE, "options": {"depth": 2}}},
)


def with_module(record: Record) -> Record:
    """The record, of a user's whole model."""
    model = ModuleConfig(module=MODULE, image_size=8, in_channels=1, num_classes=10, options={"depth": 2})
    config = RunConfig.model_validate({**record.config.model_dump(), "model": model.model_dump()})
    return record.model_copy(update={"config": config, "run_id": config.run_id})


@pytest.fixture
def results(store_with) -> Path:
    records = []
    for seed in range(3):
        for rate in DESIGN.learning_rates:
            for arm, test in (("cls", 0.8), ("CPE", 0.85), ("mine", 0.7)):
                model = {"position": PART, "pool": "gap"} if arm == "CPE" else {}
                macs = {"cls": 3_000_000, "CPE": 3_100_000, "mine": 2_000_000}[arm]
                record = make_record(
                    arm,
                    seed=seed,
                    learning_rate=rate,
                    test=test + 0.01 * seed + rate,
                    model=model,
                    design=DESIGN,
                    cost={"macs": macs},
                    curve=(0.3, 0.5),
                )
                records.append(with_module(record) if arm == "mine" else record)
    return store_with(*records)


def test_all_is_made_of_records_alone(results):
    written = [*write_tables(results), *write_plots(results), write_report(results)]
    assert all(path.stat().st_size for path in written)
    text = (results / "tables/pool/quick-digits.md").read_text()
    assert f"| CPE | position {PART} |" in text
    assert f"module {MODULE}" in text
    assert f"sources/{MODULE}.py" in text and f"sources/{PART}.py" in text
    assert PART in (results / "report.html").read_text()


def test_training_flops_are_those_of_the_recorded_macs(results):
    (assessment,) = load_assessments(results)
    flops = {arm.label: arm.training_flops for arm in assessment.comparison.arms}
    # 20 epochs of 7 whole batches of 128 images, 6 × MACs each
    assert flops["CPE"] == 6 * 3_100_000 * 20 * 7 * 128 and flops["mine"] == 6 * 2_000_000 * 20 * 7 * 128


def test_of_a_model_that_no_run_has_counted_the_training_flops_are_not_known():
    (comparison,) = compare([make_record("CPE", model={"position": PART}, cost={"macs": 0}, design=DESIGN)])
    assert comparison.arms[0].training_flops is None


def test_neither_torch_nor_timm_is_imported_to_make_the_tables(results):
    code = (
        "import sys; from vitbench.analysis.pages import write_tables; "
        f"write_tables({str(results)!r}); assert not {{'torch', 'timm'}} & {{*sys.modules}}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_notes_say_what_has_no_count_and_what_initialises_itself():
    record = make_record("CPE", model={"position": PART}, cost={"macs_incomplete": ("aten::sort",)}, design=DESIGN)
    (comparison,) = compare([record.model_copy(update={"self_initialised": (PART,)})])
    notes = assess(comparison).notes
    assert "CPE: MACs are incomplete, as there is no count for aten::sort." in notes
    assert any(note.startswith(f"CPE: {PART} initialises itself;") for note in notes)
    assert f"The user's code, as it ran, is kept beside the records: sources/{PART}.py." in notes
