"""What does the harness cost on top of its own bare training step: data, augmentation, evaluation, logging?"""

from __future__ import annotations

from functools import partial
from statistics import median

import pytest
import torch

from vitbench.data import describe
from vitbench.device import open_device
from vitbench.execution.job import Job
from vitbench.execution.run import execute
from vitbench.kernels import install
from vitbench.models import build_model
from vitbench.records import Outcome
from vitbench.studies import BUDGETS, Overrides, load_study, make_plan
from vitbench.studies.plan import PlannedRun
from vitbench.training.optimizer import build_optimizer
from vitbench.training.step import training_step

BARE_SECONDS = 5
EXTENT = {
    ("Micro/2", False): (17, 3, 0.9),
    ("Micro/2", True): (17, 5, 0.9),
    ("Micro/8", False): (5, 3, 0.9),
    ("Micro/8", True): (5, 5, 0.9),
    ("Small32/4", False): (5, 1, 0.93),
    ("Small32/4", True): (20, 3, 0.97),
}
"""By variant and `full`: epochs, rounds, and the share of the bare step's images/s that the whole harness is to reach.

Evaluation weighs the more the fewer epochs there are: 20 is what the `standard` budget has.
"""


def planned(variant: str, dataset: str, epochs: int, precision: str) -> PlannedRun:
    overrides = Overrides(variant=variant, seeds=1, train={"epochs": epochs, "precision": precision})
    return make_plan(load_study("position"), BUDGETS["quick"], describe(dataset), overrides).runs[0]


def bare_images_per_second(run: PlannedRun, *, seconds: float) -> float:
    """Forward, backward, clipping and optimizer on one batch that lies ready."""
    device, config = open_device("cpu"), run.config
    model = install(build_model(config.model))
    optimizer = build_optimizer(model, config.train)
    batch = config.train.batch_size
    images = torch.randn(batch, config.model.in_channels, *config.model.image_hw)
    targets = torch.randint(config.model.num_classes, (batch,))
    step = partial(
        training_step,
        model,
        optimizer,
        images,
        targets,
        list(model.parameters()),
        config.train,
        partial(device.autocast, device.resolve_precision(config.train.precision)),
    )
    for _ in range(5):
        step()
    spent, steps = 0.0, 0
    while spent < seconds:
        spent += device.time(step)
        steps += 1
    return steps * batch / spent


def harness_images_per_second(run: PlannedRun) -> float:
    """Images trained on, over the time of the whole run: model, training, every evaluation, the record."""
    device, records = open_device("cpu"), []
    precision = device.resolve_precision(run.config.train.precision)
    job = Job(run, run.config.data.dataset, None, "cpu", "cpu", precision, 1, 1)
    seconds = device.time(lambda: records.append(execute(job)))
    (record,) = records
    assert record.outcome is Outcome.COMPLETED, record.reason
    steps = run.train_images // run.config.train.batch_size
    return steps * run.config.train.batch_size * run.config.train.epochs / seconds


@pytest.mark.parametrize(
    ("variant", "dataset", "precision"),
    [("Micro/2", "digits", "fp32"), ("Micro/8", "shapes", "fp32"), ("Small32/4", "shapes", "auto")],
)
def test_whole_harness_against_its_bare_step(benchmark, full, variant, dataset, precision):
    epochs, rounds, reach = EXTENT[variant, full]
    torch.set_num_threads(1)
    run = planned(variant, dataset, epochs, precision)
    harness_images_per_second(planned(variant, dataset, 1, precision))  # reads the data
    ratios, rates = [], []

    def round_of_both() -> None:
        before = bare_images_per_second(run, seconds=BARE_SECONDS)
        harness = harness_images_per_second(run)
        after = bare_images_per_second(run, seconds=BARE_SECONDS)
        rates.append((harness, (before + after) / 2))
        ratios.append(harness / ((before + after) / 2))

    benchmark.pedantic(round_of_both, rounds=rounds, iterations=1)
    benchmark.extra_info["ratios"] = ratios
    harness, bare = (median(rate[i] for rate in rates) for i in (0, 1))
    print(
        f"\n{variant} on {dataset}, batch {run.config.train.batch_size}, {epochs} epochs: harness "
        f"{harness:,.0f} images/s, bare step {bare:,.0f}; ratio {median(ratios):.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f}, n = {rounds})"
    )
    assert median(ratios) >= reach
