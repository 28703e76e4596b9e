"""Does the one loop take AdamW's steps, stop where it must, and draw from (seed, step) alone?"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitbench.config import TrainConfig
from vitbench.training import Progress, TrainResult, train
from vitbench.training.step import step_seed

STEPS = 4


def batch_of(epoch: int, step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(100 * epoch + step)
    # Batches of very different scale, so that clipping changes their weight in Adam's averages.
    return (
        torch.randn(6, 5, generator=generator) * 10.0 ** (step % 3),
        torch.randint(3, (6,), generator=generator),
    )


def run(model: nn.Module, config: TrainConfig, **changes: Any) -> TrainResult:
    arguments: dict[str, Any] = {
        "seed": 0,
        "steps_per_epoch": STEPS,
        "batches": lambda epoch, first, last: (batch_of(epoch, step) for step in range(first, last)),
        "after_epoch": lambda epoch: None,
        "autocast": nullcontext,
        "synchronize": lambda: None,
    }
    return train(model, config, **{**arguments, **changes})


def linear() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 3))


def by_hand(config: TrainConfig, rate: Callable[[int], float]) -> tuple[list[Tensor], list[float], list[float]]:
    """AdamW (Loshchilov & Hutter 2019, Algorithm 2) on softmax regression with gradients written out, in float64.

    Returns weight and bias after each step, losses per epoch, gradient norms per step.
    """
    (layer,) = linear().double()
    w, b = layer.weight.detach().clone(), layer.bias.detach().clone()
    first, second = [torch.zeros_like(w), torch.zeros_like(b)], [torch.zeros_like(w), torch.zeros_like(b)]
    states, losses, norms, t = [], [], [], 0
    beta1, beta2 = config.betas or (0.9, 0.999)
    for epoch in range(config.epochs):
        epoch_losses = []
        for step in range(STEPS):
            t += 1
            x, y = batch_of(epoch, step)
            x, target = x.double(), torch.eye(3, dtype=torch.float64)[y]
            target = (1 - config.label_smoothing) * target + config.label_smoothing / 3
            p = (x @ w.T + b).softmax(dim=1)
            epoch_losses.append(-(target * p.log()).sum(dim=1).mean().item())
            gradients = [(p - target).T @ x / len(x), (p - target).mean(dim=0)]
            norm = math.sqrt(sum(g.square().sum().item() for g in gradients))
            norms.append(norm)
            if config.clip_norm is not None and norm > config.clip_norm:
                gradients = [g * config.clip_norm / norm for g in gradients]
            w = w * (1 - rate(t) * config.weight_decay)  # the bias does not decay
            updates = []
            for i, g in enumerate(gradients):
                first[i] = beta1 * first[i] + (1 - beta1) * g
                second[i] = beta2 * second[i] + (1 - beta2) * g * g
                updates.append(first[i] / (1 - beta1**t) / ((second[i] / (1 - beta2**t)).sqrt() + (config.eps or 1e-8)))
            w, b = w - rate(t) * updates[0], b - rate(t) * updates[1]
            states.append(torch.cat([w.flatten(), b]))
        losses.append(sum(epoch_losses) / STEPS)
    return states, losses, norms


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"clip_norm": None},
        {"weight_decay": 0.5},
        {"label_smoothing": 0.2},
        {"betas": (0.8, 0.9)},
        {"eps": 0.1},
        {"min_learning_rate": 0.005},
    ],
    ids=lambda changes: str(changes),
)
def test_every_step_is_adamw_written_out_by_hand(changes):
    config = TrainConfig(
        **{"epochs": 2, "learning_rate": 0.01, "warmup_fraction": 0.0, "label_smoothing": 0.0, **changes}
    )
    end = config.min_learning_rate
    states, losses, norms = by_hand(config, lambda t: end + (0.01 - end) * (1 + math.cos(math.pi * t / 9)) / 2)
    model, seen = linear(), []

    def spy(epoch: int, first: int, last: int) -> Any:
        for step in range(STEPS):
            if (epoch, step) != (0, 0):
                seen.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
            yield batch_of(epoch, step)

    result = run(model, config, batches=spy)
    seen.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert len(seen) == len(states) == 8
    for step, (ours, expected) in enumerate(zip(seen, states, strict=True)):
        torch.testing.assert_close(ours.double(), expected, rtol=0, atol=2e-6, msg=lambda m, s=step: f"step {s}: {m}")
    assert result.train_losses == pytest.approx(losses, rel=1e-5)
    assert result.diverged == "" and result.images_per_second > 0 and result.seconds > 0
    assert max(norms) > 10 and min(norms) < 2


def test_clipping_is_live():
    weights = []
    for clip_norm in (1.0, None):
        model = linear()
        run(model, TrainConfig(epochs=1, clip_norm=clip_norm))
        weights.append(model[0].weight.detach())
    assert (weights[0] - weights[1]).abs().max() > 1e-5


def test_a_clipped_gradient_has_the_norm_that_was_asked_for():
    model, norms = linear(), []
    config = TrainConfig(epochs=1, clip_norm=0.25, optimizer="momentum", weight_decay=0.0, warmup_fraction=0.0)

    def spy(epoch: int, first: int, last: int) -> Any:
        for step in range(STEPS):
            if step:
                norms.append(torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item())
            yield batch_of(epoch, step)

    run(model, config, batches=spy)
    assert norms == pytest.approx([0.25] * 3, rel=1e-4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_run_with_a_reason(bad):
    evaluated: list[int] = []

    def batches(epoch: int, first: int, last: int) -> Any:
        for step in range(STEPS):
            images, targets = batch_of(epoch, step)
            yield (images * bad if (epoch, step) == (1, 2) else images), targets

    result = run(linear(), TrainConfig(epochs=5), batches=batches, after_epoch=evaluated.append)
    assert "in epoch 2" in result.diverged and "loss is nan" in result.diverged
    assert len(result.train_losses) == 2 and math.isfinite(result.train_losses[0])
    assert evaluated == [0]


class Noisy(nn.Module):
    """A linear layer behind dropout, whose masks it keeps; `extra` numbers are drawn from torch's generator beside it."""

    def __init__(self, extra: int) -> None:
        super().__init__()
        self.linear, self.extra, self.masks = linear(), extra, []

    def forward(self, x: Tensor) -> Tensor:
        mask = nn.functional.dropout(torch.ones_like(x), 0.5, training=self.training)
        self.masks.append(mask)
        torch.rand(self.extra)
        return self.linear(x * mask)


