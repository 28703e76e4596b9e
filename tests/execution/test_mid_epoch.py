"""Does a run that is killed within an epoch go on there, with loader workers and augmentation, and decode nothing twice?"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from tests.data.made_up_images import random_pixels, write_folder
from tests.execution.run_results import bits
from vitbench.config import DataConfig, RunConfig
from vitbench.data import describe, epoch_order
from vitbench.device import open_device
from vitbench.execution import Job
from vitbench.execution.run import execute
from vitbench.execution.run_data import RunData, _load_once
from vitbench.training import Checkpoint
from vitbench.training.step import step_seed as step_seed_itself

BATCH, STEPS_PER_EPOCH = 4, 10
KILLED_IN = 13
"""The fourth step of the second epoch."""
ONE_BY_ONE = {"crop_scale": (0.2, 1.0), "flip": True, "auto_augment": "rand-m9-mstd0.5-inc1", "mixup": 0.2}
IN_BATCHES = {"crop_padding": 2, "flip": True, "random_erasing": 0.25, "mixup": 0.2, "cutmix": 0.5}


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch) -> Path:
    """44 training images, of which 4 validate, that are read from their files each time."""
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VITBENCH_CACHE_LIMIT_GB", "0")
    _load_once.cache_clear()
    return write_folder(tmp_path / "photographs", random_pixels(train=22, test=3, shape=(40, 36, 3)))


@pytest.fixture
def job(make_job, photographs: Path, tmp_path: Path):
    def of(fields: dict[str, object]) -> Job:
        train = {"epochs": 2.4, "batch_size": BATCH, "optimizer": "muon", "ema_decay": 0.9, "label_smoothing": 0.1}
        job = make_job(train=train, model={"dropout": 0.1, "drop_path": 0.1}, train_images=None)
        model = job.run.config.model.replace(image_size=16, patch_size=4, in_channels=3, num_classes=2)
        data = DataConfig(dataset=describe(str(photographs)).dataset, **fields)
        config = RunConfig(model=model, data=data, train=job.run.config.train)
        run = dataclasses.replace(job.run, config=config, train_images=40)
        return dataclasses.replace(
            job,
            run=run,
            dataset=str(photographs),
            checkpoints=tmp_path / "checkpoints",
            checkpoint_minutes=1e-9,
        )

    return of


def execute_and_kill(job: Job) -> None:
    from vitbench.training import loop

    def step_seed(seed: int, step: int, *first: int) -> int:
        if step == KILLED_IN:
            os.kill(os.getpid(), signal.SIGKILL)
        return step_seed_itself(seed, step, *first)

    loop.step_seed = step_seed
    execute(job)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no SIGKILL")
@pytest.mark.parametrize("fields", [ONE_BY_ONE, IN_BATCHES], ids=["one by one", "in batches"])
@pytest.mark.parametrize("micro_batch", [None, 3])
def test_a_run_of_streamed_images_killed_within_an_epoch_ends_with_the_bits_of_the_uninterrupted_one(
    job, fields, micro_batch, monkeypatch
):
    streamed = dataclasses.replace(job(fields), micro_batch=micro_batch)
    child = multiprocessing.get_context("fork").Process(target=execute_and_kill, args=(streamed,))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    content, _ = Checkpoint(streamed.checkpoint).read()
    assert content is not None and content["training"]["step"] == KILLED_IN
    taken: list[int] = []

    def step_seed(seed: int, step: int, *first: int) -> int:
        taken.append(step)
        return step_seed_itself(seed, step, *first)

    with monkeypatch.context() as patch:
        patch.setattr("vitbench.training.loop.step_seed", step_seed)
        record = execute(streamed)
    whole = execute(dataclasses.replace(streamed, checkpoints=None))
    assert sorted(set(taken)) == list(range(KILLED_IN, 24)) and record.cost.resumed == 1
    assert bits(record) == bits(whole)


@pytest.mark.parametrize("fields", [ONE_BY_ONE, IN_BATCHES], ids=["one by one", "in batches"])
def test_a_resumed_run_decodes_none_of_the_images_before_its_step(job, fields, tmp_path, monkeypatch):
    streamed, log = job(fields), tmp_path / "decoded"

    def read(split: object, row: int, as_it_is=None) -> object:
        with log.open("a") as file:  # by several processes
            file.write(f"{row}\n" if "train split" in split.title else "")
        return reads[type(split)](split, row)

    data = RunData.open(streamed.run.config, streamed.dataset, None, open_device("cpu"))
    kind = type(data.images.train.files)
    reads = {kind: kind.read}
    child = multiprocessing.get_context("fork").Process(target=execute_and_kill, args=(streamed,))
    child.start()
    child.join()
    with monkeypatch.context() as patch:
        patch.setattr(kind, "read", read)
        assert execute(streamed).cost.resumed == 1
    decoded = [int(line) for line in log.read_text().splitlines()]
    validation = set(data.validation_indices.tolist())
    trained = sorted(row for row in decoded if row not in validation)
    orders = [
        epoch_order(data.train_indices, batch_size=BATCH, seed=0, epoch=epoch, first_batch=first, last_batch=last)
        for epoch, first, last in ((1, 3, 10), (2, 0, 4))
    ]
    assert trained == sorted(row for order in orders for row in order.tolist())
