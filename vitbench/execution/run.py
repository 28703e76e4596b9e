"""How one run becomes one record: data, model, training, evaluation and cost, put together."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vitbench.config import block_width
from vitbench.costs.macs import count, uncounted_operators
from vitbench.data import Images, StreamedImages
from vitbench.device import Device, is_out_of_memory, open_device
from vitbench.evaluation import Evaluation
from vitbench.execution.distorted import distorted_metrics
from vitbench.execution.initial_model import initial_model
from vitbench.execution.job import Job, Report
from vitbench.execution.run_data import EVALUATION_BATCH, RunData
from vitbench.execution.study_code import CodeError, load_code, self_initialised
from vitbench.inspection.lost_numbers import code_that_loses_numbers
from vitbench.kernels import install, native
from vitbench.machine import utc_now
from vitbench.models import TimmModel, UserModel, ViT
from vitbench.models.parts import PartError
from vitbench.models.weights import save_trained, weights_sha256
from vitbench.process_state import taken_back
from vitbench.records import Cost, Environment, EpochPoint, Outcome, Record, describe_environment, pack_correct
from vitbench.signals import Ended
from vitbench.text import say
from vitbench.training import Checkpoint, Progress, TrainResult, freeze, train
from vitbench.training.checkpoint import State

EVALUATION_SHARE = 0.01
INFERENCE_SECONDS = 0.05
"""The test split is evaluated again until this is spent, so that small sets give a throughput worth the name."""
MADE_BY = ("machine", "device", "precision", "compiled", "threads", "torch", "timm", "numpy", "vitbench", "data_sha256")
"""What of an environment decides the bits of a run, besides native operators."""


def execute(job: Job, on_report: Callable[[Report], None] = lambda _: None) -> Record:
    """Runs `job` in this process. Whatever goes wrong within the run is a record with outcome `failed` and a reason.

    Where the job has a checkpoint, the run resumes from it; the checkpoint stays until the record is kept.
    """
    started = utc_now()
    try:
        with taken_back():  # what a user's code sets for the whole process must not reach the runs of other arms
            return _execute(job, started, on_report)
    except Ended:
        raise
    except (Exception, SystemExit) as error:  # the one place where a run's errors, a user's code's too, become a record
        says_all = isinstance(error, CodeError | PartError)
        reason = " ".join((str(error) if says_all else f"{type(error).__name__}: {error}").split())
        if is_out_of_memory(error):
            reason = f"out of memory at batch {job.run.config.train.batch_size}"
    return job.failed(reason, started=started)


def _execute(job: Job, started: str, on_report: Callable[[Report], None]) -> Record:
    torch.set_num_threads(job.threads)
    load_code(job.run.config, job.study_file, variant=job.run.variant)
    device = open_device(job.device)
    native.state()  # compiled here, where there is a compiler, and not within the first step
    setup = _set_up(job, device)
    checkpoint, history, saved = _open_checkpoint(setup, started)
    if saved is not None:
        step, num_steps = saved["training"]["step"], setup.data.num_steps
        on_report(Report(step / num_steps, f"goes on after step {step} of {num_steps}"))
    result = _train(setup, history, checkpoint, saved, on_report)
    peak_memory = history.peak_memory(device.peak_memory_bytes()) if setup.data.num_steps else None
    tested = _test(setup, result, history)
    if tested.outcome is Outcome.COMPLETED:
        tested.metrics.update(
            distorted_metrics(
                setup.data,
                setup.model_to_call,
                precision=job.precision,
                tell=lambda text: on_report(Report(1.0, text)),
            )
        )
    if tested.outcome is Outcome.COMPLETED and job.weights is not None:
        images, config = setup.data.images, job.run.config
        mean, std, class_names = images.mean, images.std, images.class_names
        try:
            save_trained(job.weights, setup.model, config, mean=mean, std=std, class_names=class_names)
        except ValueError as error:  # what was measured is not lost for it
            say(f"run {job.run.run_id} is recorded, but its {error}")
    return _record(setup, history, result, tested, peak_memory)


@dataclass(frozen=True)
class _Setup:
    """A run before its first step: its data, and its model on the device."""

    job: Job
    device: Device
    data: RunData
    model: ViT | TimmModel | UserModel
    model_to_call: nn.Module
    """The model, or what it was compiled to."""
    environment: Environment

    def evaluate(self, images: Images | StreamedImages, indices: NDArray[np.int64]) -> Evaluation:
        return self.data.evaluate(self.model_to_call, images, indices, precision=self.job.precision)


def _set_up(job: Job, device: Device) -> _Setup:
    config = job.run.config
    data = RunData.open(config, job.dataset, job.data_root, device)
    # What a device keeps of the data is not the model's memory, and copying it there not the model's time.
    example, _ = next(data.batches(0, 0, 1))
    device.start_memory()
    model = device.place(install(initial_model(job)))
    freeze(model, config.train)
    eager_because = _eager_because(job, device)
    model_to_call, compiled, compile_note = device.compile(
        model, "off" if eager_because else config.train.compile, example=data.normalised(example)
    )
    environment = describe_environment(
        device.name,
        precision=job.precision,
        threads=job.threads,
        workers=job.workers,
        compiled=compiled,
        compile_note=eager_because or compile_note,
        data_sha256=data.images.sha256,
        largest_class=float(np.bincount(data.images.test.labels).max() / len(data.images.test.labels)),
        kernels=native.describe_use(
            device.torch_device.type, precision=job.precision, compiled=compiled, width=block_width(config.model)
        ),
    )
    return _Setup(job, device, data, model, model_to_call, environment)


def _eager_because(job: Job, device: Device) -> str:
    """Why a run with `compile="auto"` is not compiled; empty where compiling is tried."""
    if job.run.config.train.compile != "auto" or device.torch_device.type != "cpu":
        return ""
    uses = native.describe_use("cpu", precision=job.precision, compiled=False, width=block_width(job.run.config.model))
    reason = "native operators are faster" if uses.partition(":")[0] == "native" else job.run.eager_on_cpu_because()
    return reason and f"runs eagerly: {reason}"


@dataclass
class _History:
    """What a checkpoint keeps of a run besides its training."""

    started: str
    resumed: int = 0
    """How often the run resumed from a checkpoint."""
    peak: int | None = None
    """Peak memory in bytes before the run was interrupted."""
    validation: dict[int, tuple[float, float]] = field(default_factory=dict)
    """Epoch, from 0 → (loss, top-1)."""

    def peak_memory(self, since_resumed: int | None) -> int | None:
        """In bytes, of the whole run."""
        return max((peak for peak in (self.peak, since_resumed) if peak is not None), default=None)


def _open_checkpoint(setup: _Setup, started: str) -> tuple[Checkpoint, _History, State | None]:
    """(the run's checkpoint, its history, and the checkpoint's content where the run resumes from it)."""
    job, device = setup.job, setup.device
    checkpoint = Checkpoint(job.checkpoint, _made_by(setup.environment))
    saved, why_not = checkpoint.read()
    if why_not:
        say(f"{why_not}; run {job.run.run_id} starts from the beginning")
    history = _History(started)
    if saved is not None:
        history = _History(**saved["history"])
        history.resumed += 1
    checkpoint.more = lambda: {"history": {**asdict(history), "peak": history.peak_memory(device.peak_memory_bytes())}}
    return checkpoint, history, saved


def _made_by(environment: Environment) -> dict[str, str]:
    """What decides the bits of a run besides its configuration; native operators are named by their compiled library."""
    kernels = environment.kernels.partition(":")[0]
    library, _ = native.state()
    if kernels == "native" and library is not None:
        kernels += f" {Path(library._name).stem}"
    return {**{name: str(getattr(environment, name)) for name in MADE_BY}, "kernels": kernels}


def _train(
    setup: _Setup, history: _History, checkpoint: Checkpoint, saved: State | None, on_report: Callable[[Report], None]
) -> TrainResult:
    data, device, config = setup.data, setup.device, setup.job.run.config
    num_epochs = data.num_epochs
    every = epochs_between_evaluations(len(data.validation_indices), len(data.train_indices), num_epochs)

    def after_epoch(epoch: int) -> None:
        if (epoch + 1) % every == 0 or epoch + 1 == num_epochs:
            evaluation = setup.evaluate(data.evaluated.train, data.validation_indices)
            history.validation[epoch] = evaluation.loss, evaluation.top1

    def report(progress: Progress) -> None:
        rate = f"{progress.images_per_second:,.0f} images/s"
        text = f"epoch {progress.epoch + 1}/{num_epochs}  loss {progress.loss:.3f}  {rate}"
        on_report(Report(progress.step / progress.num_steps, text))

    result = train(
        setup.model_to_call,
        config.train,
        seed=config.seed,
        steps_per_epoch=data.steps_per_epoch,
        batches=data.augmented_batches,
        after_epoch=after_epoch,
        autocast=partial(device.autocast, setup.job.precision),
        synchronize=device.synchronize,
        watch=nullcontext if setup.environment.compiled else device.watch_memory,
        on_progress=report,
        checkpoint=checkpoint,
        resume=saved and saved.pop("training"),
    )
    if data.num_steps == 0:  # epoch −1 is before the first
        after_epoch(-1)
    return result


def epochs_between_evaluations(num_validation: int, num_train: int, num_epochs: int) -> int:
    """1, or as many as keep validation below a hundredth of training; evaluating an image costs a third of training on it.

    At most half of the epochs, so that a curve has two points at least, where there are two epochs.
    """
    cheap = math.ceil(num_validation / (3 * EVALUATION_SHARE * num_train))
    return max(1, min(cheap, math.ceil(num_epochs / 2)))


@dataclass(frozen=True)
class _Tested:
    """How a run ended, and what its final model does on test where it is completed."""

    outcome: Outcome
    reason: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    correct: str = ""
    weights_sha256: str = ""
    seconds: float | None = None
    """Of one pass over the test split."""


def _test(setup: _Setup, result: TrainResult, history: _History) -> _Tested:
    if result.diverged:
        return _Tested(Outcome.DIVERGED, result.diverged + _code_to_blame(setup))
    test, seconds = _timed_test(setup)
    val_loss, val_top1 = history.validation[setup.data.num_epochs - 1]
    metrics = {f"test_{name}": value for name, value in test.metrics.items()}
    metrics |= {"val_top1": val_top1, "val_loss": val_loss}
    if not all(math.isfinite(value) for value in metrics.values()):
        return _Tested(Outcome.DIVERGED, "the loss after the last epoch is not finite", seconds=seconds)
    correct = pack_correct(test.correct)
    return _Tested(Outcome.COMPLETED, "", metrics, correct, weights_sha256(setup.model), seconds)


def _timed_test(setup: _Setup) -> tuple[Evaluation, float]:
    """(the evaluation on all test images, median seconds of as many passes as fit `INFERENCE_SECONDS`)."""
    test = setup.data.evaluated.test
    indices = np.arange(len(test.labels))
    # On CPU, the validation just before has run all that eager operators need.
    if setup.environment.compiled or setup.device.torch_device.type != "cpu":
        # With both shapes that batches have, the full and the ragged: each may be compiled anew.
        setup.evaluate(test, indices[: EVALUATION_BATCH + len(indices) % EVALUATION_BATCH])
    first = setup.evaluate(test, indices)
    seconds = [first.seconds]
    while sum(seconds) < INFERENCE_SECONDS:
        seconds.append(setup.evaluate(test, indices).seconds)
    return first, median(seconds)


def _code_to_blame(setup: _Setup) -> str:
    """`; position CPE@1a2b3c4d … puts out values that are not finite`, where a user's code does, at first or at last."""
    if not setup.job.run.config.user_code:
        return ""
    example, _ = next(setup.data.batches(0, 0, 1))
    for when, model in (("before training", setup.device.place(initial_model(setup.job))), ("by then", setup.model)):
        autocast = partial(setup.device.autocast, setup.job.precision)
        if code := code_that_loses_numbers(model, setup.data.normalised(example), autocast=autocast):
            return f"; {code} puts out values that are not finite, {when}"
    return ""


def _record(setup: _Setup, history: _History, result: TrainResult, tested: _Tested, peak_memory: int | None) -> Record:
    data, counts = setup.data, count(setup.job.run.config.model)
    return setup.job.record(
        started=history.started,
        outcome=tested.outcome,
        reason=tested.reason,
        metrics=tested.metrics,
        curve=_curve(result.train_losses, history.validation, data.num_steps / data.steps_per_epoch),
        correct=tested.correct,
        weights_sha256=tested.weights_sha256,
        self_initialised=self_initialised(setup.job.run.config),
        cost=Cost(
            params=counts.params,
            macs=counts.macs,
            macs_incomplete=uncounted_operators(setup.job.run.config.model),
            train_seconds=result.seconds,
            train_images_per_second=result.images_per_second if data.num_steps else None,
            infer_images_per_second=len(data.images.test.labels) / tested.seconds if tested.seconds else None,
            peak_memory_bytes=peak_memory,
            resumed=history.resumed,
        ),
        environment=setup.environment,
    )


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
