"""What do the first steps of a run compute, one thing after the other? Two runs are told apart by the first that differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from vitbench.config import RunConfig
from vitbench.inspection.check_bench import MORE_STEPS, Bench
from vitbench.training.loop import seed_dropout, step_seed, training_step
from vitbench.training.optimizer import build_schedule

SCHEDULE_POINTS = 50


@dataclass
class FirstSteps:
    """What some steps of training left: losses, weights, and which parameters had a gradient in which step."""

    losses: list[float]
    gradient_norms: list[float]
    weights: dict[str, Tensor]
    with_gradient: list[set[str]]
    """For each step, the parameters of which some element had one that is not zero."""
    rows: dict[str, Tensor]
    """Of each table that is no layer's weight: which rows had a gradient in some step."""
    trained: set[str]


class Trace:
    """Of a run's configuration on a bench, each part computed when it is asked for."""

    def __init__(self, config: RunConfig, bench: Bench) -> None:
        self.config, self.bench = config, bench
        self.data = bench.data(config)

    @cached_property
    def batches(self) -> list[tuple[Tensor, Tensor]]:
        return self.bench.batches(self.config)

    @cached_property
    def more_batches(self) -> list[tuple[Tensor, Tensor]]:
        return self.bench.batches(self.config, MORE_STEPS)

    @cached_property
    def evaluated(self) -> Tensor:
        return self.bench.evaluated(self.config)

    @cached_property
    def length(self) -> tuple[int, int]:
        """(batch size, steps)."""
        return self.config.train.batch_size, self.data.num_steps

    @cached_property
    def learning_rates(self) -> list[float]:
        """Of every group of parameters, at points of the schedule from the first step to the last."""
        num_steps = self.data.num_steps
        if not num_steps:
            return []
        _, optimizer, _ = self.bench.trained(self.config)
        schedule = build_schedule(optimizer, self.config.train, num_steps=num_steps)
        rates = []
        for point in range(SCHEDULE_POINTS + 1):
            schedule.step_update(1 + (num_steps - 1) * point // SCHEDULE_POINTS)
            rates += sorted({group["lr"] for group in optimizer.param_groups})
        return rates

    @cached_property
    def averaging(self) -> float:
        """The largest decay of averaged weights that the run comes to; 0 without."""
        decay, last = self.config.train.ema_decay, self.data.num_steps - 1
        return 0.0 if decay is None or last < 0 else min(decay, (1 + last) / (10 + last))

    @cached_property
    def logits(self) -> Tensor:
        return self._logits(self.bench.model(self.config).eval())

    @cached_property
    def moved_logits(self) -> Tensor:
        return self._logits(self.bench.model(self.config, moved=True).eval())

    @cached_property
    def training_logits(self) -> Tensor:
        """Of the first step's batch, dropout included."""
        model = self.bench.model(self.config, moved=True).train()
        seed_dropout(step_seed(self.config.seed, 0), self.bench.device.torch_device)
        return self._logits(model, self.batches[0][0])

    def _logits(self, model: nn.Module, images: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            logits: Tensor = model(self.evaluated if images is None else images)
        return logits

    @cached_property
    def first_steps(self) -> FirstSteps:
        """Trained as runs are, but in few steps; the schedule is the whole run's. Native operators compute as in runs."""
        config, device = self.config, self.bench.device
        model, optimizer, named = self.bench.trained(config)
        schedule = build_schedule(optimizer, config.train, num_steps=max(self.data.num_steps, 1))
        steps = FirstSteps([], [], {}, [], {}, set(named))
        for step, (images, targets) in enumerate(self.batches[: self.data.num_steps]):
            seed_dropout(step_seed(config.seed, step), device.torch_device)
            schedule.step_update(step + 1)
            loss = training_step(
                model, optimizer, images, targets, [*named.values()], config.train, lambda: self.bench.autocast(config)
            )
            steps.losses.append(loss.item())
            _note_gradients(named, model, steps)
        steps.weights = {name: p.detach() for name, p in model.named_parameters()}
        return steps


def _note_gradients(named: dict[str, nn.Parameter], model: nn.Module, steps: FirstSteps) -> None:
    gradients = {name: p.grad for name, p in named.items() if p.grad is not None}
    steps.with_gradient.append({name for name, gradient in gradients.items() if gradient.count_nonzero() > 0})
    steps.gradient_norms.append(sum(float(gradient.norm()) ** 2 for gradient in gradients.values()) ** 0.5)
    modules = dict(model.named_modules())
    for name, gradient in gradients.items():
        owner = modules[name.rpartition(".")[0]]
        if gradient.ndim == 2 and not isinstance(owner, nn.Linear):
            used = gradient.ne(0).any(dim=1)
            steps.rows[name] = used | steps.rows.get(name, torch.zeros_like(used))


Observed = tuple[str, Callable[[Trace], Any]]

OF_DATA: tuple[Observed, ...] = (
    ("batch size", lambda trace: trace.length[0]),
    ("training batches", lambda trace: dict(enumerate(trace.batches))),
    ("training batches", lambda trace: dict(enumerate(trace.more_batches))),
    ("evaluation images", lambda trace: trace.evaluated),
)
OF_SCHEDULE: tuple[Observed, ...] = (
    ("number of steps", lambda trace: trace.length),
    ("learning rate", lambda trace: trace.learning_rates),
    ("averaged weights", lambda trace: trace.averaging),
)
OF_MODEL: tuple[Observed, ...] = (
    ("logits", lambda trace: trace.logits),
    ("logits once weights have moved", lambda trace: trace.moved_logits),
    ("logits in training", lambda trace: trace.training_logits),
)
OF_TRAINING: tuple[Observed, ...] = (
    ("loss", lambda trace: trace.first_steps.losses[:1]),
    ("weights after a few steps", lambda trace: trace.first_steps.weights),
)


def first_difference(trace: Trace, other: Trace) -> str:
    """The first thing that two runs have otherwise; empty where none differs, to the bit."""
    a, b = trace.config, other.config
    observed: list[Observed] = []
    if a.model != b.model or a.pretraining != b.pretraining:
        observed += OF_MODEL
    if a.data != b.data or a.train != b.train or a.model.image_hw != b.model.image_hw:
        observed = [*OF_DATA, *OF_SCHEDULE, *observed]
    for what, of in (*observed, *OF_TRAINING):
        if not same(of(trace), of(other)):
            return what
    return ""


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal; of dictionaries, in what both have."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return all(same(a[name], b[name]) for name in a.keys() & b.keys())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)
