"""What the comparators that studies ship cost by closed form: pre-activation ResNets of basic blocks, and MLP-Mixers.

By the conventions of `macs`. Imports no torch; `counters` measures the same on a built model.
"""

from __future__ import annotations

from math import ceil
from typing import Any

from vitbench.config import TimmConfig, as_pair
from vitbench.costs.counts import Counts, convolution, linear

RESNETS = ("resnetv2.ResNetV2", "resnetv2_18")
"""With GroupNorm and weight-standardised convolutions (BiT: Kolesnikov et al. 2020), and with BatchNorm and plain ones."""
MIXER = "mlp_mixer.MlpMixer"
_RESNET_OPTIONS = {"layers", "channels", "stem_chs", "basic", "bottle_ratio"}
_MIXER_OPTIONS = {"patch_size", "num_blocks", "embed_dim"}


def closed_form(config: TimmConfig) -> Counts | None:
    """Counts for one image; None for models, and options, that are not worked out here or have no meaning."""
    options = config.options
    try:
        if config.timm == MIXER and set(options) == _MIXER_OPTIONS:
            return _mixer(config, **options)
        if config.timm in RESNETS and {"layers", "channels", "stem_chs"} <= set(options) <= _RESNET_OPTIONS:
            basic = {"basic": True, "bottle_ratio": 1.0}
            if config.timm == "resnetv2_18" or basic.items() <= options.items():
                return _resnet(config, **{name: options[name] for name in ("layers", "channels", "stem_chs")})
    except (TypeError, ValueError, ArithmeticError):  # layers=3, patch_size=0: timm, which is asked next, says so
        pass
    return None


def _resnet(config: TimmConfig, *, layers: list[int], channels: list[int], stem_chs: int) -> Counts:
    """A 7×7 convolution and a pooling of stride 2 each, stages of two 3×3 convolutions a block, all but the first of stride 2.

    A block whose input has another size or width projects it by 1×1. Norms come before convolutions, and before pooling.
    """
    height, width = (ceil(ceil(side / 2)) for side in config.image_hw)
    total = _convolution(config.in_channels, stem_chs, kernel=7, positions=height * width)
    height, width = ceil(height / 2), ceil(width / 2)
    before = stem_chs
    for stage, (num_blocks, out) in enumerate(zip(layers, channels, strict=True)):
        if stage:
            height, width = ceil(height / 2), ceil(width / 2)
        positions = height * width
        for block in range(num_blocks):
            if block == 0 and (stage or before != out):
                total += _convolution(before, out, kernel=1, positions=positions)
            for inputs in (before, out):
                total += Counts(params=2 * inputs)
                total += _convolution(inputs, out, kernel=3, positions=positions)
            before = out
    return total + Counts(params=2 * before) + linear(before, config.num_classes, positions=1)


def _convolution(inputs: int, outputs: int, *, kernel: int, positions: int) -> Counts:
    """Without the norm that belongs to it elsewhere."""
    return convolution(inputs, outputs, kernel=kernel, positions=positions) + Counts(params=-2 * outputs)


def _mixer(config: TimmConfig, *, patch_size: Any, num_blocks: int, embed_dim: int) -> Counts:
    """Each block mixes over tokens with half as many hidden units as channels, and over channels with four times as many."""
    (rows, columns), (height, width) = config.image_hw, as_pair(patch_size)
    tokens, inputs = (rows // height) * (columns // width), config.in_channels * height * width
    total = linear(inputs, embed_dim, positions=tokens) + Counts(params=2 * embed_dim)
    hidden, wide = embed_dim // 2, 4 * embed_dim
    for _ in range(num_blocks):
        total += Counts(params=4 * embed_dim)
        total += linear(tokens, hidden, positions=embed_dim) + linear(hidden, tokens, positions=embed_dim)
        total += linear(embed_dim, wide, positions=tokens) + linear(wide, embed_dim, positions=tokens)
    return total + linear(embed_dim, config.num_classes, positions=1)
