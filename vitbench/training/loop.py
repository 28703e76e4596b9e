"""How is a model trained? By this loop, the same for every arm of every study."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vitbench.config import TrainConfig
from vitbench.ranks import ALONE, Ranks
from vitbench.training.average import Average
from vitbench.training.checkpoint import Checkpoint, State
from vitbench.training.optimizer import build_optimizer, build_schedule
from vitbench.training.step import seed_dropout, step_seed, training_step

PROGRESS_SECONDS = 0.5
WARMUP_STEPS = 2


@dataclass(frozen=True)
class Progress:
    """Where a run stands. `loss` is the mean since the last report, in nats."""

    step: int
    num_steps: int
    epoch: int
    loss: float
    images_per_second: float


@dataclass(frozen=True)
class TrainResult:
    """`train_losses` are per epoch. `seconds` are of all training steps and their data; evaluation stops the clock.

    `images_per_second` is without the first two steps, in which things are compiled, allocated and watched, unless there are
    no more. Both count all parts of an interrupted run; the rate is without the first two steps of each. `diverged` is the
    reason why training ended early, else empty.
    """

    train_losses: list[float]
    seconds: float
    images_per_second: float
    diverged: str


def train(
    model: nn.Module,
    config: TrainConfig,
    *,
    seed: int,
    steps_per_epoch: int,
    batches: Callable[[int, int, int], Iterable[tuple[Tensor, Tensor]]],
    after_epoch: Callable[[int], None],
    autocast: Callable[[], AbstractContextManager[object]],
    synchronize: Callable[[], None],
    watch: Callable[[], AbstractContextManager[object]] = nullcontext,
    on_progress: Callable[[Progress], None] = lambda _: None,
    micro_batch: int | None = None,
    checkpoint: Checkpoint | None = None,
    resume: State | None = None,
    ranks: Ranks = ALONE,
    leaves_out: bool = False,
) -> TrainResult:
    """Trains `model` in place; with `ema_decay` it ends with the average of its weights.

    `batches(epoch, first, last)` yields the epoch's batches from the first to before the last, of `steps_per_epoch`:
    pairs of images [B, C, H, W] on the model's device and targets, class indices [B] or probabilities [B, K].
    `after_epoch(epoch)` may evaluate the model. Epochs count from 0; the last may end early. `watch` is the context of one
    step, the second: the first in which the optimizer has its state. With a `micro_batch`, gradients are accumulated over
    slices of so many images. Stops early, with a reason, where the loss is no longer finite. With `resume`, which was written
    to a `checkpoint`, the run ends as it would have without the interruption.

    Each of `ranks` calls it with its slices of the batches, and `leaves_out` as of `Ranks.parallel`; all get the losses of the
    whole batches. A checkpoint is rank 0's.
    """
    num_steps = config.num_steps(steps_per_epoch)
    if num_steps == 0:
        return TrainResult([], 0.0, 0.0, "")
    training = _Training(
        model,
        config,
        seed,
        num_steps,
        autocast,
        watch,
        on_progress,
        _Clock(synchronize),
        micro_batch,
        checkpoint or Checkpoint(),
        ranks,
        leaves_out,
    )
    if resume is not None:
        training.restore(resume)
        del resume
    for epoch in range(len(training.losses), math.ceil(num_steps / steps_per_epoch)):
        first_step = epoch * steps_per_epoch
        last = min(steps_per_epoch, num_steps - first_step)
        epoch_batches = batches(epoch, training.step - first_step, last)
        training.run_epoch(epoch, epoch_batches, first_step)
        assert training.step == first_step + last, (training.step, first_step, last)
        loss = training.loss_sum.item() / last
        if not math.isfinite(loss):
            training.losses.append(loss)
            return training.result(diverged=f"training loss is {loss} in epoch {epoch + 1}")
        ranks.equalise(model.buffers())
        before = time.monotonic()
        with training.average.applied() if training.average else nullcontext():
            after_epoch(epoch)
        training.evaluation_seconds = time.monotonic() - before
        training.losses.append(loss)
        training.loss_sum.zero_()
        on_progress(training.progress(epoch, loss))
    assert training.step == num_steps, (training.step, num_steps)
    if training.average:
        training.average.apply()
    return training.result()


@dataclass
class _Training:
    """A run under way: its steps, and all that one step hands to the next.

    The schedule, batches, augmentation and dropout are functions of the step.
    """

    model: nn.Module
    config: TrainConfig
    seed: int
    num_steps: int
    autocast: Callable[[], AbstractContextManager[object]]
    watch: Callable[[], AbstractContextManager[object]]
    on_progress: Callable[[Progress], None]
    clock: _Clock
    micro_batch: int | None
    checkpoint: Checkpoint
    ranks: Ranks
    leaves_out: bool
    step: int = 0
    losses: list[float] = field(default_factory=list)
    """Of the epochs that are over, their evaluation included."""

    def __post_init__(self) -> None:
        self.optimizer = build_optimizer(self.model, self.config)
        self.schedule = build_schedule(self.optimizer, self.config, num_steps=self.num_steps)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.average = None if self.config.ema_decay is None else Average(self.model, self.config.ema_decay)
        self.resumed_at = 0
        self.evaluation_seconds = 0.0
        """Between the last two epochs, in which no state is kept."""
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=next(self.model.parameters()).device)
        """Over the steps of the current epoch."""
        self.share = self.ranks.share(self.config.batch_size)
        self.parallel = self.ranks.parallel(self.model, leaves_out=self.leaves_out)

    def run_epoch(self, epoch: int, batches: Iterable[tuple[Tensor, Tensor]], first_step: int) -> None:
        """Trains on what is left of an epoch that began at `first_step`; keeps the state where it is due or asked for."""
        self.model.train()
        with self.checkpoint.signals if self.checkpoint.path else nullcontext():
            self.clock.start()
            last_report = time.perf_counter()
            for images, targets in batches:
                self.take_step(images, targets)
                if time.perf_counter() - last_report > PROGRESS_SECONDS:
                    last_report = time.perf_counter()
                    self.on_progress(self.progress(epoch, self.loss_sum.item() / (self.step - first_step)))
                self.keep_if_needed()
            self.clock.stop()
            # Before the evaluation, which may be long, and which a resumed run repeats.
            if self.checkpoint.is_due(ahead=self.evaluation_seconds) or self.checkpoint.is_asked_for:
                self.checkpoint.write(self.state())

    def keep_if_needed(self, buffers: Mapping[str, Tensor] | None = None) -> None:
        """Keeps the state within an epoch where a signal asks for it, which then has its effect, or it is overdue.

        `buffers`: those of the model as they were before a step that is under way, and that a resumed run begins again.
        """
        if self.checkpoint.is_asked_for or self.checkpoint.is_overdue():
            self.clock.stop()
            self.checkpoint.write(self.state(buffers))
            self.checkpoint.signals.release()
            self.clock.start()

    def take_step(self, images: Tensor, targets: Tensor) -> None:
        self.schedule.step_update(self.step + 1)
        is_sliced = self.micro_batch is not None and self.micro_batch < len(images)
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()} if is_sliced else {}

        def begin_slice(first: int) -> None:
            if first:
                self.keep_if_needed(buffers)
            # Of later ranks, images count on from those of earlier ones.
            number = first + self.ranks.rank * self.config.batch_size
            seed = step_seed(self.seed, self.step, number) if number else step_seed(self.seed, self.step)
            seed_dropout(seed, images.device)

        with self.watch() if self.step == min(1, self.num_steps - 1) else nullcontext():
            loss = training_step(
                self.parallel,
                self.optimizer,
                images,
                targets,
                self.parameters,
                self.config,
                self.autocast,
                micro_batch=self.micro_batch,
                begin_slice=begin_slice,
                weight=self.share * self.ranks.size,
            )
        if self.average:
            self.average.update(self.step)
        # Of the whole batch, in every step: a checkpoint, which rank 0 writes alone, has the sum.
        self.loss_sum += self.ranks.add_up(loss * self.share)
        self.step += 1
        self.clock.images += round(len(images) / self.share)
        if self.step - self.resumed_at == WARMUP_STEPS and self.step < self.num_steps:
            self.clock.forget()

    def progress(self, epoch: int, loss: float) -> Progress:
        return Progress(self.step, self.num_steps, epoch, loss, self.clock.images_per_second)

    def result(self, *, diverged: str = "") -> TrainResult:
        return TrainResult(self.losses, self.clock.total_seconds, self.clock.images_per_second, diverged)

    def state(self, buffers: Mapping[str, Tensor] | None = None) -> State:
        weights = self.model.state_dict()
        return {
            "step": self.step,
            "losses": list(self.losses),
            "loss_sum": self.loss_sum,
            "weights": weights | {name: buffer for name, buffer in (buffers or {}).items() if name in weights},
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.tensors if self.average else [],
            "clock": self.clock.state(),
        }

    def restore(self, state: State) -> None:
        self.step = self.resumed_at = state["step"]
        self.losses = list(state["losses"])
        self.loss_sum.copy_(state["loss_sum"])
        self.model.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average:
            self.average.restore(state["average"])
        self.clock.restore(state["clock"])


class _Clock:
    """Runs while training does. `forget` leaves the time and images so far out of the rate, but not of `total_seconds`."""

    def __init__(self, synchronize: Callable[[], None]) -> None:
        self.synchronize = synchronize
        self.images = 0
        self._seconds, self._forgotten, self._started = 0.0, 0.0, 0.0
        self._before: tuple[float, int] = (0.0, 0)
        """Seconds and images that an earlier part of the run had counted."""

    def start(self) -> None:
        self.synchronize()
        self._started = time.perf_counter()

    def stop(self) -> None:
        self.synchronize()
        self._seconds += time.perf_counter() - self._started
        self._started = 0.0

    def forget(self) -> None:
        self.stop()
        seconds, images = self._before
        self._forgotten, self._seconds, self.images = self._forgotten + self._seconds - seconds, seconds, images
        self.start()

    def state(self) -> list[float]:
        return [self._seconds, self._forgotten, self.images]

    def restore(self, state: list[float]) -> None:
        self._seconds, self._forgotten, self.images = state[0], state[1], int(state[2])
        self._before = self._seconds, self.images

    @property
    def total_seconds(self) -> float:
        return self._forgotten + self._seconds

    @property
    def images_per_second(self) -> float:
        running = time.perf_counter() - self._started if self._started else 0.0
        return self.images / max(self._seconds + running, 1e-9)
