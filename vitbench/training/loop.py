"""The one training loop: every arm of every study goes through it."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from vitbench.config import TrainConfig
from vitbench.training.average import Average
from vitbench.training.checkpoint import Checkpoint, State
from vitbench.training.optimizer import build_optimizer, build_schedule

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
    """`train_losses`, per epoch. `seconds` counts all training steps and their data; evaluation stops the clock.

    `images_per_second` leaves the first two steps out, in which things are compiled, allocated and watched, where there
    are more. Both are sums over the parts of a run that was interrupted, of each of which the first two steps are left
    out. `diverged` is the reason why training ended early, else empty.
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
    checkpoint: Checkpoint | None = None,
    resume: State | None = None,
) -> TrainResult:
    """Trains `model` in place; with `ema_decay`, what it is left with is the average of its weights.

    `batches(epoch, first, last)` yields the epoch's batches from the first to before the last, of `steps_per_epoch`:
    pairs of images [B, C, H, W] on the model's device and targets, class indices [B] or probabilities [B, K].
    `after_epoch(epoch)` evaluates what is then in the model. Epochs count from 0; the last may end early. `watch` is the
    context of one step, the second: the first in which the optimizer has its state. Stops early, with a reason, where
    the loss is no longer finite. `resume` is what was written to a `checkpoint`: the run then ends as it would have.
    """
    num_steps = config.num_steps(steps_per_epoch)
    if num_steps == 0:
        return TrainResult([], 0.0, 0.0, "")
    optimizer = build_optimizer(model, config)
    schedule = build_schedule(optimizer, config, num_steps=num_steps)
    parameters = [p for p in model.parameters() if p.requires_grad]
    average = None if config.ema_decay is None else Average(model, config.ema_decay)
    clock = _Clock(synchronize)
    carried = _Carried(model, optimizer, average, clock)
    if resume is not None:
        carried.restore(resume)
        del resume
    checkpoint = checkpoint or Checkpoint()
    first_step = carried.step
    for epoch in range(len(carried.losses), math.ceil(num_steps / steps_per_epoch)):
        before = epoch * steps_per_epoch
        last = min(steps_per_epoch, num_steps - before)
        model.train()
        with checkpoint.signals if checkpoint.path else nullcontext():
            clock.start()
            last_report = time.perf_counter()
            for images, targets in batches(epoch, carried.step - before, last):
                step = carried.step
                seed_dropout(step_seed(seed, step), parameters[0].device)
                schedule.step_update(step + 1)
                with watch() if step == min(1, num_steps - 1) else nullcontext():
                    loss = training_step(model, optimizer, images, targets, parameters, config, autocast)
                if average is not None:
                    average.update(step)
                carried.loss_sum += loss.detach()
                carried.step = step = step + 1
                clock.images += len(images)
                if step - first_step == WARMUP_STEPS and step < num_steps:
                    clock.forget()
                now = time.perf_counter()
                if now - last_report > PROGRESS_SECONDS:
                    last_report = now
                    mean = carried.loss_sum.item() / (step - before)
                    on_progress(Progress(step, num_steps, epoch, mean, clock.images_per_second))
                if checkpoint.is_asked_for:
                    clock.stop()
                    checkpoint.obey(carried.state())
                    clock.start()
            clock.stop()
            # Before the evaluation, which may be long, and which going on from here repeats.
            if checkpoint.is_due() or checkpoint.is_asked_for:
                checkpoint.write(carried.state())
        assert carried.step == before + last, (carried.step, before, last)
        loss_of_epoch = carried.loss_sum.item() / last
        if not math.isfinite(loss_of_epoch):
            reason = f"training loss is {loss_of_epoch} in epoch {epoch + 1}"
            losses = [*carried.losses, loss_of_epoch]
            return TrainResult(losses, clock.total_seconds, clock.images_per_second, reason)
        with average.applied() if average is not None else nullcontext():
            after_epoch(epoch)
        carried.end_epoch(loss_of_epoch)
        on_progress(Progress(carried.step, num_steps, epoch, loss_of_epoch, clock.images_per_second))
    assert carried.step == num_steps, (carried.step, num_steps)
    if average is not None:
        average.apply()
    return TrainResult(carried.losses, clock.total_seconds, clock.images_per_second, "")


class _Carried:
    """All that one step hands to the next. The schedule, batches, augmentation and dropout are functions of the step."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, average: Average | None, clock: _Clock) -> None:
        self.model, self.optimizer, self.average, self.clock = model, optimizer, average, clock
        self.step = 0
        self.losses: list[float] = []
        """Of the epochs that are over, their evaluation included."""
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=next(model.parameters()).device)
        """Over the steps of the epoch that is not."""

    def end_epoch(self, loss: float) -> None:
        self.losses.append(loss)
        self.loss_sum.zero_()

    def state(self) -> State:
        return {
            "step": self.step,
            "losses": list(self.losses),
            "loss_sum": self.loss_sum,
            "weights": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": [] if self.average is None else self.average.tensors,
            "clock": self.clock.state(),
        }

    def restore(self, state: State) -> None:
        self.step, self.losses = state["step"], list(state["losses"])
        self.loss_sum.copy_(state["loss_sum"])
        self.model.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.restore(state["average"])
        self.clock.restore(state["clock"])


class _Clock:
    """Runs while training does. `forget` leaves what it counted so far out of the rate, but not of `total_seconds`."""

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


def training_step(
    model: nn.Module,
    optimizer: Optimizer,
    images: Tensor,
    targets: Tensor,
    parameters: list[nn.Parameter],
    config: TrainConfig,
    autocast: Callable[[], AbstractContextManager[object]],
) -> Tensor:
    """Forward, backward and one step of the optimizer; returns the loss."""
    with autocast():
        logits = model(images)
    loss = cross_entropy(logits.float(), targets, label_smoothing=config.label_smoothing)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if config.clip_norm is not None:
        nn.utils.clip_grad_norm_(parameters, config.clip_norm)
    optimizer.step()
    return loss


def cross_entropy(logits: Tensor, targets: Tensor, *, label_smoothing: float) -> Tensor:
    """Mean over the batch, in nats. Soft targets come smoothed from the augmentation already."""
    return F.cross_entropy(logits, targets, label_smoothing=0.0 if targets.is_floating_point() else label_smoothing)


def seed_dropout(seed: int, device: torch.device) -> None:
    """Seeds what dropout and drop path draw from on `device`.

    Not by torch.manual_seed: where CUDA is not in use, it notes every call with its stack for later, at 0.7 ms a step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def step_seed(seed: int, step: int) -> int:
    """Seed of all that is random within a step: a function of (seed, step) alone.

    Hashed, because torch's generator for CPU keeps only the low 32 bits of what it is given.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}:{step}".encode()).digest()[:4], "big")
