"""Is a run a function of its configuration alone, and does whatever goes wrong within it become a record?"""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
import torch

from vitbench.config import DataConfig, TimmConfig
from vitbench.data import describe
from vitbench.execution import initial_model
from vitbench.execution import run as run_module
from vitbench.execution.run import epochs_between_evaluations, execute
from vitbench.models import build_model
from vitbench.records import Outcome, unpack_correct
from vitbench.records.metrics import METRICS


def measured(record) -> tuple:
    return record.metrics, record.curve, record.correct


@pytest.mark.parametrize(
    ("model", "train"),
    [({}, {}), ({"dropout": 0.1, "drop_path": 0.1, "pool": "map"}, {"label_smoothing": 0.1, "epochs": 2})],
    ids=["plain", "with everything random"],
)
def test_the_same_seed_gives_the_same_bits(make_job, model, train):
    job = make_job(model=model, train=train)
    first = execute(job)
    torch.manual_seed(1234)  # the state that another run may have left
    torch.rand(10)
    assert first.outcome is Outcome.COMPLETED
    assert measured(execute(job)) == measured(first)


@pytest.mark.parametrize(
    ("num_validation", "num_train", "num_epochs", "epochs"),
    # Evaluating an image costs a third of training on it: CIFAR-10's 5,000 / 3 for 45,000 trained are 3.7 %, so every
    # fourth epoch; digits the same; of Fashion-MNIST, 6,000 / 3 for 10,000 are 20 %, every twentieth, but twice a run.
    [
        (5000, 45_000, 20, 4),
        (120, 1078, 11, 4),
        (6000, 10_000, 60, 20),
        (6000, 10_000, 6, 3),
        (6000, 10_000, 5, 3),
        (6000, 10_000, 2, 1),
        (6000, 10_000, 1, 1),
        (1, 10_000, 20, 1),
    ],
)
def test_validation_costs_at_most_a_hundredth_of_training_but_is_done_twice(
    num_validation, num_train, num_epochs, epochs
):
    assert epochs_between_evaluations(num_validation, num_train, num_epochs) == epochs


def test_the_last_epoch_is_always_evaluated(make_job, monkeypatch):
    monkeypatch.setattr("vitbench.execution.run.epochs_between_evaluations", lambda *_: 2)
    record = execute(make_job(train={"epochs": 3}))
    assert [point.val_top1 is not None for point in record.curve] == [False, True, True]
    assert record.metrics["val_top1"] == record.curve[-1].val_top1


def test_another_seed_gives_another_run(make_job):
    assert measured(execute(make_job(seed=1))) != measured(execute(make_job(seed=0)))


def test_a_record_agrees_with_itself_and_with_its_job(make_job):
    job = make_job(train={"epochs": 3})
    reports = []
    record = execute(job, reports.append)
    correct = unpack_correct(record.correct, 599)  # scikit-learn's 1,797 digits: the last third is for testing
    assert record.metrics["test_top1"] == correct.mean()
    assert {*record.metrics} == {*(metric.key for metric in METRICS.values()), "val_top1", "val_loss"}
    assert record.objection() == ""
    assert [point.epoch for point in record.curve] == [1, 2, 3]
    assert record.curve[-1].val_top1 == record.metrics["val_top1"]
    assert (record.run_id, record.config, record.arm) == (job.run.run_id, job.run.config, job.run.arm)
    assert (record.environment.threads, record.environment.precision) == (1, "fp32")
    assert [report.fraction for report in reports] == sorted(report.fraction for report in reports)
    assert reports[-1].fraction == 1 and "epoch 3/3" in reports[-1].text
    assert record.started <= record.finished
    assert record.cost.params == sum(p.numel() for p in build_model(job.run.config.model).parameters())


def test_reports_do_not_change_what_is_measured(make_job, monkeypatch):
    quiet = execute(make_job())
    monkeypatch.setattr("vitbench.training.loop.PROGRESS_SECONDS", 0.0)
    reports = []
    assert measured(execute(make_job(), reports.append)) == measured(quiet)
    assert len(reports) >= 3


@pytest.mark.parametrize("clip_norm", [1.0, None])
def test_a_loss_that_is_no_longer_finite_is_recorded_as_diverged(make_job, clip_norm):
    recipe = {"learning_rate": 1e6, "clip_norm": clip_norm, "batch_size": 32}
    record = execute(make_job(train_images=512, train=recipe))
    assert record.outcome is Outcome.DIVERGED
    assert "epoch 1" in record.reason or "not finite" in record.reason
    assert record.metrics == {} and record.correct == ""
    assert "NaN" not in record.to_json() and "Infinity" not in record.to_json()
    assert type(record).model_validate_json(record.to_json()) == record


