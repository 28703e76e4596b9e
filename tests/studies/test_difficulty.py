"""Is the default run's data hard enough for arms to differ, and easy enough for a baseline to learn?"""

from __future__ import annotations

from statistics import fmean

import pytest

from vitbench.data import describe
from vitbench.execution.job import Job
from vitbench.execution.run import execute
from vitbench.records import Outcome
from vitbench.studies import BUDGETS, IN_ALL, Overrides, load_study, make_plan

QUICK = BUDGETS["quick"]
FLOOR, CEILING = 0.70, 0.95


def baselines(dataset):
    """A run of each configuration that is the baseline of some study, and the studies."""
    runs = {}
    for name in IN_ALL:
        for run in make_plan(load_study(name), QUICK, describe(dataset), Overrides()).runs:
            if run.arm == run.design.baseline:
                runs.setdefault(run.run_id, (run, set()))[1].add(name)
    return list(runs.values())


def test_the_default_run_is_of_digits_and_of_the_shapes_that_no_model_knows_all_of():
    assert QUICK.datasets == ("digits", "shapes/majority") and QUICK.seeds == 3
    sizes = {}
    for dataset in QUICK.datasets:
        for run, _ in baselines(dataset):
            train = run.config.train
            sizes.setdefault(dataset, set()).add((run.train_images, train.epochs, train.batch_size, run.variant))
    assert sizes == {"digits": {(1078, 5, 64, "Micro/2")}, "shapes/majority": {(3600, 5, 64, "Micro/8")}}


def test_all_studies_but_that_of_the_recipe_have_one_baseline_whose_difficulty_is_that_of_each():
    for dataset in QUICK.datasets:
        at_the_default_rate = [studies for run, studies in baselines(dataset) if run.config.train.learning_rate == 2e-3]
        assert at_the_default_rate == [{*IN_ALL} - {"recipe"}] * 3 + [{"recipe"}] * 3


@pytest.mark.slow
@pytest.mark.parametrize("dataset", QUICK.datasets)
def test_every_study_s_baseline_ends_between_70_and_95_percent(dataset):
    top1 = {}
    for run, studies in baselines(dataset):
        record = execute(Job(run, dataset, None, "cpu", "cpu", "fp32", 1, 1))
        assert record.outcome is Outcome.COMPLETED, record.reason
        for study in studies:
            rates = top1.setdefault(study, {})
            rates.setdefault(run.config.train.learning_rate, []).append(record.metrics["test_top1"])
    assert set(top1) == set(IN_ALL)
    for study, rates in top1.items():
        # The best rate of a grid is the one that is chosen, or near it.
        assert FLOOR < max(map(fmean, rates.values())) < CEILING, (study, rates)
