"""Are runs in micro-batches the runs of whole batches, what does their record say, and what does `auto` come to?"""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import pytest
import torch

from tests.execution.run_results import bits
from vitbench.config import TimmConfig
from vitbench.costs.memory import COUNTED, StepMemory
from vitbench.device import CpuDevice
from vitbench.execution import micro_batch as module
from vitbench.execution.current_environment import CurrentEnvironment
from vitbench.execution.micro_batch import check_micro_batch, fitting, micro_batch_of
from vitbench.execution.run import execute
from vitbench.records import Outcome
from vitbench.training.step import step_seed as step_seed_itself

SMOOTH = {"epochs": 2, "optimizer": "muon", "ema_decay": 0.9, "clip_norm": 0.5, "label_smoothing": 0.1}
"""4 steps of 64 of 128 digits."""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A file that nothing is in yet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("VITBENCH_CACHE", str(folder))
    return folder / "micro_batches.json"


@pytest.fixture
def cpu():
    return CpuDevice(torch.device("cpu"))


def mixed(job, **changes):
    """With all that acts on whole batches."""
    data = {**job.run.config.data.model_dump(), "mixup": 0.2, "cutmix": 0.5, "flip": True}
    config = job.run.config.replace(data=data)
    return dataclasses.replace(job, run=dataclasses.replace(job.run, config=config), **changes)


def end_in(monkeypatch, step):
    """As a kill does: nothing is written any more."""

    def step_seed(seed, number, *first):
        if number == step:
            raise KeyboardInterrupt
        return step_seed_itself(seed, number, *first)

    monkeypatch.setattr("vitbench.training.loop.step_seed", step_seed)


def close(record, whole):
    """Whether two runs agree but for rounding: loss curves within 1 %, metrics of 40 test images within one image."""
    assert record.outcome is whole.outcome is Outcome.COMPLETED
    for point, expected in zip(record.curve, whole.curve, strict=True):
        assert point.train_loss == pytest.approx(expected.train_loss, rel=0.01)
        assert point.val_loss == pytest.approx(expected.val_loss, rel=0.01)
    return record.metrics["test_loss"] == pytest.approx(whole.metrics["test_loss"], rel=0.01)


def test_a_run_in_micro_batches_is_the_run_of_whole_batches_but_for_rounding_and_says_so(make_job):
    job = mixed(make_job(train=SMOOTH))
    whole, sliced = execute(job), execute(dataclasses.replace(job, micro_batch=24))
    assert close(sliced, whole) and bits(sliced) != bits(whole)
    assert (whole.environment.micro_batch, sliced.environment.micro_batch) == (None, 24)
    assert whole.run_id == sliced.run_id and whole.config == sliced.config
    # They stand in one table, and neither contradicts the other.
    assert whole.environment.comparison_key == sliced.environment.comparison_key
    assert whole.environment.determines_bits != sliced.environment.determines_bits
    assert sliced.cost.peak_memory_bytes < whole.cost.peak_memory_bytes


def test_a_micro_batch_of_the_whole_batch_or_more_is_the_whole_batch(make_job):
    job = make_job()
    whole = execute(job)
    for size in (64, 1000):
        record = execute(dataclasses.replace(job, micro_batch=size))
        assert bits(record) == bits(whole) and record.environment.micro_batch is None


def test_a_run_may_go_on_in_other_slices_and_its_record_tells_both(make_job, tmp_path, monkeypatch):
    job = make_job(train=SMOOTH)
    whole = execute(job)
    job = dataclasses.replace(job, checkpoints=tmp_path / "checkpoints", checkpoint_minutes=1e-9)
    for step, size in ((1, None), (2, 32), (3, 16)):
        with monkeypatch.context() as patch:
            end_in(patch, step)
            with pytest.raises(KeyboardInterrupt):
                execute(dataclasses.replace(job, micro_batch=size))
    record = execute(dataclasses.replace(job, micro_batch=32))
    environment = record.environment
    assert close(record, whole) and record.cost.resumed == 3
    assert environment.micro_batch == 32
    assert environment.earlier_parts == ("in whole batches", "in micro-batches of 16")
    assert environment.determines_bits is None  # what it came to is no other run's to repeat


