"""Users' parts, one for every role, as a study file has them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitbench.config import ViTConfig
from vitbench.models import MLP, Attention


class PixelStem(nn.Module):
    """Pixels of a patch through two linear layers."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.patch_hw = config.patch_hw
        self.first = nn.Linear(config.in_channels * config.patch_hw[0] * config.patch_hw[1], config.width)
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, images: Tensor) -> Tensor:
        patches = F.unfold(images, self.patch_hw, stride=self.patch_hw).transpose(1, 2)
        return self.proj(self.first(patches).relu())


class ConditionalPosition(nn.Module):
    """A depth-wise 3×3 convolution over the patches, before the second block (Chu et al. 2021)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.grid, self.prefix = config.grid, config.num_prefix_tokens
        self.conv = nn.Conv2d(config.width, config.width, 3, padding=1, groups=config.width)

    def forward(self, tokens: Tensor, block: int) -> Tensor:
        if block != 1:
            return tokens
        prefix, patches = tokens[:, : self.prefix], tokens[:, self.prefix :]
        image = patches.transpose(1, 2).unflatten(2, self.grid)
        return torch.cat([prefix, patches + self.conv(image).flatten(2).transpose(1, 2)], dim=1)


class BiasAndRotation(nn.Module):
    """A learned bias per head and block, and queries and keys whose prefix tokens are turned around."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.prefix = config.num_prefix_tokens
        self.bias = nn.Parameter(torch.randn(config.depth, config.num_heads, config.num_tokens, config.num_tokens))

    def attention_bias(self, q: Tensor, block: int) -> Tensor:
        return self.bias[block]

    def rotate(self, x: Tensor, block: int) -> Tensor:
        return torch.cat([-x[:, :, : self.prefix], x[:, :, self.prefix :]], dim=2)


class ReLUAttention(Attention):
    """Weights are max(logits, 0) over the number of tokens (Wortsman et al. 2023)."""

    def mix(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        return ((logits if bias is None else logits + bias).relu() / k.shape[-2]) @ v


class MeanAttention(nn.Module):
    """Every token gets the mean of all; no parameters but the projection's."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x.mean(dim=1, keepdim=True).expand_as(x))


class ShiftedMLP(MLP):
    """An MLP that also sees the token before."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + x.roll(1, dims=1))


class OneLayer(nn.Module):
    """A linear layer in place of the MLP, with nothing of ours."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.layer = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class ScaleNorm(nn.Module):
    """Divided by the root mean square, times one learned number, which starts at 2."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x * x.square().mean(dim=-1, keepdim=True).add(1e-6).rsqrt()


class WeightedPool(nn.Module):
    """Weighted by a softmax over all tokens."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.score = nn.Linear(config.width, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        return (self.score(tokens).softmax(dim=1) * tokens).sum(dim=1)


def squared_relu(x: Tensor) -> Tensor:
    return x.relu().square()


class Snake(nn.Module):
    """x + sin²(a x)/a, a learned."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.a * x).sin().square() / self.a


class CosineHead(nn.Module):
    """Cosines with class vectors; it starts them itself, at ±1."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.classes = nn.Parameter(torch.empty(config.num_classes, config.width))

    def init_weights(self) -> None:
        self.classes.copy_(torch.randn(self.classes.shape).sign())

    def forward(self, features: Tensor) -> Tensor:
        return F.normalize(features, dim=-1) @ F.normalize(self.classes, dim=-1).T


EVERY_PART = {
    "stem": PixelStem,
    "position": ConditionalPosition,
    "attention": ReLUAttention,
    "mlp": ShiftedMLP,
    "norm": ScaleNorm,
    "activation": Snake,
    "pool": WeightedPool,
    "head": CosineHead,
}
OTHERS = [
    ("position", BiasAndRotation),
    ("attention", MeanAttention),
    ("mlp", OneLayer),
    ("activation", squared_relu),
]
PARTS = [*EVERY_PART.items(), *OTHERS]


class TinyModel(nn.Module):
    """A whole model: a convolution, a mean, a linear layer."""

    def __init__(self, image_size: int, in_channels: int, num_classes: int, *, channels: int = 8) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.classifier = nn.Linear(channels, num_classes)

    def features(self, images: Tensor) -> Tensor:
        return self.conv(images).relu().mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))
