"""Is a batch that is computed in slices the whole batch, to the weight that each image has?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from vitbench.config import TrainConfig, ViTConfig
from vitbench.models import build_model
from vitbench.training import TrainResult, train
from vitbench.training.optimizer import build_optimizer
from vitbench.training.step import compute_gradients, seed_dropout, step_seed, training_step

BATCH, STEPS, CLASSES = 11, 5, 3
MODEL = ViTConfig(image_size=8, in_channels=1, patch_size=4, width=16, depth=2, num_heads=2, num_classes=CLASSES)
EVERYTHING = {"clip_norm": 0.3, "ema_decay": 0.8, "label_smoothing": 0.1, "layer_decay": 0.7, "weight_decay": 0.1}


def batches(dtype: torch.dtype, *, mixed: bool) -> Iterator[tuple[Tensor, Tensor]]:
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(step)
        images = torch.randn(BATCH, 1, 8, 8, generator=generator, dtype=dtype)
        classes = torch.randint(CLASSES, (BATCH,), generator=generator)
        if not mixed:
            yield images, classes
            continue
        targets = torch.eye(CLASSES, dtype=dtype)[classes] * 0.9 + 0.1 / CLASSES
        yield 0.7 * images + 0.3 * images.flip(0), 0.7 * targets + 0.3 * targets.flip(0)


def trained(
    config: TrainConfig, micro_batch: int | None, *, dtype: torch.dtype = torch.float64, mixed: bool = False
) -> tuple[TrainResult, Tensor]:
    """(losses, all weights in one vector)."""
    model = build_model(MODEL, seed=0).to(dtype)
    result = train(
        model,
        config,
        seed=0,
        steps_per_epoch=STEPS,
        batches=lambda *_: batches(dtype, mixed=mixed),
        after_epoch=lambda _: None,
        autocast=nullcontext,
        synchronize=lambda: None,
        micro_batch=micro_batch,
    )
    return result, torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
@pytest.mark.parametrize("mixed", [False, True], ids=["classes", "mixed"])
@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_slices_give_the_weights_of_the_whole_batch_in_float64(optimizer, mixed, loss):
    """With all that acts on the gradient as a whole, and a last slice of fewer images."""
    config = TrainConfig(epochs=1, learning_rate=0.01, optimizer=optimizer, loss=loss, **EVERYTHING)
    whole, weights = trained(config, None, mixed=mixed)
    for micro_batch in (1, 4):
        sliced, same = trained(config, micro_batch, mixed=mixed)
        # Adam's step is the gradient over its own size: of one that is next to nothing, rounding is a large share.
        torch.testing.assert_close(same, weights, rtol=1e-7, atol=1e-8)
        assert sliced.train_losses == pytest.approx(whole.train_losses, rel=1e-7)


@pytest.mark.parametrize(("optimizer", "tolerance"), [("adamw", 2e-5), ("muon", 5e-4)])  # Muon iterates in bf16
def test_slices_give_the_weights_of_the_whole_batch_in_float32(optimizer, tolerance):
    """With an epsilon that keeps Adam from making a step of the rounding of gradients that are next to nothing."""
    config = TrainConfig(epochs=1, learning_rate=0.01, optimizer=optimizer, eps=1e-4, **EVERYTHING)
    whole, weights = trained(config, None, dtype=torch.float32, mixed=True)
    sliced, same = trained(config, 4, dtype=torch.float32, mixed=True)
    torch.testing.assert_close(same, weights, rtol=0, atol=tolerance)
    assert sliced.train_losses == pytest.approx(whole.train_losses, rel=1e-5)
    assert not torch.equal(weights, same)  # rounding is another: the two are not one computation


def test_each_image_has_the_same_weight_whatever_slice_it_is_in():
    """Of a linear model by hand: the mean of (softmax − target) · x over all images, as no slice had one of its own."""
    torch.manual_seed(0)
    model, images = nn.Linear(5, CLASSES, bias=False).double(), torch.randn(BATCH, 5, dtype=torch.float64)
    classes = torch.arange(BATCH) % CLASSES
    errors = (images @ model.weight.T).softmax(1).detach() - torch.eye(CLASSES, dtype=torch.float64)[classes]
    optimizer = torch.optim.SGD(model.parameters())
    for micro_batch in (None, 1, 3, 4, 10, BATCH, 100):
        for _ in range(2):  # the second begins from nothing too
            compute_gradients(model, optimizer, images, classes, TrainConfig(), nullcontext, micro_batch=micro_batch)
        torch.testing.assert_close(model.weight.grad, errors.T @ images / BATCH, rtol=1e-12, atol=1e-14)


def test_a_batch_that_fits_in_one_slice_has_the_bits_of_the_whole_one():
    config = TrainConfig(epochs=1, learning_rate=0.01, **EVERYTHING)
    (whole, weights), (sliced, same) = (trained(config, n, dtype=torch.float32) for n in (None, BATCH))
    assert whole.train_losses == sliced.train_losses and torch.equal(weights, same)


class Recording(nn.Module):
    """A linear layer that remembers how many images it saw, and with which draws."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, CLASSES)
        self.sizes: list[int] = []
        self.draws: list[float] = []

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        self.draws.append(torch.rand(()).item())
        return self.linear(images)


def test_no_more_images_than_were_asked_for_are_computed_at_a_time_and_each_slice_draws_its_own_dropout():
    def pass_over(micro_batch: int | None, step: int) -> Recording:
        torch.manual_seed(0)
        model, images = Recording(), torch.randn(BATCH, 5)
        config = TrainConfig(optimizer="sgd")
        training_step(
            model,
            build_optimizer(model, config),
            images,
            torch.zeros(BATCH, dtype=torch.int64),
            [*model.parameters()],
            config,
            nullcontext,
            micro_batch=micro_batch,
            begin_slice=lambda first: seed_dropout(step_seed(0, step, first), images.device),
        )
        return model

    whole, sliced, again, next_step = (pass_over(n, step) for n, step in ((None, 0), (4, 0), (4, 0), (4, 1)))
    assert (whole.sizes, sliced.sizes) == ([11], [4, 4, 3])
    assert len(set(sliced.draws)) == 3 and sliced.draws == again.draws and sliced.draws[0] == whole.draws[0]
    assert not set(sliced.draws) & set(next_step.draws)


def test_a_parameter_that_no_slice_uses_keeps_no_gradient():
    """Weight decay would move it, if it had one of zeros."""

    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(5, CLASSES), nn.Linear(5, CLASSES)

        def forward(self, images: Tensor) -> Tensor:
            return self.used(images)

    model, config = Half(), TrainConfig(optimizer="adamw", weight_decay=0.5, learning_rate=0.1)
    before = model.idle.weight.detach().clone()
    targets, parameters = torch.zeros(BATCH, dtype=torch.int64), [*model.parameters()]
    optimizer = build_optimizer(model, config)
    training_step(model, optimizer, torch.randn(BATCH, 5), targets, parameters, config, nullcontext, micro_batch=4)
    assert model.idle.weight.grad is None and torch.equal(model.idle.weight, before)
