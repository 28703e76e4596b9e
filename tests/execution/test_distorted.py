"""Is a run evaluated on the distorted images that it asks for, and changes that nothing else of it?"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests.data.made_up_images import random_pixels, write_folder
from vitbench.config import DISTORTIONS, DataConfig
from vitbench.data import StreamedImages, describe
from vitbench.device import open_device
from vitbench.execution import distorted as distorted_module
from vitbench.execution import run_data
from vitbench.execution.distorted import evaluate_distorted
from vitbench.execution.run import execute
from vitbench.execution.run_data import RunData
from vitbench.models import build_model
from vitbench.records import Outcome

ALL = tuple(DISTORTIONS)


class InDouble(torch.nn.Module):
    """A model without rounding that shows: sums of other batches differ in float32's last bits."""

    def __init__(self, model):
        super().__init__()
        self.model = model.double()

    def forward(self, images):
        return self.model(images.double())


def evaluated(job, *names):
    run = dataclasses.replace(job.run, config=job.run.config.replace(evaluate=names))
    return dataclasses.replace(job, run=run)


def test_a_run_that_is_evaluated_on_distorted_images_is_otherwise_the_same(make_job):
    plain, record = execute(make_job()), execute(evaluated(make_job(), *ALL))
    assert record.outcome is Outcome.COMPLETED, record.reason
    assert (record.weights_sha256, record.correct, record.curve) == (plain.weights_sha256, plain.correct, plain.curve)
    assert {name: value for name, value in record.metrics.items() if "/" not in name} == plain.metrics
    expected = {
        f"{name}_{strength:g}/{metric}"
        for name, distortion in DISTORTIONS.items()
        for strength in distortion.strengths
        for metric in ("test_top1", "test_loss")
    } - {"shift_8/test_top1", "shift_8/test_loss"}  # digits are 8 pixels wide
    assert {name for name in record.metrics if "/" in name} == expected
    assert not record.objection()
    assert type(record).model_validate_json(record.to_json()) == record
    assert execute(evaluated(make_job(), *ALL)).metrics == record.metrics


def test_an_accuracy_beyond_1_on_distorted_images_cannot_be_right(make_job):
    record = execute(evaluated(make_job(), "shift"))
    wrong = record.model_copy(update={"metrics": {**record.metrics, "shift_4/test_top1": 1.5}})
    assert wrong.objection() == "shift_4/test_top1 1.5 is not in [0.0, 1.0]"


@pytest.mark.parametrize("batch_size", [7, 64, 599])
def test_neither_the_batch_size_nor_the_order_of_evaluation_changes_an_answer(make_job, monkeypatch, batch_size):
    job = evaluated(make_job(), *ALL)
    data = RunData.open(job.run.config, job.dataset, job.data_root, open_device("cpu"))
    model = InDouble(build_model(job.run.config.model, seed=0))
    strengths = {name: DISTORTIONS[name].strengths[1] for name in ALL}
    whole = {
        name: evaluate_distorted(data, model, name, strength, precision="fp32") for name, strength in strengths.items()
    }
    monkeypatch.setattr(distorted_module, "EVALUATION_BATCH", batch_size)
    for name, strength in strengths.items():
        parts = evaluate_distorted(data, model, name, strength, precision="fp32")
        assert np.array_equal(parts.correct, whole[name].correct)
        assert parts.loss == pytest.approx(whole[name].loss, abs=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_strength_0_is_the_plain_test_accuracy(make_job, name):
    job = evaluated(make_job(), name)
    model, data = (
        build_model(job.run.config.model, seed=0),
        RunData.open(job.run.config, job.dataset, job.data_root, open_device("cpu")),
    )
    test = data.evaluated.test
    plain = data.evaluate(model, test, np.arange(len(test.labels)), precision="fp32")
    found = evaluate_distorted(data, model, name, 0, precision="fp32")
    assert np.array_equal(found.correct, plain.correct) and found.loss == plain.loss


@pytest.mark.parametrize("pool", ["gap", "cls"])
def test_without_position_the_order_of_patches_is_nothing_to_a_model_of_plain_patches(make_job, pool):
    job = evaluated(make_job(model={"position": "none", "pool": pool}), "shuffle")
    model, data = (
        build_model(job.run.config.model, seed=0),
        RunData.open(job.run.config, job.dataset, job.data_root, open_device("cpu")),
    )
    losses = [evaluate_distorted(data, model, "shuffle", strength, precision="fp32").loss for strength in (0, 25, 100)]
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-6)
    model = build_model(job.run.config.model.replace(position="sincos_2d"), seed=0)
    with_position = [evaluate_distorted(data, model, "shuffle", s, precision="fp32").loss for s in (0, 100)]
    assert abs(with_position[0] - with_position[1]) > 1e-4


