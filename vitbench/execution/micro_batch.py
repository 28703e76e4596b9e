"""How many images of a batch are computed at a time, so that a step fits into the memory of its device?

`auto` measures once for each model, recipe and device, and remembers what it came to in the cache.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from vitbench import __version__
from vitbench.config import RunConfig
from vitbench.config.base import canonical_json
from vitbench.costs.memory import StepMemory, room_for
from vitbench.device import Device, is_out_of_memory
from vitbench.execution.initial_model import untrained_model
from vitbench.execution.job import Job, MicroBatch, images_a_device
from vitbench.files import write_whole
from vitbench.inspection.check_bench import Bench
from vitbench.inspection.step_memory import random_batch, step_memory, step_peak
from vitbench.inspection.whole_batches import batch_dependence
from vitbench.machine import cache_directory

TRIED = 16
"""Images, at most, that steps are measured on."""
_COSTS_NOTHING = ("epochs", "learning_rate", "min_learning_rate", "warmup_fraction", "schedule", "weight_decay")
"""Fields of the recipe that no memory depends on."""


def micro_batch_of(job: Job, device: Device) -> int | None:
    """Images of a slice; None where a device's whole part of the batch is computed at once.

    Raises ValueError for a model whose batch must stay whole, and, of `auto`, where not one image fits.
    """
    config, asked = job.run.config, job.micro_batch
    batch_size = images_a_device(config.train.batch_size, job.num_devices)
    if asked is None or not config.train.epochs:
        return None
    if isinstance(asked, int):
        check_micro_batch(asked, {job.run.arm: config}, devices=job.num_devices)
        return asked if asked < batch_size else None
    if batch_dependence(config.model):
        return None
    train = config.train.model_copy(update={"precision": job.precision, "batch_size": batch_size})
    runs = runs_on_device(job.workers * job.num_devices, device)
    _, size = fitting(config.model_copy(update={"train": train}), device, runs=runs)
    return size


def check_micro_batch(asked: MicroBatch, configs: Mapping[str, RunConfig], *, devices: int = 1) -> None:
    """`configs` by arm. Raises ValueError for one whose batch must stay whole, of which each of so many devices has more than
    what is asked for.
    """
    for arm, config in configs.items():
        if not isinstance(asked, int) or asked >= images_a_device(config.train.batch_size, devices):
            continue
        if reason := batch_dependence(config.model):
            raise ValueError(
                f"micro_batch {asked}: {arm!r} has {reason}, for which the whole batch of {config.train.batch_size} images "
                "counts; leave it out, or give auto, which keeps the batches of such models whole"
            )


def out_of_memory_reason(job: Job) -> str:
    """At which batch, and in which slices of it."""
    slices = "" if job.micro_batch is None else f" with micro_batch {job.micro_batch}; give a smaller number"
    return f"out of memory at batch {job.run.config.train.batch_size}{slices}"


def runs_on_device(workers: int, device: Device) -> int:
    """How many of `workers` share this device's memory."""
    if device.torch_device.type == "cpu":
        return workers
    return -(-workers // max(torch.cuda.device_count(), 1))


def fitting(config: RunConfig, device: Device, *, runs: int) -> tuple[StepMemory | None, int | None]:
    """(what a step takes, images at a time that fit beside `runs` − 1 others like it), as remembered or measured now.

    A size of None: the whole batch fits. (None, None) where the device does not tell its memory.
    """
    path = _cache_file()
    if path is None:
        return _measure(config, device, runs=runs)
    key = _key(config, device, runs=runs)
    with FileLock(path.with_suffix(".lock")):  # others like it wait for the answer
        try:
            kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return StepMemory(**kept[key]["memory"]), kept[key]["micro_batch"]
        except (OSError, ValueError, TypeError, KeyError):  # not there, or damaged: measured anew
            memory, size = _measure(config, device, runs=runs)
        if memory is not None:
            _remember(path, key, {"memory": asdict(memory), "micro_batch": size, "free_bytes": device.free_bytes()})
        return memory, size


def _cache_file() -> Path | None:
    """None where there is no cache, or it cannot be written."""
    try:
        path = cache_directory() / "micro_batches.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".lock").touch()
    except (OSError, ValueError):
        return None
    return path


def _remember(path: Path, key: str, entry: dict[str, Any]) -> None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        assert isinstance(kept, dict)
    except (OSError, ValueError, AssertionError):
        kept = {}
    try:
        write_whole(path, json.dumps(kept | {key: entry}, indent=1))
    except OSError:  # a full disk: measured again the next time
        return


def _key(config: RunConfig, device: Device, *, runs: int) -> str:
    facts = {
        "model": config.model.model_dump(mode="json"),
        "train": config.train.model_dump(mode="json", exclude=set(_COSTS_NOTHING)),
        "runs": runs,
        "torch": metadata.version("torch"),
        "vitbench": __version__,
    }
    digest = hashlib.sha256(canonical_json(facts).encode()).hexdigest()[:16]
    return f"{digest} on {device.name}"


def _measure(config: RunConfig, device: Device, *, runs: int) -> tuple[StepMemory | None, int | None]:
    batch_size, bench = config.train.batch_size, _bench(device)
    images = min(TRIED, bench.images_tried(config) if device.torch_device.type == "cpu" else batch_size)
    memory = step_memory(config, bench, *random_batch(config, images, device.torch_device))
    device.release()
    free = device.free_bytes()
    if memory is None or free is None:
        return None, None
    size = memory.largest_fitting(batch_size, room_for(free, runs, is_tried=device.raises_out_of_memory))
    while device.raises_out_of_memory and not _runs(config, bench, size or batch_size):
        if size == 1:
            raise ValueError("micro_batch auto: out of memory with one image at a time; use a smaller model")
        size = -(-(size or batch_size) // 2)
    return memory, size


def _bench(device: Device) -> Bench:
    def place(config: RunConfig, seed: int) -> Any:
        return device.place(untrained_model(config, seed))

    def open_data(_: RunConfig) -> Any:
        raise AssertionError("memory is measured on noise")

    return Bench(device, place, open_data)


def _runs(config: RunConfig, bench: Bench, images: int) -> bool:
    """Whether a step on so many images does not run out of memory."""
    try:
        step_peak(config, bench, *random_batch(config, images, bench.device.torch_device))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        bench.device.release()
    return True