def trained(extra: int, *, seed: int = 0) -> Noisy:
    model = Noisy(extra)
    run(model, TrainConfig(epochs=2), seed=seed, after_epoch=lambda epoch: torch.rand(extra))
    return model


def test_what_a_model_draws_from_torch_does_not_change_a_later_step():
    one, other = trained(extra=0), trained(extra=17)
    assert len(one.masks) == len(other.masks) == 8
    assert all(torch.equal(a, b) for a, b in zip(one.masks, other.masks, strict=True))
    assert torch.equal(one.linear[0].weight, other.linear[0].weight)


def test_dropout_differs_between_steps():
    masks = trained(extra=0).masks
    assert all(not torch.equal(a, b) for a, b in pairwise(masks))


def test_dropout_differs_between_seeds():
    # torch's CPU generator takes the low 32 bits of a seed and drops the rest.
    one, other = trained(extra=0), trained(extra=0, seed=1)
    assert all(not torch.equal(a, b) for a, b in zip(one.masks, other.masks, strict=True))


def test_no_two_steps_of_any_seeds_share_their_draws():
    seeds = [(seed, step) for seed in (0, 1, 2, 2**31 - 1) for step in (0, 1, 2, 10**6)]
    draws = set()
    for seed, step in seeds:
        torch.manual_seed(step_seed(seed, step))
        draws.add(tuple(torch.rand(8).tolist()))
    assert len(draws) == len(seeds)


def test_the_same_seed_gives_identical_losses():
    first, second = (run(Noisy(0), TrainConfig(epochs=3)) for _ in range(2))
    assert first.train_losses == second.train_losses and len(first.train_losses) == 3


