"""How one run becomes one record: data, model, training, evaluation and cost, put together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import lru_cache, partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitbench.config import RunConfig
from vitbench.data import Augment, ImageData, Images, StreamedImages, load, normalise, split, train_batches
from vitbench.evaluation import Evaluation, evaluate
from vitbench.execution.job import Job, Report, utc_now
from vitbench.kernels import native
from vitbench.models import ViT, build_model, convert
from vitbench.models.inherit import inherit
from vitbench.profiling.device import Device, is_out_of_memory, open_device
from vitbench.profiling.macs import count
from vitbench.records import Cost, EpochPoint, Outcome, Record, describe_environment, pack_correct
from vitbench.training import Progress, train

EVALUATION_BATCH = 256
EVALUATION_SHARE = 0.05
INFERENCE_SECONDS = 0.05
"""The test split is evaluated again until this is spent, so that small sets give a throughput worth the name."""


def execute(job: Job, on_report: Callable[[Report], None] = lambda _: None) -> Record:
    """Runs `job` in this process. Whatever goes wrong within the run is a record with outcome `failed` and a reason."""
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
    example, _ = next(
        iter(data.train.batches(train_indices[: config.train.batch_size], config.train.batch_size, device.torch_device))
    )
    device.start_memory()
    model = device.place(initial_model(job))
    eager_because = _eager_because(job, device)
    model_to_call, compiled, compile_note = device.compile(
        model, "off" if eager_because else config.train.compile, example=normalise(example, data.mean, data.std)
    )
    compile_note = eager_because or compile_note
    autocast = partial(device.autocast, job.precision)
    evaluate_on = partial(_evaluate, model_to_call, data, device=device, precision=job.precision)
    evaluations: dict[int, Evaluation] = {}
    every = epochs_between_evaluations(len(validation_indices), len(train_indices))

    def after_epoch(epoch: int) -> None:
        if (epoch + 1) % every == 0 or epoch + 1 == config.train.epochs:
            evaluations[epoch] = evaluate_on(data.train, validation_indices)

    result = train(
        model_to_call,
        config.train,
        seed=config.seed,
        steps_per_epoch=len(train_indices) // config.train.batch_size,
        batches=partial(_augmented_batches, config, data, train_indices, device),
        after_epoch=after_epoch,
        autocast=autocast,
        synchronize=device.synchronize,
        watch=nullcontext if compiled else device.watch_memory,
        on_progress=lambda progress: on_report(_report(progress, config.train.epochs)),
    )
    peak_memory = device.peak_memory_bytes()
    points = _curve(result.train_losses, evaluations)
    metrics, correct, infer_seconds = {}, "", None
    outcome, reason = (Outcome.DIVERGED, result.diverged) if result.diverged else (Outcome.COMPLETED, "")
    if outcome is Outcome.COMPLETED:
        test, infer_seconds = _timed_test(evaluate_on, data)
        validation = evaluations[config.train.epochs - 1]
        metrics = {
            "test_top1": test.top1,
            "test_loss": test.loss,
            "val_top1": validation.top1,
            "val_loss": validation.loss,
        }
        correct = pack_correct(test.correct)
        if not all(math.isfinite(value) for value in metrics.values()):
            outcome, reason, metrics, correct = Outcome.DIVERGED, "the loss after the last epoch is not finite", {}, ""
    counts = count(config.model)
    return job.record(
        started=started,
        outcome=outcome,
        reason=reason,
        metrics=metrics,
        curve=points,
        correct=correct,
        cost=Cost(
            params=counts.params,
            macs=counts.macs,
            train_seconds=result.seconds,
            train_images_per_second=result.images_per_second,
            infer_images_per_second=len(data.test.labels) / infer_seconds if infer_seconds else None,
            peak_memory_bytes=peak_memory,
        ),
        environment=describe_environment(
            device.name,
            precision=job.precision,
            threads=job.threads,
            workers=job.workers,
            compiled=compiled,
            compile_note=compile_note,
            data_sha256=data.sha256,
            kernels=native.describe_use(
                device.torch_device.type, precision=job.precision, compiled=compiled, width=config.model.width
            ),
        ),
    )


def _eager_because(job: Job, device: Device) -> str:
    """Why `compile="auto"` is not even tried; else empty."""
    if job.run.config.train.compile != "auto" or device.torch_device.type != "cpu":
        return ""
    uses = native.describe_use("cpu", precision=job.precision, compiled=False, width=job.run.config.model.width)
    reason = "native operators are faster" if uses == "native" else job.run.eager_on_cpu_because()
    return reason and f"runs eagerly: {reason}"


def initial_model(job: Job) -> ViT:
    """The model before its first step: from the seed, or from other weights.

    Raises ValueError where these are not the weights that the run's configuration names.
    """
    config = job.run.config
    if config.init is None:
        return build_model(config.model, seed=config.seed)
    assert job.init is not None, config.init
    model = config.model
    hints = convert.Hints(image_size=model.image_size, activation=model.activation, position=model.position)
    source = convert.load_named(job.init, in_channels=model.in_channels, hints=hints)
    found = convert.weights_identity(job.init, source)
    if found != config.init:
        raise ValueError(f"init {config.init} was planned, but {job.init} is {found}")
    return inherit(source, model, seed=config.seed)


@lru_cache(maxsize=4)
def load_once(dataset: str, root: Path | None, image_size: tuple[int, int]) -> ImageData:
    """The data set, kept open for the next run of this process."""
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


def _augmented_batches(
    config: RunConfig, data: ImageData, indices: NDArray[np.int64], device: Device, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    augment = Augment(
        config.data,
        num_classes=config.model.num_classes,
        label_smoothing=config.train.label_smoothing,
        mean=data.mean,
        std=data.std,
    )
    first_step = epoch * (len(indices) // config.train.batch_size)
    batches = train_batches(
        data.train,
        indices,
        batch_size=config.train.batch_size,
        seed=config.seed,
        epoch=epoch,
        device=device.torch_device,
    )
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
    evaluate_on: Callable[[Images | StreamedImages, NDArray[np.int64]], Evaluation], data: ImageData
) -> tuple[Evaluation, float]:
    """(the evaluation on all test images, median seconds of as many passes as fit `INFERENCE_SECONDS`)."""
    everything = np.arange(len(data.test.labels))
    # Warm-up with both shapes that batches have, the full and the ragged: each may be compiled, or copied, anew.
    evaluate_on(data.test, everything[: EVALUATION_BATCH + len(everything) % EVALUATION_BATCH])
    first = evaluate_on(data.test, everything)
    seconds = [first.seconds]
    while sum(seconds) < INFERENCE_SECONDS:
        seconds.append(evaluate_on(data.test, everything).seconds)
    return first, median(seconds)


def epochs_between_evaluations(num_validation: int, num_train: int) -> int:
    """1, or as many as keep validation below about a twentieth of training; evaluating costs a third of a step.

    A large validation split beside a small subset of the training images would otherwise cost more than training.
    """
    return max(1, math.ceil(num_validation / (3 * EVALUATION_SHARE * num_train)))


def _curve(train_losses: list[float], evaluations: dict[int, Evaluation]) -> list[EpochPoint]:
    points = []
    for epoch, loss in enumerate(train_losses, start=1):
        evaluation = evaluations.get(epoch - 1)
        points.append(
            EpochPoint(
                epoch=epoch,
                train_loss=_finite(loss),
                val_loss=_finite(evaluation.loss) if evaluation else None,
                val_top1=evaluation.top1 if evaluation else None,
            )
        )
    return points


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _report(progress: Progress, epochs: int) -> Report:
    return Report(
        progress.step / progress.num_steps,
        f"epoch {progress.epoch + 1}/{epochs}  loss {progress.loss:.3f}  {progress.images_per_second:,.0f} images/s",
    )
