"""Does a run on several devices end as on one, whatever is in its recipe, and whatever ends one of its processes?"""

from __future__ import annotations

import dataclasses
import math
import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from vitbench.config import DataConfig
from vitbench.data.image_transform import ImageTransform
from vitbench.data.part import Part
from vitbench.device import open_device
from vitbench.evaluation import evaluate, joined
from vitbench.execution.job import Job, Report, images_a_device
from vitbench.execution.rank_processes import RankProcesses
from vitbench.execution.run import execute
from vitbench.execution.run_data import RunData
from vitbench.ranks import Ranks
from vitbench.records import Outcome, Record

RELATIVE = 2e-5
"""Of losses after a few steps in float32: sums over ranks are taken in another order."""

MIXED = {"mixup": 0.8, "cutmix": 1.0, "flip": True, "random_erasing": 0.5, "crop_padding": 1}
TOGETHER: dict[str, dict[str, Any]] = {
    "clipping, EMA, mixup, Muon, layer decay, label smoothing": {
        "train": {
            "optimizer": "muon",
            "clip_norm": 0.5,
            "ema_decay": 0.9,
            "layer_decay": 0.8,
            "label_smoothing": 0.1,
            "epochs": 2,
            "batch_size": 44,
        },
        "data": MIXED,
    },
    "an uneven batch, BatchNorm": {
        "model": {"stem": "conv", "stem_width": 8, "patch_size": 4},
        "train": {"epochs": 2, "batch_size": 37},
    },
    "micro-batches": {"train": {"epochs": 1, "batch_size": 37, "clip_norm": 0.5}, "micro_batch": 5},
}


def changed(job: Job, *, data: dict[str, Any] | None = None, **fields: Any) -> Job:
    config = job.run.config
    config = config.replace(data={**config.data.model_dump(), **(data or {})})
    return dataclasses.replace(job, run=dataclasses.replace(job.run, config=config), **fields)


@pytest.fixture
def job_of(make_job):
    def job(name: str) -> Job:
        case = dict(TOGETHER[name])
        data, micro_batch = case.pop("data", None), case.pop("micro_batch", None)
        return changed(make_job(train_images=150, **case), data=data, micro_batch=micro_batch)

    return job


@pytest.fixture(scope="module")
def processes() -> Iterator[RankProcesses]:
    with RankProcesses() as ranks:
        yield ranks


def assert_close(record: Record, other: Record, relative: float = RELATIVE) -> None:
    assert record.outcome is other.outcome is Outcome.COMPLETED, (record.reason, other.reason)
    for name in ("train_loss", "val_loss"):  # of some epochs, nothing is validated
        losses, others = ([value for p in r.curve if (value := getattr(p, name)) is not None] for r in (record, other))
        assert losses and losses == pytest.approx(others, rel=relative)
    assert record.metrics["test_loss"] == pytest.approx(other.metrics["test_loss"], rel=relative)
    assert record.run_id == other.run_id and len(record.correct) == len(other.correct)


@pytest.mark.parametrize(
    "devices", [2, pytest.param(3, marks=pytest.mark.slow)]
)  # processes that import torch cost seconds each
def test_ranks_follow_the_losses_of_one_process(job_of, processes, devices):
    for name in TOGETHER:
        alone, together = execute(job_of(name)), processes.execute(job_of(name).on(["cpu"] * devices))
        assert_close(together, alone)
        assert together.environment.devices == devices and alone.environment.devices == 1
        assert together.environment.comparison_key == alone.environment.comparison_key
        # Measured of the whole batch, by all ranks together.
        assert together.cost.train_images_per_second > 0 and together.cost.infer_images_per_second > 0
        assert together.cost.peak_memory_bytes > 0
    # The losses tell ranks that share a batch from ranks that go their own ways.
    other_batch = execute(changed(job_of("micro-batches"), data={"train_images": 149}))
    assert abs(other_batch.metrics["test_loss"] / alone.metrics["test_loss"] - 1) > 10 * RELATIVE


def with_data(job: Job, ranks: Ranks = Ranks(), **data: Any) -> RunData:
    return RunData.open(changed(job, data=data).run.config, job.dataset, None, open_device("cpu"), ranks)


AUGMENTATIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "crops, flips, erasing with noise, mixing": {**MIXED, "erasing_mode": "pixel"},
    "resized crops, RandAugment": {"crop_scale": (0.3, 1.0), "auto_augment": "rand-m9-mstd0.5-inc1", "cutmix": 1.0},
    "AutoAugment, one colour": {"auto_augment": "original", "random_erasing": 0.9, "erasing_mode": "rand"},
    "3-Augment, colours": {"auto_augment": "3a", "color_jitter": 0.0},
    "AugMix": {"auto_augment": "augmix-m5-w2"},
    "jitter, repeats": {"color_jitter": 0.4, "repeated_augmentation": 3},
}


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("size", [2, 3])
def test_slices_of_augmented_batches_make_up_the_batches_of_one_process(make_job, name, size):
    job = make_job(train={"batch_size": 22})
    whole = list(with_data(job, **AUGMENTATIONS[name]).augmented_batches(1, 1, 4))
    assert len(whole) == 3
    for rank in range(size):
        ranks = Ranks(rank, size)
        slices = list(with_data(job, ranks, **AUGMENTATIONS[name]).augmented_batches(1, 1, 4))
        for (images, targets), (part, part_targets) in zip(whole, slices, strict=True):
            places = torch.from_numpy(ranks.places(22))
            assert torch.equal(part, images[places]) and torch.equal(part_targets, targets[places])