def test_a_run_that_goes_on_in_the_same_slices_has_the_bits_of_the_uninterrupted_one(make_job, tmp_path, monkeypatch):
    job = mixed(make_job(train=SMOOTH, model={"dropout": 0.1, "drop_path": 0.1}), micro_batch=24)
    whole = execute(job)
    job = dataclasses.replace(job, checkpoints=tmp_path / "checkpoints", checkpoint_minutes=1e-9)
    for step in (1, 3):
        with monkeypatch.context() as patch:
            end_in(patch, step)
            with pytest.raises(KeyboardInterrupt):
                execute(job)
    record = execute(job)
    assert bits(record) == bits(whole) and record.cost.resumed == 2 and record.environment.earlier_parts == ()


# Models whose batch must stay whole


def test_a_model_with_batch_norm_is_refused_in_one_line(make_job):
    stem = {"patch_size": 4, "stem": "conv", "stem_width": 8}
    config = make_job(model=stem).run.config
    resnet = TimmConfig(timm="resnetv2_18", image_size=32, in_channels=1, num_classes=10)
    for model, module_name in ((config.model, "stem (BatchNorm2d)"), (resnet, "norm (BatchNormAct2d)")):
        with pytest.raises(ValueError, match=r"^micro_batch 16: 'one' has ") as refusal:
            check_micro_batch(16, {"one": config.model_copy(update={"model": model})})
        assert "for which the whole batch of 64 images counts; leave it out, or give auto" in str(refusal.value)
        assert "BatchNorm" in str(refusal.value), module_name
    check_micro_batch(64, {"one": config})  # no slice at all
    record = execute(dataclasses.replace(make_job(model=stem), micro_batch=16))
    assert record.outcome is Outcome.FAILED and "has stem (BatchNorm2d)" in record.reason


def test_auto_keeps_such_a_batch_whole_however_little_memory_there_is(make_job, cpu, monkeypatch):
    monkeypatch.setattr(CpuDevice, "free_bytes", lambda _: 1)
    job = make_job(model={"patch_size": 4, "stem": "conv", "stem_width": 8})
    assert micro_batch_of(dataclasses.replace(job, micro_batch="auto"), cpu) is None


# auto


def test_auto_takes_the_whole_batch_where_it_fits_and_else_what_fits(make_job, cpu, cache, monkeypatch):
    config = make_job().run.config
    memory, size = fitting(config, cpu, runs=1)
    assert size is None
    cache.unlink()
    for images in (40, 20, 3):
        room = memory.needed(64, images) / COUNTED
        monkeypatch.setattr(CpuDevice, "free_bytes", lambda _, room=room: room + 1)
        _, size = fitting(config, cpu, runs=1)
        assert size == {40: 32, 20: 16, 3: 2}[images]
        cache.unlink()
    monkeypatch.setattr(CpuDevice, "free_bytes", lambda _: 2 * memory.needed(64, 40) / COUNTED + 1)
    _, beside_another = fitting(config, cpu, runs=2)
    assert beside_another == 32


def test_auto_is_measured_once(make_job, cpu, cache, monkeypatch):
    config = make_job().run.config
    first = fitting(config, cpu, runs=1)
    monkeypatch.setattr(module, "_measure", lambda *_, **__: pytest.fail("measured again"))
    assert fitting(config, cpu, runs=1) == first
    other_rate = config.model_copy(update={"train": config.train.replace(learning_rate=0.5, epochs=9)})
    assert fitting(other_rate, cpu, runs=1) == first
    cache.write_text('{"torn')
    monkeypatch.undo()
    monkeypatch.setattr(module, "_cache_file", lambda: cache)
    assert fitting(config, cpu, runs=1) == first and len(json.loads(cache.read_text())) == 1