def test_soft_targets_are_taken_as_they_are():
    def soft(epoch: int, first: int, last: int) -> Any:
        for step in range(STEPS):
            images, targets = batch_of(epoch, step)
            yield images, 0.9 * torch.eye(3)[targets] + 0.1 / 3

    def hard(epoch: int, first: int, last: int) -> Any:
        return (batch_of(epoch, step) for step in range(STEPS))

    losses = [
        run(linear(), TrainConfig(epochs=1, label_smoothing=0.1), batches=b).train_losses[0] for b in (soft, hard)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_every_epoch_is_trained_in_training_mode_evaluated_once_and_reported():
    model, events, modes = linear(), [], []

    def after_epoch(epoch: int) -> None:
        events.append(("evaluated", epoch))
        model.eval()

    def batches(epoch: int, first: int, last: int) -> Any:
        for step in range(STEPS):
            modes.append(model.training)
            yield batch_of(epoch, step)

    reports: list[Progress] = []
    result = run(model, TrainConfig(epochs=3), batches=batches, after_epoch=after_epoch, on_progress=reports.append)
    assert events == [("evaluated", 0), ("evaluated", 1), ("evaluated", 2)] and modes == [True] * 12
    assert [r.step for r in reports if r.step % STEPS == 0][-3:] == [4, 8, 12] and reports[-1].num_steps == 12
    assert reports[-1].loss == result.train_losses[-1]


@pytest.mark.parametrize(
    ("epochs", "steps"),
    # 4 steps an epoch: 1.5 epochs are 6 steps, 2.4 are 9.6, 0.01 are still one.
    [(1, 4), (3, 12), (1.5, 6), (2.4, 10), (0.25, 1), (0.01, 1)],
)
def test_a_run_takes_the_nearest_whole_number_of_steps_and_evaluates_what_it_ends_with(epochs, steps):
    taken, evaluated, reports = [], [], []

    def batches(epoch: int, first: int, last: int) -> Any:
        for step in range(first, last):
            taken.append((epoch, step))
            yield batch_of(epoch, step)

    result = run(
        linear(),
        TrainConfig(epochs=epochs),
        batches=batches,
        after_epoch=evaluated.append,
        on_progress=reports.append,
    )
    assert taken == [divmod(step, STEPS) for step in range(steps)]
    assert evaluated == list(range(math.ceil(steps / STEPS))) and len(result.train_losses) == len(evaluated)
    assert (reports[-1].step, reports[-1].num_steps) == (steps, steps)


def test_the_loss_of_a_part_of_an_epoch_is_the_mean_over_its_own_steps():
    half = run(linear(), TrainConfig(epochs=0.5, warmup_fraction=0.0, learning_rate=1e-12)).train_losses
    x = torch.cat([batch_of(0, step)[0] for step in (0, 1)])
    y = torch.cat([batch_of(0, step)[1] for step in (0, 1)])
    with torch.no_grad():
        expected = nn.functional.cross_entropy(linear()(x), y).item()  # batches of equal size
    assert half == [pytest.approx(expected, rel=1e-6)]


def test_with_ema_decay_the_average_is_evaluated_and_left_behind_and_training_goes_on_from_the_weights():
    seen: list[Tensor] = []
    plain, averaged = linear(), linear()
    trained_on: dict[str, list[Tensor]] = {"plain": [], "averaged": []}

    def spy(name: str, model: nn.Module) -> Callable[..., Any]:
        def batches(epoch: int, first: int, last: int) -> Any:
            for step in range(first, last):
                trained_on[name].append(model[0].weight.detach().clone())
                yield batch_of(epoch, step)
            trained_on[name].append(model[0].weight.detach().clone())

        return batches

    config = TrainConfig(epochs=2, learning_rate=0.1)
    run(plain, config, batches=spy("plain", plain))
    run(
        averaged,
        config.replace(ema_decay=0.5),
        batches=spy("averaged", averaged),
        after_epoch=lambda epoch: seen.append(averaged[0].weight.detach().clone()),
    )
    assert all(torch.equal(a, b) for a, b in zip(trained_on["plain"], trained_on["averaged"], strict=True))

    # By hand, in float64: decays of min(0.5, (1 + t) / (10 + t)) from the initial weights on.
    steps = [w.double() for w in [*trained_on["plain"][1:5], *trained_on["plain"][6:10]]]
    average, expected = trained_on["plain"][0].double(), []
    for t, weights in enumerate(steps):
        decay = min(0.5, (1 + t) / (10 + t))
        average = decay * average + (1 - decay) * weights
        expected.append(average)
    torch.testing.assert_close(seen[0].double(), expected[3], rtol=0, atol=1e-6)
    torch.testing.assert_close(seen[1].double(), expected[7], rtol=0, atol=1e-6)
    assert torch.equal(averaged[0].weight, seen[1]) and not torch.equal(seen[1], plain[0].weight)