def test_with_an_average_of_weights_the_average_is_evaluated(make_job):
    """On images that the distortion leaves as they are, both are the same number."""
    job = evaluated(make_job(model={"position": "none"}, train={"ema_decay": 0.9}), "shuffle")
    record = execute(job)
    assert record.metrics["shuffle_100/test_loss"] == pytest.approx(record.metrics["test_loss"], rel=1e-5)


def test_time_on_distorted_images_is_in_no_rate(make_job, monkeypatch):
    taken = []

    def slow(data, model, name, strength, *, precision):
        taken.append(name)
        return evaluate_distorted(data, model, name, strength, precision=precision)

    monkeypatch.setattr(distorted_module, "evaluate_distorted", slow)
    reports = []
    record = execute(evaluated(make_job(), "shift", "blur"), reports.append)
    assert taken == ["shift"] * 3 + ["blur"] * 3
    assert [report.text for report in reports][-6:] == [
        *("test images: shift 1", "test images: shift 2", "test images: shift 4"),
        *("test images: blur 0.5", "test images: blur 1", "test images: blur 2"),
    ]
    assert all(report.fraction == 1 for report in reports[-6:])
    assert record.cost.infer_images_per_second and record.cost.train_images_per_second


def npz_job(make_job, path, images, *names):
    """A run on the first half of some images, tested on the second."""
    half, labels = len(images) // 2, np.arange(len(images) // 2) % 2
    np.savez(path, train_images=images[:half], test_images=images[half:], train_labels=labels, test_labels=labels)
    shape = {"num_classes": 2, "in_channels": images.shape[1]}
    job = make_job(model=shape, train={"batch_size": 8}, train_images=None)
    config = job.run.config.replace(data=DataConfig(dataset=describe(str(path)).dataset))
    return evaluated(
        dataclasses.replace(job, dataset=str(path), run=dataclasses.replace(job.run, config=config)), *names
    )


KINDS = {"4 channels": ("uint8", 4), "16 bits": ("uint16", 1), "floats": ("float32", 2)}


def images_of(kind):
    dtype, channels = KINDS[kind]
    draws = np.random.default_rng(0).normal(size=(80, channels, 8, 8))
    return (draws if dtype == "float32" else draws * 20 + 128).astype(dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_other_kinds_are_evaluated_on_all_but_jpeg(make_job, tmp_path, kind):
    names = [name for name in ALL if name != "jpeg"]
    record = execute(npz_job(make_job, tmp_path / "some.npz", images_of(kind), *names))
    assert record.outcome is Outcome.COMPLETED, record.reason
    assert {name.partition("_")[0] for name in record.metrics if "/" in name} == {*names}


def test_jpeg_of_images_of_16_bits_is_a_failed_run(make_job, tmp_path):
    record = execute(npz_job(make_job, tmp_path / "some.npz", images_of("16 bits"), "jpeg"))
    assert record.outcome is Outcome.FAILED
    assert "evaluate 'jpeg' is for images of 8 bits, and those of " in record.reason


def test_images_that_are_streamed_are_distorted_as_those_of_an_array(make_job, tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "pets", random_pixels(train=20, test=6, shape=(8, 8, 3)))
    job = make_job(model={"num_classes": 2, "in_channels": 3}, train={"batch_size": 8}, train_images=None)
    config = job.run.config.replace(data=DataConfig(dataset=describe(str(folder)).dataset), evaluate=ALL)
    job = dataclasses.replace(job, dataset=str(folder), run=dataclasses.replace(job.run, config=config))
    model, losses = InDouble(build_model(config.model, seed=0)), []
    for _ in range(2):
        data = RunData.open(job.run.config, job.dataset, job.data_root, open_device("cpu"))
        strengths = {name: DISTORTIONS[name].strengths[1] for name in ALL}
        losses.append(
            [
                evaluate_distorted(data, model, name, strength, precision="fp32").loss
                for name, strength in strengths.items()
            ]
        )
        monkeypatch.setenv("VITBENCH_CACHE_LIMIT_GB", "0")
        run_data._load_once.cache_clear()
    assert isinstance(data.evaluated.test, StreamedImages)
    assert losses[0] == losses[1] and len({*losses[0]}) == len(ALL)
