"""How one run becomes one record: data, model, training, evaluation and cost, put together."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vitbench.config import ViTConfig, block_width
from vitbench.costs.macs import count, uncounted_operators
from vitbench.data import Images, StreamedImages
from vitbench.device import Device, is_out_of_memory, open_device
from vitbench.evaluation import Evaluation
from vitbench.execution.distorted import distorted_metrics
from vitbench.execution.history import History, open_checkpoint
from vitbench.execution.initial_model import initial_model
from vitbench.execution.job import Job, Report
from vitbench.execution.micro_batch import micro_batch_of, out_of_memory_reason
from vitbench.execution.run_data import EVALUATION_BATCH, RunData
from vitbench.execution.study_code import CodeError, load_code, self_initialised
from vitbench.inspection.lost_numbers import code_that_loses_numbers
from vitbench.kernels import choice, install, native
from vitbench.kernels.attention_choice import choose_attention, with_attention
from vitbench.machine import utc_now
from vitbench.models import TimmModel, UserModel, ViT
from vitbench.models.parts import PartError
from vitbench.models.weights import save_trained, weights_sha256
from vitbench.process_state import taken_back
from vitbench.ranks import ALONE, LOST, Ranks, is_loss_of_a_rank
from vitbench.records import Cost, Environment, EpochPoint, Outcome, Record, describe_environment, pack_correct
from vitbench.signals import Ended
from vitbench.text import say
from vitbench.training import Checkpoint, Progress, TrainResult, freeze, train
from vitbench.training.checkpoint import State
from vitbench.training.whole_batch_norm import share_statistics

EVALUATION_SHARE = 0.01
INFERENCE_SECONDS = 0.05
"""The test split is evaluated again until this is spent, so that small sets give a throughput worth the name."""


def execute(job: Job, on_report: Callable[[Report], None] = lambda _: None, ranks: Ranks = ALONE) -> Record:
    """Runs `job` in this process, or this rank's part of it: each of `ranks` gets the record.

    Whatever goes wrong within the run is a record with outcome `failed` and a reason.

    Where the job has a checkpoint, the run resumes from it; the checkpoint stays until the record is kept.
    """
    started = utc_now()
    try:
        with taken_back():  # what a user's code sets for the whole process must not reach the runs of other arms
            return _execute(job, started, on_report, ranks)
    except Ended:
        raise
    except (Exception, SystemExit) as error:  # the one place where a run's errors, a user's code's too, become a record
        says_all = isinstance(error, CodeError | PartError)
        reason = " ".join((str(error) if says_all else f"{type(error).__name__}: {error}").split())
        if is_out_of_memory(error):
            reason = out_of_memory_reason(job)
        elif is_loss_of_a_rank(error):
            reason = f"{LOST} ({reason})"
    return job.failed(reason, started=started)


def _execute(job: Job, started: str, on_report: Callable[[Report], None], ranks: Ranks) -> Record:
    torch.set_num_threads(job.threads)
    load_code(job.run.config, job.study_file, variant=job.run.variant)
    device = open_device(job.device)
    native.state()  # compiled here, where there is a compiler, and not within the first step
    _settle_operators(job, device)
    setup = _set_up(job, device, ranks)
    checkpoint, history, saved = open_checkpoint(job, device, setup.environment, ranks, started)
    if saved is not None:
        step, num_steps = saved["training"]["step"], setup.data.num_steps
        on_report(Report(step / num_steps, f"goes on after step {step} of {num_steps}"))
    result = _train(setup, history, checkpoint, saved, on_report)
    peak_memory = _peak_memory(setup, history) if setup.data.num_steps else None
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
    if tested.outcome is Outcome.COMPLETED and job.weights is not None and ranks.is_first:
        images, config = setup.data.images, job.run.config
        mean, std, class_names = images.mean, images.std, images.class_names
        try:
            save_trained(job.weights, setup.model, config, mean=mean, std=std, class_names=class_names)
        except ValueError as error:  # what was measured is not lost for it
            say(f"run {job.run.run_id} is recorded, but its {error}")
    return _record(setup, history, result, tested, peak_memory)


def _settle_operators(job: Job, device: Device) -> None:
    """Takes the operators that the command has settled for this machine, so that a study is not computed by two."""
    machine, width = (
        describe_environment(device.name, precision="", threads=1).machine,
        block_width(job.run.config.model),
    )
    if width is not None and machine in job.operators:
        choice.settle(width, *job.operators[machine])


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

    @property
    def ranks(self) -> Ranks:
        return self.data.ranks

    def evaluate(self, images: Images | StreamedImages, indices: NDArray[np.int64]) -> Evaluation:
        return self.data.evaluate(self.model_to_call, images, indices, precision=self.job.precision)


def _set_up(job: Job, device: Device, ranks: Ranks) -> _Setup:
    config = job.run.config
    data = RunData.open(config, job.dataset, job.data_root, device, ranks)
    micro_batch = ranks.of_first(micro_batch_of(job, device) if ranks.is_first else None)
    example = data.example(micro_batch or config.train.batch_size)
    device.start_memory()
    model = device.place(install(initial_model(job)))
    freeze(model, config.train)
    share_statistics(model, ranks)
    choose_attention(model, device, precision=job.precision, batch_size=len(example))
    eager_because = _eager_because(job, device)
    model_to_call, compiled, compile_note = device.compile(
        model, "off" if eager_because else config.train.compile, example=example
    )
    operators = choice.recorded_use(
        device.torch_device.type, precision=job.precision, compiled=compiled, width=block_width(config.model)
    )
    operators["kernels"] = with_attention(operators["kernels"], model)
    environment = describe_environment(
        device.name,
        precision=job.precision,
        threads=job.threads,
        workers=job.workers,
        devices=ranks.size,
        compiled=compiled,
        compile_note=eager_because or compile_note,
        data_sha256=data.images.sha256,
        largest_class=float(np.bincount(data.images.test.labels).max() / len(data.images.test.labels)),
        **operators,
        micro_batch=micro_batch,
    )
    return _Setup(job, device, data, model, model_to_call, environment)


def _eager_because(job: Job, device: Device) -> str:
    """Why a run with `compile="auto"` is not compiled; empty where compiling is tried."""
    if job.run.config.train.compile != "auto" or device.torch_device.type != "cpu":
        return ""
    uses = choice.describe_use("cpu", precision=job.precision, compiled=False, width=block_width(job.run.config.model))
    if uses == choice.TORCH_IS_FASTER:
        reason = "operators are chosen by their speed without compilation"
    elif uses.partition(":")[0] == "native":
        reason = "native operators are faster"
    else:
        reason = job.run.eager_on_cpu_because()
    return reason and f"runs eagerly: {reason}"


def _peak_memory(setup: _Setup, history: History) -> int | None:
    """In bytes, of the device that needed most. Collective."""
    peaks = setup.ranks.gather(history.peak_memory(setup.device.peak_memory_bytes()))
    return max((peak for peak in peaks if peak is not None), default=None)


def _train(
    setup: _Setup, history: History, checkpoint: Checkpoint, saved: State | None, on_report: Callable[[Report], None]
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
        micro_batch=setup.environment.micro_batch,
        checkpoint=checkpoint,
        resume=saved and saved.pop("training"),
        ranks=setup.ranks,
        leaves_out=not isinstance(config.model, ViTConfig) or bool(config.user_code),
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


def _test(setup: _Setup, result: TrainResult, history: History) -> _Tested:
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


def _record(setup: _Setup, history: History, result: TrainResult, tested: _Tested, peak_memory: int | None) -> Record:
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
        environment=setup.environment.model_copy(update={"earlier_parts": history.earlier_parts(setup.environment)}),
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
