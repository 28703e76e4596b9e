"""How many parameters and multiply–accumulates a configuration has, by closed form, without building the model.

1 MAC = 2 FLOPs. Counted: linear layers, convolutions, the two products of attention and those of relative position.
Not counted: norms, activations, softmax, pooling by mean, additions, weight standardisation. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from vitbench.config import ViTConfig


@dataclass(frozen=True)
class Counts:
    """`params` are trainable parameters; `macs` are per image, forward."""

    params: int
    macs: int

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.params + other.params, self.macs + other.macs)


def count(config: ViTConfig) -> Counts:
    """Parameters and forward MACs of the whole model for one image."""
    tokens = Counts(config.num_prefix_tokens * config.width, 0)
    norms = Counts(2 * config.width * (1 + config.pre_norm), 0)
    parts = [stem(config), tokens, position(config), norms, pool(config), head(config)]
    return sum([*parts, *[block(config)] * config.depth], Counts(0, 0))


def training_flops_per_image(config: ViTConfig) -> int:
    """Forward and backward: 3 × forward, at 2 FLOPs a MAC."""
    return 6 * count(config).macs


def linear(inputs: int, outputs: int, *, positions: int, bias: bool = True) -> Counts:
    """A linear layer applied at `positions` places."""
    return Counts(inputs * outputs + outputs * bias, positions * inputs * outputs)


def convolution(inputs: int, outputs: int, *, kernel: int, positions: int, affine_norm: bool) -> Counts:
    """A convolution without bias, evaluated at `positions` outputs, with or without a norm's scale and shift after it."""
    weights = inputs * outputs * kernel**2
    return Counts(weights + 2 * outputs * affine_norm, positions * weights)


def mlp(config: ViTConfig, *, positions: int) -> Counts:
    gates = 2 if config.activation == "swiglu" else 1
    return linear(config.width, gates * config.mlp_width, positions=positions) + linear(
        config.mlp_width, config.width, positions=positions
    )


def block(config: ViTConfig) -> Counts:
    """One encoder block, without the tables of position."""
    n, width = config.num_tokens, config.width
    qkv = linear(width, 3 * width, positions=n, bias=config.qkv_bias)
    products = Counts(0, 2 * n * n * width)
    norms = Counts(4 * width + 4 * config.head_dim * config.qk_norm, 0)
    scales = Counts(2 * width if config.layer_scale is not None else 0, 0)
    return (
        qkv
        + products
        + linear(width, width, positions=n, bias=config.proj_bias)
        + mlp(config, positions=n)
        + norms
        + scales
    )


def position(config: ViTConfig) -> Counts:
    """Position tables of the whole model, and the products of queries with relative embeddings."""
    n, width = config.num_patches, config.width
    tables = config.depth if config.position_site == "every_layer" else 1
    match config.position:
        case "learned_1d":
            return Counts(tables * (n + (config.has_class_token and config.embed_class_token)) * width, 0)
        case "learned_2d":
            return Counts(tables * sum(config.grid) * (width // 2), 0)
        case "relative":
            return Counts(tables * (2 * n - 1) * width, config.depth * n * (2 * n - 1) * width)
        case _:
            return Counts(0, 0)


def pool(config: ViTConfig) -> Counts:
    if config.pool != "map":
        return Counts(0, 0)
    n, width = config.num_patches, config.width
    query, kv = Counts(width, 0) + linear(width, width, positions=1), linear(width, 2 * width, positions=n)
    products, norm = Counts(0, 2 * n * width), Counts(2 * width, 0)
    return query + kv + products + linear(width, width, positions=1) + norm + mlp(config, positions=1)


def head(config: ViTConfig) -> Counts:
    hidden = linear(config.width, config.width, positions=1) if config.head == "mlp" else Counts(0, 0)
    return hidden + linear(config.width, config.num_classes, positions=1)


def stem(config: ViTConfig) -> Counts:
    """From pixels to patch tokens."""
    n, width = config.num_patches, config.width
    match config.stem:
        case "conv":
            return _conv_stem(config)
        case "resnet":
            return _resnet_stem(config)
        case _:
            inputs = config.in_channels * prod(config.patch_hw)
            norms = 2 * (inputs + width) if config.stem == "patch_norm" else 0
            return linear(inputs, width, positions=n, bias=not config.pre_norm) + Counts(norms, 0)


def _conv_stem(config: ViTConfig) -> Counts:
    total, channels, pixels = Counts(0, 0), config.in_channels, prod(config.image_hw)
    for i in range(config.patch_hw[0].bit_length() - 1):
        out, pixels = config.stem_width * 2**i, pixels // 4
        total += convolution(channels, out, kernel=3, positions=pixels, affine_norm=True)
        channels = out
    return total + linear(channels, config.width, positions=config.num_patches, bias=not config.pre_norm)


def _resnet_stem(config: ViTConfig) -> Counts:
    first_stride = config.patch_hw[0] // 2 ** (len(config.stem_layers) - 1)
    kernel, convolution_stride = (7, 2) if first_stride == 4 else (3, first_stride)
    pixels = prod(config.image_hw) // convolution_stride**2
    channels = config.stem_width
    total = convolution(config.in_channels, channels, kernel=kernel, positions=pixels, affine_norm=True)
    pixels = prod(config.image_hw) // first_stride**2
    for stage, num_blocks in enumerate(config.stem_layers):
        middle, out = config.stem_width * 2**stage, 4 * config.stem_width * 2**stage
        for i in range(num_blocks):
            before = pixels
            if i == 0:
                pixels = pixels // 4 if stage else pixels
                total += convolution(channels, out, kernel=1, positions=pixels, affine_norm=True)
            # The 3×3 carries the stride, so the first 1×1 still sees the larger map.
            total += convolution(channels, middle, kernel=1, positions=before, affine_norm=True)
            total += convolution(middle, middle, kernel=3, positions=pixels, affine_norm=True)
            total += convolution(middle, out, kernel=1, positions=pixels, affine_norm=True)
            channels = out
    return total + linear(channels, config.width, positions=config.num_patches, bias=not config.pre_norm)