def test_where_not_one_image_fits_the_run_fails_and_says_so(make_job, monkeypatch):
    monkeypatch.setattr(CpuDevice, "free_bytes", lambda _: 1000)
    record = execute(dataclasses.replace(make_job(), micro_batch="auto"))
    assert record.outcome is Outcome.FAILED
    assert "micro_batch auto: one image at a time takes" in record.reason and "fewer jobs" in record.reason


def test_what_is_measured_is_what_a_step_then_takes(make_job):
    """The record's peak is counted in the run itself, in the step as it is, beside the batch that it is a part of."""
    job = make_job("Micro/2", train={"batch_size": 128, "optimizer": "adamw"})
    memory, _ = fitting(job.run.config, CpuDevice(torch.device("cpu")), runs=1)
    for size in (16, 32, 64, None):
        record = execute(dataclasses.replace(job, micro_batch=size))
        assert record.cost.peak_memory_bytes == pytest.approx(memory.peak_of(size or 128), rel=0.1)


class SmallGpu(CpuDevice):
    """A device that raises where more than so many images are computed at a time, whatever was counted."""

    raises_out_of_memory = True
    most = 10


def test_on_a_device_that_raises_what_was_counted_is_tried_and_halved_until_it_runs(make_job, monkeypatch):
    tried = []

    def step_peak(config, bench, images, targets):
        tried.append(len(images))
        if len(images) > SmallGpu.most:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(module, "step_peak", step_peak)
    _, size = fitting(make_job().run.config, SmallGpu(torch.device("cpu")), runs=1)
    assert (size, tried) == (8, [64, 32, 16, 8])


def test_another_error_than_out_of_memory_is_not_taken_for_it(make_job, monkeypatch):
    def step_peak(*_):
        raise RuntimeError("illegal memory access")

    monkeypatch.setattr(module, "step_peak", step_peak)
    with pytest.raises(RuntimeError, match="illegal"):
        fitting(make_job().run.config, SmallGpu(torch.device("cpu")), runs=1)


def test_runs_share_a_device_as_they_are_dealt_out(monkeypatch, cpu):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    gpu = SimpleNamespace(torch_device=torch.device("cuda", 0))
    assert [module.runs_on_device(jobs, gpu) for jobs in (1, 4, 5, 8, 9)] == [1, 1, 2, 2, 3]
    assert module.runs_on_device(3, cpu) == 3


# Which records would be repeated


@pytest.mark.parametrize(
    ("asked", "recorded", "same"),
    [
        (None, None, True),
        (64, None, True),
        (16, None, False),
        (16, 16, True),
        (None, 16, False),
        ("auto", 16, True),
        ("auto", None, True),
    ],
)
def test_a_record_stands_for_a_run_of_another_study_where_it_was_computed_alike(make_job, asked, recorded, same):
    record = execute(make_job())
    record = record.model_copy(update={"environment": record.environment.model_copy(update={"micro_batch": recorded})})
    assert CurrentEnvironment(micro_batch=asked).would_repeat(record) == same


# The rule


def test_the_largest_share_of_a_batch_that_fits_is_found_by_counting():
    memory = StepMemory(fixed=110, per_image=10.0, per_image_of_batch=1, average=10, least=140)
    for batch_size in (1, 7, 64, 100):
        for room in range(230, 1500, 7):
            shares = [-(-batch_size // 2**k) for k in range(8)]
            fit = [n for n in shares if max(150, 120 + 10 * n) + batch_size <= room]
            if not fit:
                with pytest.raises(ValueError, match="micro_batch auto: one image at a time takes"):
                    memory.largest_fitting(batch_size, room)
                continue
            expected = None if fit[0] == batch_size else fit[0]
            assert memory.largest_fitting(batch_size, room) == expected
