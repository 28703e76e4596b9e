"""Users' parts and models with one fault each, which `vitbench check` must name; a study file gives them to arms."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitbench.config import ViTConfig
from vitbench.models import MLP


class IgnoringMLP(MLP):
    """Gives its bias, whatever comes."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2.bias.expand_as(x) + 0 * x.detach()


class UnusedToken(nn.Module):
    """Has a token that nothing reads."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(config.num_tokens, config.width))
        self.token = nn.Parameter(torch.randn(1, config.width))

    def forward(self, tokens: Tensor, block: int) -> Tensor:
        return tokens + self.table if block == 0 else tokens


class UnusedRow(nn.Module):
    """A table with a row too many."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(config.num_tokens + 1, config.width))

    def forward(self, tokens: Tensor, block: int) -> Tensor:
        return tokens + self.table[:-1] if block == 0 else tokens


class NoPosition(nn.Module):
    """Adds the same to every token, wherever it is."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.randn(config.width))

    def forward(self, tokens: Tensor, block: int) -> Tensor:
        return tokens + self.shift


class DoesNothing(nn.Module):
    """A position that leaves tokens as they are: it is the convolutions of the stem that know where a patch is."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()

    def forward(self, tokens: Tensor, block: int) -> Tensor:
        return tokens


class DrawsInEvaluation(MLP):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + 0.01 * torch.randn_like(x))


class DrawsFromNumpy(MLP):
    """In training alone, but from a generator that no step seeds."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1 + 0.1 * float(np.random.rand()) if self.training else 1)


class DrawsFromPython(MLP):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1 + 0.1 * random.random() if self.training else 1)


class SeedsTorch(MLP):
    """Every step drops the same."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            torch.manual_seed(0)
            x = nn.functional.dropout(x, 0.1)
        return super().forward(x)


class DrawsFromNowhere(MLP):
    """Another model each time that it is built."""

    def __init__(self, config: ViTConfig, **options: Any) -> None:
        super().__init__(config, **options)
        self.register_buffer("noise", torch.from_numpy(np.random.default_rng().normal(size=config.width)).float())

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + self.noise)


class OneBatchSize(nn.Module):
    """Works with 64 images alone."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.width = config.width

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens.reshape(64, -1, self.width).mean(dim=1)


class SeesNeighbours(nn.Module):
    """Less the mean of the batch."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()

    def forward(self, tokens: Tensor) -> Tensor:
        pooled = tokens.mean(dim=1)
        return pooled - pooled.mean(dim=0)


class SeesNeighboursInTraining(nn.Module):
    """As BatchNorm does, but without being one."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()

    def forward(self, tokens: Tensor) -> Tensor:
        pooled = tokens.mean(dim=1)
        return pooled - pooled.mean(dim=0) if self.training else pooled


class TwiceInTraining(MLP):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (2 if self.training else 1)


class EvenBatches(MLP):
    """Pairs images, but for one alone."""

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 1 and len(x) % 2:
            raise RuntimeError("images come in pairs")
        return super().forward(x)


class LostInBF16(MLP):
    """1 + 1/1000 is 1 in bf16."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        one = y.new_ones(())
        return y * 1e-3 / (one + 1e-3 - one)


class OtherWidth(nn.Module):
    def __init__(self, config: ViTConfig) -> None:
        super().__init__()

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens.mean(dim=1)[:, :-1]


class WrongShapes(nn.Module):
    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.project = nn.Linear(config.width + 1, config.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(x)


class FixedRatioMLP(MLP):
    """Reads no `mlp_ratio`."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config.replace(mlp_ratio=2.0))


class KeepsItsState(nn.Module):
    """A running mean that no checkpoint has."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.mean = torch.zeros(config.width)

    def forward(self, tokens: Tensor) -> Tensor:
        pooled = tokens.mean(dim=1)
        if self.training:
            self.mean = 0.9 * self.mean.to(pooled) + 0.1 * pooled.detach().mean(dim=0)
        return pooled - self.mean.to(pooled)


class ReZero(MLP):
    """A good part: its branch starts at zero, so that the layers within get their gradient later (Bachlechner et al. 2021)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.gate * super().forward(x)


class BatchNorm(nn.Module):
    """A good part, in which images depend on each other in training alone."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(config.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.transpose(1, 2)).transpose(1, 2) if x.ndim == 3 else self.norm(x)


class WholeModel(nn.Module):
    """A good model, one of whose options it does not read."""

    def __init__(self, image_size: int, in_channels: int, num_classes: int, channels: int = 8, unread: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.conv(images).relu().mean(dim=(2, 3)))


class WrongLogits(WholeModel):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images)[:, 1:]


class Plain(nn.Module):
    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config


class LostBias(Plain):
    """A logarithm of negative values."""

    def attention_bias(self, q: Tensor, block: int) -> Tensor:
        return torch.log(-(q @ q.transpose(-2, -1)).square())


class NothingSeen(Plain):
    """A mask that leaves the first token nothing to attend to."""

    def attention_bias(self, q: Tensor, block: int) -> Tensor:
        mask = q.new_zeros(q.shape[2], q.shape[2])
        mask[0] = -torch.inf
        return mask


class Neighbourhood(Plain):
    """A good part: a token sees itself and the next."""

    def attention_bias(self, q: Tensor, block: int) -> Tensor:
        seen = torch.eye(q.shape[2], dtype=torch.bool, device=q.device)
        return q.new_zeros(seen.shape).masked_fill(~(seen | seen.roll(1, dims=1)), -torch.inf)


class LostTurn(Plain):
    def rotate(self, x: Tensor, block: int) -> Tensor:
        return x / (x - x)


def lost(x: Tensor) -> Tensor:
    return x.log()


class LostBeforeLogits(nn.Linear):
    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config.width, config.num_classes)

    def pre_logits(self, pooled: Tensor) -> Tensor:
        return pooled / 0


class Logarithm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.log()


class LostLayerBeforeLogits(nn.Linear):
    """Has a layer of this name, in place of a method."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config.width, config.num_classes)
        self.pre_logits = Logarithm()


class LostInTraining(MLP):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / (0 if self.training else 1)


class LostInEvaluation(MLP):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / (1 if self.training else 0)


class LostPool(Plain):
    def forward(self, tokens: Tensor) -> Tensor:
        return tokens.mean(dim=1) / 0


class RefusesNaN(Plain):
    def forward(self, tokens: Tensor) -> Tensor:
        if tokens.isnan().any():
            raise RuntimeError("NaN")
        return tokens.mean(dim=1)


class LostModel(WholeModel):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) / 0


class Counts(MLP):
    """Another function at every call."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) * self.calls


class LostMLP(MLP):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 0


class LostOnceMoved(MLP):
    """The root of a gate that starts at zero."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config)
        self.gate = nn.Parameter(torch.zeros(config.width))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + (self.gate + 1e-3).sqrt()


class DrawsInTraining(MLP):
    """Noise is added in training."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y + 0.01 * torch.randn_like(y) if self.training else y


class DrawsAtTheEnd(Plain):
    """After all that drops."""

    def forward(self, tokens: Tensor) -> Tensor:
        pooled = tokens.mean(dim=1)
        return pooled + 0.01 * torch.randn_like(pooled) if self.training else pooled
