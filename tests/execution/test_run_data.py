"""Do a run's batches come from its images as they are stored, paired between arms, and its evaluation from their middle?"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.made_up_images import random_pixels, write_folder
from tests.execution.run_results import bits
from tests.execution.test_resume import interrupt_in
from vitbench.data import describe
from vitbench.device import open_device
from vitbench.execution import Job
from vitbench.execution.preparation import DataReader
from vitbench.execution.run import execute
from vitbench.execution.run_data import RunData
from vitbench.inspection.loaded_model import LoadedModel, load_images
from vitbench.models import ViT

CROPS = {"crop_scale": (0.2, 1.0), "flip": True}


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))
    return write_folder(tmp_path / "photographs", random_pixels(train=20, test=4, shape=(80, 100, 3)))


@pytest.fixture
def job_on(make_job, photographs, tmp_path):
    """A job on these photographs at 16 pixels; `fields` are those of the data."""

    def job(train: dict[str, Any] | None = None, **fields: Any) -> Job:
        shape = {"image_size": 16, "patch_size": 8, "in_channels": 3, "num_classes": 2}
        made = make_job(model=shape, train={"batch_size": 8, **(train or {})})
        data = {"dataset": "photographs", "validation_fraction": 0.2, **fields}
        config = made.run.config.replace(data=data)
        run = dataclasses.replace(made.run, config=config)
        return dataclasses.replace(made, run=run, dataset=str(photographs), checkpoints=tmp_path / "checkpoints")

    return job


def open_data(job: Job) -> RunData:
    return RunData.open(job.run.config, job.dataset, job.data_root, open_device("cpu"))


def batches_of(job: Job, epoch: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    data = open_data(job)
    return list(data.augmented_batches(epoch, 0, data.steps_per_epoch))


def test_arms_with_and_without_a_policy_erasing_or_mixing_see_the_same_crops_in_the_same_order(job_on):
    plain = batches_of(job_on(**CROPS))
    with_policy = batches_of(job_on(**CROPS, auto_augment="rand-m0-n1"))
    erased = batches_of(job_on(**CROPS, random_erasing=0.5))
    assert len(plain) == 4
    for others in (with_policy, erased):
        images, labels = (torch.cat(parts) for parts in zip(*plain, strict=True))
        other_images, other_labels = (torch.cat(parts) for parts in zip(*others, strict=True))
        same = [torch.equal(a, b) for a, b in zip(images, other_images, strict=True)]
        assert torch.equal(labels, other_labels) and 4 < sum(same) < 32


def test_repeats_of_an_image_are_different_crops_of_it(job_on):
    (images, labels), *_ = batches_of(job_on(**CROPS, repeated_augmentation=4))
    assert labels[:4].unique().numel() == labels[4:].unique().numel() == 1
    assert len({image.numpy().tobytes() for image in images}) == 8


@pytest.mark.parametrize("limit", ["4", "0"], ids=["cached", "streamed"])
def test_a_run_on_crops_that_was_interrupted_ends_with_the_bits_of_the_whole_one(job_on, monkeypatch, limit):
    monkeypatch.setenv("VITBENCH_CACHE_LIMIT_GB", limit)
    augmented = {**CROPS, "auto_augment": "rand-m9-mstd0.5-inc1", "mixup": 0.2, "random_erasing": 0.25}
    job = job_on({"epochs": 2}, **augmented, repeated_augmentation=2, eval_crop=0.875)
    whole = execute(job)
    for step in (1, 5):
        interrupt_in(monkeypatch, step)
        with pytest.raises(KeyboardInterrupt):
            execute(job)
        interrupt_in(monkeypatch, -1)
        record = execute(job)
        assert bits(record) == bits(whole) and record.cost.resumed == 1
        job.remove_checkpoint()


def test_validation_and_test_see_the_middle_of_resized_images_and_the_record_the_hash_of_whole_ones(
    job_on, photographs
):
    data = open_data(job_on(eval_crop=0.5))
    whole = open_data(job_on())
    assert data.images is whole.images and data.evaluated.sha256 == whole.images.sha256
    row = int(data.validation_indices[0])
    image = Image.open(photographs / "train" / ("cat", "dog")[row // 20] / f"{row % 20}.png")
    expected = image.resize((40, 32), Image.Resampling.BICUBIC).crop((12, 8, 28, 24))
    ((pixels, _),) = data.evaluated.train.batches(np.array([row]), 1, torch.device("cpu"))
    assert np.array_equal(pixels[0], np.asarray(expected).transpose(2, 0, 1))


def test_another_share_of_evaluation_trains_the_same_weights_and_measures_others(job_on):
    whole, middle = execute(job_on()), execute(job_on(eval_crop=0.4))
    assert whole.weights_sha256 == middle.weights_sha256
    assert whole.environment.data_sha256 == middle.environment.data_sha256
    assert whole.metrics["test_loss"] != middle.metrics["test_loss"]
    assert whole.metrics["val_loss"] != middle.metrics["val_loss"]


def test_a_trained_run_is_looked_into_on_images_as_it_was_evaluated(job_on, photographs):
    job = job_on(eval_crop=0.5)
    config, info = job.run.config, describe(str(photographs))
    loaded = LoadedModel(ViT(config.model), "run:0@0", "0", run=config, mean=(0.5,) * 3, std=(0.5,) * 3)
    _, data = load_images(loaded, str(photographs), info, data_root=None, download=False, progress=lambda *_: None)
    evaluated = open_data(job).evaluated
    assert np.array_equal(data.test.array, evaluated.test.array)
    whole = open_data(job_on()).evaluated
    assert not np.array_equal(data.test.array, whole.test.array)


def test_colours_of_images_of_more_than_8_bits_are_refused_before_a_run(job_on, tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        f"{split}_{what}": rng.integers(2 if what == "labels" else 60_000, size=shape).astype(dtype)
        for split in ("train", "test")
        for what, shape, dtype in (("images", (40, 3, 16, 16), np.uint16), ("labels", (40,), np.int64))
    }
    np.savez(tmp_path / "deep.npz", **arrays)
    job = job_on(auto_augment="v0")
    with pytest.raises(
        ValueError, match=r"^auto_augment is for images of 8 bits, and those of deep@\w{8} are uint16; leave it out"
    ):
        DataReader().read([(str(tmp_path / "deep.npz"), job.run)])