def test_an_image_that_a_loader_changes_is_the_one_at_its_place_in_the_whole_batch():
    config = DataConfig(crop_scale=(0.3, 1.0), flip=True, auto_augment="rand-m9")
    places = Ranks(1, 3).places(13)
    whole = ImageTransform(config, (16, 16), (0.5, 0.5, 0.5), 0, 0, 13)
    part = dataclasses.replace(whole, part=Part(places, 13))
    image = np.random.default_rng(0).integers(256, size=(20, 24, 3), dtype=np.uint8)
    for index, place in enumerate(places.tolist()):
        assert np.array_equal(part(image, 2, index), whole(image, 2, place))


@pytest.mark.parametrize("number", [1, 2, 300])
def test_parts_of_an_evaluation_count_every_image_once(number):
    torch.manual_seed(0)
    images, labels = torch.randn(number, 7), torch.randint(9, (number,))
    model = torch.nn.Linear(7, 9)

    def of(rows: np.ndarray) -> Any:
        return evaluate(model, [(images[rows], labels[rows])], autocast=torch.no_grad, synchronize=lambda: None)

    indices = np.arange(number)
    whole, parts = of(indices), [Ranks(rank, 3).part(indices) for rank in range(3)]
    together = joined([of(part) for part in parts if len(part)])
    assert together.metrics == pytest.approx(whole.metrics, rel=1e-6)
    assert np.array_equal(together.correct, whole.correct) and np.array_equal(together.labels, labels.numpy())


@pytest.mark.parametrize("devices", [1, 2, 3, 8])
def test_images_a_device_are_those_of_the_largest_slice(devices):
    for batch_size in range(2 * devices - 1, 50):
        slices = [len(Ranks(rank, devices).places(batch_size)) for rank in range(devices)]
        assert images_a_device(batch_size, devices) == max(slices)


# What ends a rank ends the run, and the next call goes on.


def killing(processes: RankProcesses, number: int, epoch: int, signal_number: int = signal.SIGKILL) -> Any:
    """What kills a rank once that epoch is reported."""

    def on_report(report: Report) -> None:
        if report.text.startswith(f"epoch {epoch}/"):
            os.kill(processes.ranks[number].process.pid, signal_number)

    return on_report


@pytest.fixture
def long_job(make_job, tmp_path):
    """Keeps a checkpoint after every step."""
    job = make_job(train={"epochs": 6, "optimizer": "muon", "ema_decay": 0.9, "clip_norm": 0.5})
    return dataclasses.replace(job, checkpoints=tmp_path / "checkpoints", checkpoint_minutes=1e-9)


@pytest.mark.parametrize("number", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_rank_that_is_killed_ends_the_run_as_failed_and_one_device_goes_on_from_its_checkpoint(
    long_job, number, capfd
):
    with RankProcesses() as processes:
        record = processes.execute(long_job.on(["cpu", "cpu"]), killing(processes, number, 3))
        assert record.outcome is Outcome.FAILED and record.environment.devices == 2
        assert record.reason == f"rank {number} of 2: worker process ended by SIGKILL, perhaps out of memory"
        assert processes.ranks == []
    long_job.on(["cpu", "cpu"]).hand_over(record, lambda *_: True)
    assert long_job.checkpoint.exists()
    reports: list[Report] = []
    resumed = execute(long_job, reports.append)
    assert reports[0].text.startswith("goes on after step ")
    line = "goes on in whole batches, after in whole batches on 2 devices: the same but for rounding"
    assert line in capfd.readouterr().err
    assert resumed.cost.resumed == 1 and resumed.environment.devices == 1
    assert resumed.environment.earlier_parts == ("in whole batches on 2 devices",)
    assert resumed.environment.determines_bits is None
    assert_close(resumed, execute(dataclasses.replace(long_job, checkpoints=None)))


@pytest.mark.slow
def test_what_one_device_began_several_go_on_with(long_job, processes):
    def interrupt(report: Report) -> None:
        if report.text.startswith("epoch 3/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(dataclasses.replace(long_job, threads=2), interrupt)
    resumed = processes.execute(long_job.on(["cpu"] * 2))
    assert resumed.cost.resumed == 1 and resumed.environment.earlier_parts == ("in whole batches",)
    assert_close(resumed, execute(dataclasses.replace(long_job, checkpoints=None)))


@pytest.mark.slow
def test_an_error_of_a_rank_is_the_reason_and_the_ranks_after_it_are_new(make_job, processes):
    unknown = dataclasses.replace(make_job(), dataset="nowhere.npz").on(["cpu", "cpu"])
    failed = processes.execute(unknown)
    assert failed.outcome is Outcome.FAILED and "nowhere.npz" in failed.reason and "rank" not in failed.reason
    assert processes.ranks == []
    assert processes.execute(make_job().on(["cpu", "cpu"])).outcome is Outcome.COMPLETED


@pytest.mark.slow
def test_a_signal_has_rank_0_keep_its_state_and_ends_all(long_job):
    job = dataclasses.replace(long_job, checkpoint_minutes=math.inf)
    with RankProcesses() as processes:

        def interrupt(report: Report) -> None:
            if report.text.startswith("epoch 2/"):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            processes.execute(job.on(["cpu", "cpu"]), interrupt)
        assert processes.ranks == []
    record = execute(job)
    assert record.cost.resumed == 1
    assert_close(record, execute(dataclasses.replace(job, checkpoints=None)))


def test_old_checkpoints_and_records_are_of_one_device():
    from vitbench.execution.history import History

    history = History.resumed_from({"started": "then", "resumed": 1, "peak": 5, "validation": {}})
    assert history.resumed == 2 and history.parts == ["in whole batches"]
