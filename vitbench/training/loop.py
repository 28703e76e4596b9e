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
    are more. `diverged` is the reason why training ended early, else empty.
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
    batches: Callable[[int], Iterable[tuple[Tensor, Tensor]]],
    after_epoch: Callable[[int], None],
    autocast: Callable[[], AbstractContextManager[object]],
    synchronize: Callable[[], None],
    watch: Callable[[], AbstractContextManager[object]] = nullcontext,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> TrainResult:
    """Trains `model` in place.

    `batches(epoch)` yields `steps_per_epoch` pairs of images [B, C, H, W] on the model's device and targets, class
    indices [B] or probabilities [B, K]. `after_epoch(epoch)` evaluates. Epochs count from 0. `watch` is the context of
    one step, the second: the first in which the optimizer has its state. Stops early, with a reason, where the loss
    is no longer finite.
    """
    optimizer = build_optimizer(model, config)
    num_steps = config.epochs * steps_per_epoch
    schedule = build_schedule(optimizer, config, num_steps=num_steps)
    parameters = [p for p in model.parameters() if p.requires_grad]
    losses: list[float] = []
    clock = _Clock(synchronize)
    step = 0
    for epoch in range(config.epochs):
        model.train()
        total = torch.zeros((), dtype=torch.float64, device=parameters[0].device)
        clock.start()
        last_report = time.perf_counter()
        for images, targets in batches(epoch):
            seed_dropout(step_seed(seed, step), parameters[0].device)
            schedule.step_update(step + 1)
            with watch() if step == min(1, num_steps - 1) else nullcontext():
                loss = training_step(model, optimizer, images, targets, parameters, config, autocast)
            total += loss.detach()
            step += 1
            clock.images += len(images)
            if step == WARMUP_STEPS < num_steps:
                clock.forget()
            now = time.perf_counter()
            if now - last_report > PROGRESS_SECONDS:
                last_report = now
                done = step - epoch * steps_per_epoch
                on_progress(Progress(step, num_steps, epoch, total.item() / done, clock.images_per_second))
        clock.stop()
        losses.append(total.item() / steps_per_epoch)
        if not math.isfinite(losses[-1]):
            reason = f"training loss is {losses[-1]} in epoch {epoch + 1}"
            return TrainResult(losses, clock.total_seconds, clock.images_per_second, reason)
        after_epoch(epoch)
        on_progress(Progress(step, num_steps, epoch, losses[-1], clock.images_per_second))
    assert step == num_steps, (step, num_steps)
    return TrainResult(losses, clock.total_seconds, clock.images_per_second, "")


class _Clock:
    """Runs while training does. `forget` starts the rate anew, but not `total_seconds`."""

    def __init__(self, synchronize: Callable[[], None]) -> None:
        self.synchronize = synchronize
        self.images = 0
        self._seconds, self._forgotten, self._started = 0.0, 0.0, 0.0

    def start(self) -> None:
        self.synchronize()
        self._started = time.perf_counter()

    def stop(self) -> None:
        self.synchronize()
        self._seconds += time.perf_counter() - self._started
        self._started = 0.0

    def forget(self) -> None:
        self.stop()
        self._forgotten, self._seconds, self.images = self._forgotten + self._seconds, 0.0, 0
        self.start()

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
