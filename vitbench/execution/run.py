"""How one run becomes one record: data, model, training, evaluation and cost, put together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitbench.config import RunConfig, ViTConfig, block_width
from vitbench.costs.macs import count
from vitbench.data import Augment, ImageData, Images, StreamedImages, fingerprint, load, normalise, split, train_batches
from vitbench.device import Device, is_out_of_memory, open_device
from vitbench.evaluation import Evaluation, evaluate
from vitbench.execution.job import Job, Report
from vitbench.kernels import native
from vitbench.kernels.blocks import install
from vitbench.machine import utc_now
from vitbench.models import TimmModel, ViT, build_model, convert
from vitbench.models.inherit import inherit
from vitbench.models.inherit_timm import started_from
from vitbench.models.weights import load_trained, save_trained, weights_sha256
from vitbench.records import Cost, Environment, EpochPoint, Outcome, Record, describe_environment, pack_correct
from vitbench.text import say
from vitbench.training import Checkpoint, Progress, freeze, train

EVALUATION_BATCH = 256
EVALUATION_SHARE = 0.01
INFERENCE_SECONDS = 0.05
"""The test split is evaluated again until this is spent, so that small sets give a throughput worth the name."""


def execute(job: Job, on_report: Callable[[Report], None] = lambda _: None) -> Record:
    """Runs `job` in this process. Whatever goes wrong within the run is a record with outcome `failed` and a reason.

    Where the job has a checkpoint, the run goes on from it, and one is left behind until the record is kept.
    """
    started = utc_now()
    try:
        return _execute(job, started, on_report)
    except Exception as error:  # the one place where a run's errors become a record
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        if is_out_of_memory(error):
            reason = f"out of memory at batch {job.run.config.train.batch_size}"
    return job.failed(reason, started=started)


def _execute(job: Job, started: str, on_report: Callable[[Report], None]) -> Record:
    config = job.run.config
    torch.set_num_threads(job.threads)
    device = open_device(job.device)
    native.state()  # compiled here, where there is a compiler, and not within the first step
    data = load_once(job.dataset, job.data_root, config.model.image_hw)
    check_fit(config, data)
    train_indices, validation_indices = split(
        data.train.labels,
        validation_fraction=config.data.validation_fraction,
        train_images=config.data.train_images,
        seed=config.seed,
    )
    # What a device keeps of the data is not the model's memory, and copying it there not the model's time.
    example, _ = next(_batches(config, data, train_indices, device, 0, 0, 1))
    device.start_memory()
    model = device.place(install(initial_model(job)))
    freeze(model, config.train)
    eager_because = _eager_because(job, device)
    model_to_call, compiled, compile_note = device.compile(
        model, "off" if eager_because else config.train.compile, example=normalise(example, data.mean, data.std)
    )
    environment = describe_environment(
        device.name,
        precision=job.precision,
        threads=job.threads,
        workers=job.workers,
        compiled=compiled,
        compile_note=eager_because or compile_note,
        data_sha256=data.sha256,
        kernels=native.describe_use(
            device.torch_device.type, precision=job.precision, compiled=compiled, width=block_width(config.model)
        ),
    )
    steps_per_epoch = len(train_indices) // config.train.batch_size
    num_steps = config.train.num_steps(steps_per_epoch)
    num_epochs = math.ceil(num_steps / steps_per_epoch)
    every = epochs_between_evaluations(len(validation_indices), len(train_indices), num_epochs)
    evaluate_on = partial(_evaluate, model_to_call, data, device=device, precision=job.precision)

    checkpoint = Checkpoint(job.checkpoint, _made_by(environment))
    saved, why_not = checkpoint.read()
    if why_not:
        say(f"{why_not}; run {job.run.run_id} starts from the beginning")
    history = _History(started) if saved is None else _History.after(saved["history"])
    checkpoint.more = lambda: {"history": history.state(device.peak_memory_bytes())}
    if saved is not None:
        step = saved["training"]["step"]
        on_report(Report(step / num_steps, f"goes on after step {step} of {num_steps}"))

    def after_epoch(epoch: int) -> None:
        if (epoch + 1) % every == 0 or epoch + 1 == num_epochs:
            evaluation = evaluate_on(data.train, validation_indices)
            history.validation[epoch] = evaluation.loss, evaluation.top1

    result = train(
        model_to_call,
        config.train,
        seed=config.seed,
        steps_per_epoch=steps_per_epoch,
        batches=partial(_augmented_batches, config, data, train_indices, device),
        after_epoch=after_epoch,
        autocast=partial(device.autocast, job.precision),
        synchronize=device.synchronize,
        watch=nullcontext if compiled else device.watch_memory,
        on_progress=lambda progress: on_report(_report(progress, num_epochs)),
        checkpoint=checkpoint,
        resume=saved and saved.pop("training"),
    )
    if num_steps == 0:  # epoch −1 is before the first
        after_epoch(-1)
    peak_memory = history.peak_memory(device.peak_memory_bytes()) if num_steps else None
    metrics, correct, weights, infer_seconds = {}, "", "", None
    outcome, reason = (Outcome.DIVERGED, result.diverged) if result.diverged else (Outcome.COMPLETED, "")
    if outcome is Outcome.COMPLETED:
        # On CPU, the validation just before has run all that eager operators need.
        warm_up = compiled or device.torch_device.type != "cpu"
        test, infer_seconds = _timed_test(evaluate_on, data, warm_up=warm_up)
        val_loss, val_top1 = history.validation[num_epochs - 1]
        metrics = {"test_top1": test.top1, "test_loss": test.loss, "val_top1": val_top1, "val_loss": val_loss}
        correct, weights = pack_correct(test.correct), weights_sha256(model)
        if not all(math.isfinite(value) for value in metrics.values()):
            outcome, reason, metrics = Outcome.DIVERGED, "the loss after the last epoch is not finite", {}
            correct, weights = "", ""
    if outcome is Outcome.COMPLETED and job.weights is not None:
        try:
            save_trained(job.weights, model, config, mean=data.mean, std=data.std, class_names=data.class_names)
        except ValueError as error:  # what was measured is not lost for it
            say(f"run {job.run.run_id} is recorded, but its {error}")
    counts = count(config.model)
    return job.record(
        started=history.started,
        outcome=outcome,
        reason=reason,
        metrics=metrics,
        curve=_curve(result.train_losses, history.validation, num_steps / steps_per_epoch),
        correct=correct,
        weights_sha256=weights,
        cost=Cost(
            params=counts.params,
            macs=counts.macs,
            train_seconds=result.seconds,
            train_images_per_second=result.images_per_second if num_steps else None,
            infer_images_per_second=len(data.test.labels) / infer_seconds if infer_seconds else None,
            peak_memory_bytes=peak_memory,
            resumed=history.resumed,
        ),
        environment=environment,
    )


def _made_by(environment: Environment) -> dict[str, str]:
    """What decides the bits of a run besides its configuration, of the native operators the compiled library."""
    names = (
        "machine",
        "device",
        "precision",
        "compiled",
        "threads",
        "torch",
        "timm",
        "numpy",
        "vitbench",
        "data_sha256",
    )
    kernels = environment.kernels.partition(":")[0]
    library, _ = native.state()
    if kernels == "native" and library is not None:
        kernels += f" {Path(library._name).stem}"
    return {**{name: str(getattr(environment, name)) for name in names}, "kernels": kernels}


@dataclass
class _History:
    """What a run keeps besides its training when it is interrupted."""

    started: str
    resumed: int = 0
    """How often it went on from a checkpoint."""
    peak: int | None = None
    """Of the parts before this one, in bytes."""
    validation: dict[int, tuple[float, float]] = field(default_factory=dict)
    """Epoch, from 0 → (loss, top-1)."""

    @classmethod
    def after(cls, state: dict[str, Any]) -> _History:
        return cls(state["started"], state["resumed"] + 1, state["peak"], dict(state["validation"]))

    def state(self, peak: int | None) -> dict[str, Any]:
        return {
            "started": self.started,
            "resumed": self.resumed,
            "peak": self.peak_memory(peak),
            "validation": dict(self.validation),
        }

    def peak_memory(self, of_this_part: int | None) -> int | None:
        return max((peak for peak in (self.peak, of_this_part) if peak is not None), default=None)


def _eager_because(job: Job, device: Device) -> str:
    """Why `compile="auto"` is not even tried; else empty."""
    if job.run.config.train.compile != "auto" or device.torch_device.type != "cpu":
        return ""
    uses = native.describe_use("cpu", precision=job.precision, compiled=False, width=block_width(job.run.config.model))
    reason = "native operators are faster" if uses.partition(":")[0] == "native" else job.run.eager_on_cpu_because()
    return reason and f"runs eagerly: {reason}"


def initial_model(job: Job) -> ViT | TimmModel:
    """The model before its first step: from the seed, or from other weights.

    Raises ValueError where these are not the weights that the run's configuration names.
    """
    config = job.run.config
    if config.pretraining is not None:
        return _pretrained_model(job, config.pretraining)
    if config.init is None:
        return build_model(config.model, seed=config.seed)
    assert job.init is not None, config.init
    model = config.model
    if not isinstance(model, ViTConfig):
        return started_from(job.init, config)
    hints = convert.Hints(image_size=model.image_size, activation=model.activation, position=model.position)
    source = convert.load_named(job.init, in_channels=model.in_channels, hints=hints)
    found = convert.weights_identity(job.init, source)
    if found != config.init:
        raise ValueError(f"init {config.init} was planned, but {job.init} is {found}")
    return inherit(source, model, seed=config.seed, keep_head=config.keep_head)


def _pretrained_model(job: Job, pretraining: RunConfig) -> ViT:
    config = job.run.config
    assert job.init is not None, pretraining.run_id
    trained = load_trained(job.init)
    if trained.config != pretraining:
        raise ValueError(
            f"pretraining {pretraining.run_id} was planned, but {job.init} is of {trained.config.run_id}; delete it, and the "
            "next call trains it again"
        )
    assert isinstance(trained.model, ViT) and isinstance(config.model, ViTConfig), pretraining.model
    return inherit(trained.model, config.model, seed=config.seed, keep_head=config.keep_head)


def load_once(dataset: str, root: Path | None, image_size: tuple[int, int]) -> ImageData:
    """The data set, kept open for the next run of this process, unless its files change."""
    return _load_once(dataset, root, image_size, fingerprint(dataset, root=root))


@lru_cache(maxsize=4)
def _load_once(dataset: str, root: Path | None, image_size: tuple[int, int], _files: str) -> ImageData:
    return load(dataset, root=root, image_size=image_size)


def check_fit(config: RunConfig, data: ImageData) -> None:
    """Raises ValueError where the model was not made for these images and labels."""
    model, info = config.model, data.info
    if model.in_channels != info.in_channels:
        raise ValueError(
            f"in_channels {model.in_channels} does not fit {info.dataset}, whose images have {info.in_channels}; "
            f"use in_channels={info.in_channels}"
        )
    if model.num_classes != info.num_classes:
        raise ValueError(
            f"num_classes {model.num_classes} does not fit {info.dataset}, whose labels are 0 to {info.num_classes - 1}; "
            f"use num_classes={info.num_classes}"
        )


def _batches(
    config: RunConfig, data: ImageData, indices: NDArray[np.int64], device: Device, epoch: int, first: int, last: int
) -> Iterator[tuple[Tensor, Tensor]]:
    return train_batches(
        data.train,
        indices,
        batch_size=config.train.batch_size,
        seed=config.seed,
        epoch=epoch,
        device=device.torch_device,
        first_batch=first,
        last_batch=last,
    )


def _augmented_batches(
    config: RunConfig, data: ImageData, indices: NDArray[np.int64], device: Device, epoch: int, first: int, last: int
) -> Iterator[tuple[Tensor, Tensor]]:
    augment = Augment(
        config.data,
        num_classes=config.model.num_classes,
        label_smoothing=config.train.label_smoothing,
        mean=data.mean,
        std=data.std,
    )
    first_step = epoch * (len(indices) // config.train.batch_size) + first
    batches = _batches(config, data, indices, device, epoch, first, last)
    for step, (images, labels) in enumerate(batches, start=first_step):
        yield augment(images, labels, seed=config.seed, step=step)


def _evaluate(
    model: torch.nn.Module,
    data: ImageData,
    images: Images | StreamedImages,
    indices: NDArray[np.int64],
    *,
    device: Device,
    precision: str,
) -> Evaluation:
    batches = images.batches(indices, EVALUATION_BATCH, device.torch_device)
    return evaluate(
        model,
        ((normalise(pixels, data.mean, data.std), labels) for pixels, labels in batches),
        autocast=partial(device.autocast, precision),
        synchronize=device.synchronize,
    )


def _timed_test(
    evaluate_on: Callable[[Images | StreamedImages, NDArray[np.int64]], Evaluation], data: ImageData, *, warm_up: bool
) -> tuple[Evaluation, float]:
    """(the evaluation on all test images, median seconds of as many passes as fit `INFERENCE_SECONDS`)."""
    everything = np.arange(len(data.test.labels))
    if warm_up:  # with both shapes that batches have, the full and the ragged: each may be compiled anew
        evaluate_on(data.test, everything[: EVALUATION_BATCH + len(everything) % EVALUATION_BATCH])
    first = evaluate_on(data.test, everything)
    seconds = [first.seconds]
    while sum(seconds) < INFERENCE_SECONDS:
        seconds.append(evaluate_on(data.test, everything).seconds)
    return first, median(seconds)


def epochs_between_evaluations(num_validation: int, num_train: int, num_epochs: int) -> int:
    """1, or as many as keep validation below a hundredth of training; evaluating an image costs a third of training on it.

    At most half of the epochs, so that a curve has two points at least, where there are two epochs.
    """
    cheap = math.ceil(num_validation / (3 * EVALUATION_SHARE * num_train))
    return max(1, min(cheap, math.ceil(num_epochs / 2)))


def _curve(train_losses: list[float], validation: dict[int, tuple[float, float]], epochs: float) -> list[EpochPoint]:
    """`epochs` is what the run was to train, of which the last may be a part."""
    points = []
    for epoch, loss in enumerate(train_losses, start=1):
        val_loss, val_top1 = validation.get(epoch - 1, (math.nan, None))
        points.append(
            EpochPoint(
                epoch=epoch,
                train_loss=_finite(loss),
                val_loss=_finite(val_loss),
                val_top1=val_top1,
                fraction=min(1.0, epochs - (epoch - 1)),
            )
        )
    return points


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _report(progress: Progress, num_epochs: int) -> Report:
    return Report(
        progress.step / progress.num_steps,
        f"epoch {progress.epoch + 1}/{num_epochs}  loss {progress.loss:.3f}  {progress.images_per_second:,.0f} images/s",
    )