def test_what_a_run_raises_is_recorded_in_one_line(make_job):
    record = execute(make_job(train={"optimizer": "no-such-optimizer"}))
    assert record.outcome is Outcome.FAILED
    assert "no-such-optimizer" in record.reason and "\n" not in record.reason
    assert record.metrics == {} and record.curve == () and record.cost.params > 0


def test_a_model_larger_than_memory_is_recorded_as_out_of_memory_at_its_batch(make_job):
    # 6144 × 6.1e9 weights: 151 TB, beyond the 141 TB that 47 bits of address reach.
    record = execute(make_job(model={"width": 6144, "mlp_ratio": 1e6}))
    assert (record.outcome, record.reason) == (Outcome.FAILED, "out of memory at batch 64")


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_out_of_memory_elsewhere_says_the_same(make_job, monkeypatch, error):
    def raises(*_, **__):
        raise error

    monkeypatch.setattr(initial_model, "build_model", raises)
    assert execute(make_job()).reason == "out of memory at batch 64"


def test_ctrl_c_is_not_an_outcome(make_job, monkeypatch):
    def raises(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(initial_model, "build_model", raises)
    with pytest.raises(KeyboardInterrupt):
        execute(make_job())


@pytest.mark.parametrize(("field", "value"), [("num_classes", 4), ("in_channels", 3)])
def test_a_model_made_for_other_data_is_a_failed_run(make_job, field, value):
    record = execute(make_job(model={field: value}))
    assert record.outcome is Outcome.FAILED and f"{field} {value} does not fit digits" in record.reason


def test_data_that_are_gone_are_a_failed_run(make_job, tmp_path):
    record = execute(dataclasses.replace(make_job(), dataset=str(tmp_path / "gone")))
    assert record.outcome is Outcome.FAILED and "neither known nor a folder" in record.reason


def test_a_position_embedding_is_what_shapes_are_learned_by(make_job):
    """Content does not tell the label, place does: a bag of patches stays at chance, whatever it is trained with."""
    from scipy.stats import binom

    top1 = {}
    for position in ("none", "learned_1d"):
        job = make_job(
            "Nano/8",
            dataset="shapes",
            train_images=None,
            model={"pool": "gap", "position": position},
            train={"epochs": 4, "learning_rate": 3e-3},
        )
        top1[position] = execute(job).metrics["test_top1"]
    low, high = binom.interval(0.999, 1000, 1 / 4)
    assert low <= 1000 * top1["none"] <= high
    assert top1["learned_1d"] > 0.95


def test_a_model_of_timm_runs_eagerly_where_vits_beside_it_do(make_job, monkeypatch):
    monkeypatch.setattr(run_module.native, "describe_use", lambda *_, **__: "native: not in this model")
    monkeypatch.setattr(
        sys.modules["vitbench.studies.plan"], "COMPILING_PAYS_FROM", 0
    )  # by its length alone it would be compiled
    job = make_job(train={"compile": "auto"})
    options = {"patch_size": 4, "num_blocks": 1, "embed_dim": 8}
    mixer = TimmConfig(timm="mlp_mixer.MlpMixer", image_size=8, in_channels=1, num_classes=10, options=options)
    config = job.run.config.replace(model=mixer)
    record = execute(dataclasses.replace(job, run=dataclasses.replace(job.run, config=config)))
    assert record.outcome == "completed" and not record.environment.compiled
    assert record.environment.compile_note == "runs eagerly: native operators are faster"


def test_a_record_says_how_frequent_the_most_frequent_class_of_test_is(make_job, tmp_path):
    draws = np.random.default_rng(0)
    images = {f"{split}_images": draws.integers(256, size=(40, 1, 8, 8), dtype=np.uint8) for split in ("train", "test")}
    path = tmp_path / "unequal.npz"
    np.savez(path, train_labels=np.arange(40) % 2, test_labels=np.repeat([0, 1], [34, 6]), **images)
    job = make_job(model={"num_classes": 2}, train={"batch_size": 8})
    config = job.run.config.replace(data=DataConfig(dataset=describe(str(path)).dataset))
    run = dataclasses.replace(job.run, config=config)
    record = execute(dataclasses.replace(job, dataset=str(path), run=run))
    assert record.outcome is Outcome.COMPLETED, record.reason
    assert record.environment.largest_class == 34 / 40
