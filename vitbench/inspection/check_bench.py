"""What are checks made with? A device, the images of each arm as it is trained on them, and models before their first step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vitbench.config import RunConfig, ViTConfig
from vitbench.costs.macs import training_flops_per_image
from vitbench.device import Device
from vitbench.kernels import install
from vitbench.models.seeding import key
from vitbench.training import freeze
from vitbench.training.optimizer import build_optimizer

STEPS = 3
"""Of training, that are tried: Adam's second moment and momentum act from the second on."""
MORE_STEPS = 12
"""Batches in which a change that is seldom drawn is looked for."""
MOST_FLOPS = 2e11
"""Of one training step that is tried on CPU: some seconds. Larger batches are cut."""
EVALUATED = 64
"""Test images, at most, on which logits are compared."""
MOVED = 0.05
"""Standard deviation of the noise that moves all weights off values such as zero, at which a part may be masked."""


class TrainingData(Protocol):
    """The images of a run, as `execution.run_data.RunData` has them."""

    @property
    def steps_per_epoch(self) -> int: ...
    @property
    def num_steps(self) -> int: ...

    def augmented_batches(self, epoch: int, first: int, last: int) -> Iterable[tuple[Tensor, Tensor]]:
        """Normalised images [B, C, H, W] and targets."""

    def evaluated_batch(self, images: int) -> Tensor:
        """The first test images, as evaluation sees them, normalised."""


@dataclass
class Bench:
    """`build(config, seed)` gives a run's initial model on the device; `open_data(config)` its images."""

    device: Device
    build: Callable[[RunConfig, int], Any]
    open_data: Callable[[RunConfig], TrainingData]
    _data: dict[Any, TrainingData] = field(default_factory=dict)

    def data(self, config: RunConfig) -> TrainingData:
        """Kept: arms of one data configuration share it."""
        train = config.train
        data_key = (
            config.data,
            config.model.image_hw,
            train.batch_size,
            train.epochs,
            train.label_smoothing,
            config.seed,
        )
        if data_key not in self._data:
            self._data[data_key] = self.open_data(config)
        return self._data[data_key]

    def batches(self, config: RunConfig, number: int = STEPS) -> list[tuple[Tensor, Tensor]]:
        """The first batches of training, augmented, each of as many images as are tried; fewer where the run ends before."""
        data, images = self.data(config), self.images_tried(config)
        number, batches = min(number, max(data.num_steps, 1)), list[tuple[Tensor, Tensor]]()
        for epoch in range(math.ceil(number / data.steps_per_epoch)):
            last = min(number - len(batches), data.steps_per_epoch)
            batches += [(x[:images], y[:images]) for x, y in islice(data.augmented_batches(epoch, 0, last), last)]
        return batches

    def images_tried(self, config: RunConfig) -> int:
        """The batch size, or as much of it as a step of MOST_FLOPS takes."""
        batch_size = config.train.batch_size
        if self.device.torch_device.type != "cpu":
            return batch_size
        try:
            affordable = int(MOST_FLOPS // max(training_flops_per_image(config.model), 1))
        except ValueError:  # what cannot be built is told where it is built
            affordable = batch_size
        return batch_size if batch_size <= 4 else max(4, min(batch_size, affordable - affordable % 2))

    def evaluated(self, config: RunConfig) -> Tensor:
        """Test images, normalised."""
        return self.data(config).evaluated_batch(min(EVALUATED, 4 * self.images_tried(config)))

    def precision(self, config: RunConfig) -> str:
        return self.device.resolve_precision(config.train.precision)

    def autocast(self, config: RunConfig) -> AbstractContextManager[object]:
        return self.device.autocast(self.precision(config))

    def model(self, config: RunConfig, *, moved: bool = False) -> nn.Module:
        """Before its first step; `moved`: at other weights, which have nothing special to them."""
        model: nn.Module = self.build(config, config.seed)
        return move(model) if moved else model

    def trained(self, config: RunConfig) -> tuple[nn.Module, torch.optim.Optimizer, dict[str, nn.Parameter]]:
        """(the model, its optimizer, the parameters that are trained, by name), as a run has them before its first step."""
        model = install(self.model(config)).train()
        freeze(model, config.train)
        optimizer = build_optimizer(model, config.train)
        return model, optimizer, {name: p for name, p in model.named_parameters() if p.requires_grad}

    def exact(self, config: RunConfig, images: Tensor, *, moved: bool = False) -> tuple[nn.Module, Tensor, float]:
        """(the model, images, relative tolerance): in float64, or where a user's code cannot, in float32. Evaluation mode."""
        model = self.model(config, moved=moved).double().eval()
        try:
            with torch.no_grad():
                model(images[:2].double())
        except Exception:  # code that names float32 itself; in float32 it is known to work
            return self.model(config, moved=moved).eval(), images, 1e-4
        return model, images.double(), 1e-9


@torch.no_grad()
def move(model: nn.Module) -> nn.Module:
    """Adds noise, keyed by name, to all parameters."""
    for name, parameter in model.named_parameters():
        generator = torch.Generator().manual_seed(key(0, f"check.{name}"))
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
        parameter.add_(MOVED * noise.to(parameter.device, parameter.dtype))
    return model


def differ(a: Tensor, b: Tensor, tolerance: float) -> bool:
    """Whether two tensors differ by more than `tolerance` times the largest value."""
    scale = max(a.abs().max().item(), b.abs().max().item(), 1e-30)
    return not bool((a - b).abs().max().item() <= tolerance * scale)


def shuffled(images: Tensor, config: RunConfig) -> Tensor:
    """The same images, their patches in another order; of another model than a ViT, their quarters."""
    height, width = images.shape[-2:]
    patch = config.model.patch_hw if isinstance(config.model, ViTConfig) else (max(height // 2, 1), max(width // 2, 1))
    rows, columns = height // patch[0], width // patch[1]
    tiles = images[..., : rows * patch[0], : columns * patch[1]]
    tiles = tiles.unflatten(-1, (columns, patch[1])).unflatten(-3, (rows, patch[0])).transpose(-3, -2)
    flat = tiles.flatten(-4, -3)
    order = torch.randperm(rows * columns, generator=torch.Generator().manual_seed(1)).to(images.device)
    back = flat[..., order, :, :].unflatten(-3, (rows, columns)).transpose(-3, -2)
    moved: Tensor = images.clone()
    moved[..., : rows * patch[0], : columns * patch[1]] = back.flatten(-4, -3).flatten(-2, -1)
    return moved
