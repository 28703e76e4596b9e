"""How long do tables of a few thousand records take?"""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np
import pytest

from tests.made_up_records import make_record
from vitbench.analysis.comparison.load import load_comparisons
from vitbench.analysis.pages import write_tables
from vitbench.analysis.report import write_report
from vitbench.records import Design, RecordStore, pack_correct

STUDIES, ARMS, RATES, SEEDS = 5, 10, (5e-4, 1e-3, 2e-3), 20
RECORDS = STUDIES * ARMS * len(RATES) * SEEDS
TEST_IMAGES = 720
EPOCHS = 20


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """3,000 records: arms that differ by a point or so, seeds by half a point."""
    root = tmp_path_factory.mktemp("results")
    store = RecordStore(root)
    store.prepare()
    generator = np.random.default_rng(0)
    names = tuple(f"arm {i}" for i in range(ARMS))
    for study in (f"study{i}" for i in range(STUDIES)):
        design = Design(question="?", source="", baseline=names[0], arms=names, learning_rates=RATES)
        lines = []
        for (i, arm), rate, seed in product(enumerate(names), RATES, range(SEEDS)):
            correct = generator.random(TEST_IMAGES) < 0.85 + 0.01 * i + 0.005 * generator.standard_normal()
            record = make_record(
                arm,
                study=study,
                seed=seed,
                learning_rate=rate,
                test=float(correct.mean()),
                model={"num_registers": i},
                curve=np.linspace(0.1, 0.85, EPOCHS).tolist(),
                correct=pack_correct(correct),
                design=design,
            )
            lines.append(record.to_json())
        store.path(study).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


STEPS = {"comparisons": load_comparisons, "tables": write_tables, "report": write_report}


@pytest.mark.parametrize("step", STEPS)
def test_analysis(timed, results, step):
    work = partial(STEPS[step], results)
    timed(work, group="analysis", label=step, items=RECORDS, unit="records", min_rounds=5)
