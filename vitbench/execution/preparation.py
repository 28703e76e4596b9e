"""What must be there before a run starts: its data, decoded and checked, and a job on a device that is open."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vitbench.config import RunConfig
from vitbench.costs.macs import count
from vitbench.execution import display
from vitbench.execution.job import Job, MicroBatch, SettledOperators
from vitbench.machine import cpu_cores
from vitbench.studies import PlannedRun
from vitbench.studies.resolved_study import check_batch
from vitbench.text import counted

if TYPE_CHECKING:
    from vitbench.device import Device

MOST_JOBS = 1024

Planned = tuple[str, PlannedRun]
"""Data set as the user named it, run."""
DataHashes = dict[tuple[str, tuple[int, int]], str]
"""SHA-256 of decoded images by data set, as the user named it, and (height, width)."""


@dataclass(frozen=True)
class DataReader:
    """Reads data sets of one root into the cache of decoded images."""

    root: Path | None = None
    download: bool = False

    def decode(self, name: str, image_size: tuple[int, int], eval_crop: float = 1.0) -> str:
        """The SHA-256 of a data set's images, decoded now where they are not yet in the cache. Raises ValueError."""
        from vitbench.data import load

        with display.progress(f"reading {name}") as advance:

            def show(what: str, done: int, total: int) -> None:
                advance(f"reading {what}", done, total)

            data = load(
                name,
                root=self.root,
                image_size=image_size,
                eval_crop=eval_crop,
                download=self.download,
                progress=show,
            )
            return data.sha256

    def read(self, runs: Sequence[Planned]) -> DataHashes:
        """Decodes once what the runs need, and checks their splits, so that wrong data stop a command before any run.

        Raises ValueError where the real labels leave fewer images to train on than the plan took for granted.
        """
        from vitbench.data import load, split
        from vitbench.data.loading import stored_train
        from vitbench.execution.run_data import check_fit

        sizes = dict.fromkeys((name, run.config.model.image_hw) for name, run in runs)
        hashes = {size: self.decode(*size) for size in sizes}
        alike = {
            (name, run.config.data, run.config.model.image_hw, run.config.train.batch_size): run.config
            for name, run in runs
        }
        for (name, data, image_size, _), config in alike.items():
            self.decode(name, image_size, data.eval_crop)
            images = load(name, root=self.root, image_size=image_size)
            check_fit(config, images)
            stored_train(images, data, name, root=self.root)
            train, _ = split(
                images.train.labels,
                validation_fraction=data.validation_fraction,
                train_images=data.train_images,
                seed=config.seed,
            )
            check_batch(config, len(train))
        return hashes


def make_job(
    dataset: str,
    run: PlannedRun,
    *,
    device: Device,
    data_root: Path | None,
    threads: int,
    workers: int,
    results: Path,
    init: str | None = None,
    keep_weights: bool = False,
    study_file: Path | None = None,
    devices: int = 1,
    micro_batch: MicroBatch = None,
    checkpoint_minutes: float = math.inf,
    operators: Mapping[str, SettledOperators] | None = None,
) -> Job:
    """The job of a planned run, which keeps its state in `results` until it is finished. `devices`: how many compute it
    together; which, `Job.on` decides.

    Raises ValueError for an optimizer that is not there, or has not the options that it is to have, and for a batch of which
    some device would get nothing.
    """
    from vitbench.training import check_optimizer

    check_optimizer(run.config.train)
    check_devices(run.config, devices)
    name = str(device.torch_device)
    return Job(
        run=run,
        dataset=dataset,
        data_root=data_root,
        device=name,
        rank_devices=(name,) * devices if devices > 1 else (),
        device_name=device.name,
        precision=device.resolve_precision(run.config.train.precision),
        threads=threads,
        workers=workers,
        init=init,
        checkpoints=results.absolute() / "checkpoints",
        keep_weights=keep_weights,
        study_file=study_file,
        counts=count(run.config.model),
        micro_batch=micro_batch,
        checkpoint_minutes=checkpoint_minutes,
        operators=operators or {},
    )


def check_devices(config: RunConfig, devices: int) -> None:
    """Raises ValueError where a batch has no images for each of so many devices."""
    from vitbench.ranks import least_batch

    batch_size = config.train.batch_size
    if batch_size < least_batch(devices):
        raise ValueError(
            f"devices_per_run {devices} is too many for batch_size {batch_size}, of which each gets a pair of images; use "
            f"{(batch_size + 1) // 2} or fewer"
        )


def resolve_jobs(jobs: str, *, device: str, pending: int, devices_per_run: int = 1) -> int:
    """How many workers: a number, or `auto` (one per GPU, else one per CPU core, that a run takes); never more than there are
    runs.
    """
    if jobs == "auto":
        workers = max(1, (num_gpus(device) or cpu_cores()) // devices_per_run)
    elif jobs.isascii() and jobs.isdecimal() and 0 < float(jobs) <= MOST_JOBS:
        workers = int(jobs)
    else:
        raise ValueError(f"jobs {jobs!r} is not a number from 1 to {MOST_JOBS}; give one, or auto")
    return max(1, min(workers, pending))


def num_gpus(device: str) -> int:
    """GPUs that `device` stands for: all for `auto` and `cuda`."""
    if device not in ("auto", "cuda"):
        return int(device != "cpu")
    import torch

    return torch.cuda.device_count()


def worker_devices(device: Device, asked: str, devices_per_run: int = 1) -> list[str]:
    """What workers are dealt: all GPUs, unless one was named. Raises ValueError where a run is to have more."""
    if device.torch_device.type == "cpu":
        return ["cpu"]
    dealt = [asked] if ":" in asked else [f"cuda:{i}" for i in range(num_gpus("cuda"))]
    if devices_per_run > len(dealt):
        there = f"device {asked!r} is" if ":" in asked else f"this machine has {counted(len(dealt), 'GPU')}, which is"
        raise ValueError(f"devices_per_run {devices_per_run}: {there} fewer; use {len(dealt)}, or --device cpu")
    return dealt


def run_devices(dealt: Sequence[str], devices_per_run: int, *, worker: int = 0) -> list[str]:
    """Which of the devices that are dealt a worker's runs have; a CPU is there for all."""
    return [dealt[(worker * devices_per_run + k) % len(dealt)] for k in range(devices_per_run)]
