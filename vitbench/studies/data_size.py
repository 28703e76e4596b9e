"""Which model wins on how many images?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from math import log
from typing import Any

from vitbench.config import TimmConfig, ViTConfig
from vitbench.costs import count
from vitbench.studies import Arm, Study

BIT_RESNET, RESNET, MIXER = "ResNet (BiT)", "ResNet", "MLP-Mixer"
MOST_BLOCKS = 4
"""Of a ResNet's stage."""
BIT = {"basic": True, "bottle_ratio": 1.0}
TOLERANCE = 1.1
"""By which factor, up or down, a model's MACs may differ from the base's."""


def arms(base: ViTConfig) -> Sequence[Arm]:
    """Two ResNets and an MLP-Mixer of timm, each of the width whose MACs are nearest to the base's.

    The ResNets have pre-activation blocks of two convolutions behind timm's stem of stride 4 (7 × 7, then max-pooling). They
    have two stages, which end at stride 8, or one stage for images of up to 8 pixels. One has GroupNorm, in groups of two
    channels or more, and weight-standardised convolutions as in BiT (Kolesnikov et al. 2020), the other BatchNorm. They differ
    in nothing else: both have as many blocks, up to `MOST_BLOCKS` a stage, as bring both within a tenth of the base's MACs.
    The Mixer has the base's patches and depth (Tolstikhin et al. 2021). A model that no width brings so near is left out.
    """
    return [arm for arm in _models(base).values() if arm is not None]


def left_out(base: ViTConfig) -> list[str]:
    """A sentence for each model that cannot stand beside this base."""
    return [
        f"{name} is left out, as no width brings its MACs within a tenth of the base's"
        for name, arm in _models(base).items()
        if arm is None
    ]


def _models(base: ViTConfig) -> dict[str, Arm | None]:
    bit, plain = _resnets(base)
    shape = {"patch_size": list(base.patch_hw), "num_blocks": base.depth}
    mixers = ({**shape, "embed_dim": width} for width in range(4, 2048 + 1, 4))
    return {BIT_RESNET: bit, RESNET: plain, MIXER: _nearest(base, MIXER, "mlp_mixer.MlpMixer", mixers)}


def _resnets(base: ViTConfig) -> tuple[Arm | None, Arm | None]:
    """BiT's, and the one with BatchNorm; where no depth has both, each as deep as it can be."""
    stages = 2 if min(base.image_hw) > 8 else 1
    pairs: list[tuple[Arm | None, Arm | None]] = []
    depths = product(range(1, MOST_BLOCKS + 1), repeat=stages)
    for layers in map(list, sorted(depths, key=lambda blocks: (-sum(blocks), max(blocks), blocks))):
        bit = _nearest(base, BIT_RESNET, "resnetv2.ResNetV2", _of_widths(range(64, 513, 32), layers, BIT))
        plain = _nearest(base, RESNET, "resnetv2_18", _of_widths(range(8, 513, 8), layers, {}))
        if bit and plain:
            return bit, plain
        pairs.append((bit, plain))
    return next((bit for bit, _ in pairs if bit), None), next((plain for _, plain in pairs if plain), None)


def _of_widths(widths: Iterable[int], layers: list[int], options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for width in widths:
        channels = [width * 2**stage for stage in range(len(layers))]
        yield {"layers": layers, "channels": channels, "stem_chs": width, **options}


def _nearest(base: ViTConfig, name: str, timm: str, candidates: Iterator[dict[str, Any]]) -> Arm | None:
    """By the ratio of MACs; the first of several. None where even that is further than `TOLERANCE`."""
    shape = TimmConfig(
        timm=timm, image_size=base.image_size, in_channels=base.in_channels, num_classes=base.num_classes
    )
    target = count(base).macs

    def distance(options: dict[str, Any]) -> float:
        return abs(log(count(shape.model_copy(update={"options": options})).macs / target))

    best = min(candidates, key=distance)
    return Arm(name, timm=timm, options=best) if distance(best) <= log(TOLERANCE) else None


STUDY = Study(
    question="Which model wins on few images, and which on many, at equal MACs and as many steps?",
    source="Dosovitskiy et al. 2021, section 4.3 and Figures 3 and 4",
    baseline=Arm("ViT"),
    arms=arms,
    left_out=left_out,
    fractions=(1.0, 0.316, 0.1, 0.0316, 0.01),
    # One optimizer for all: Muon takes the linear layers of encoder blocks, which ResNets have none of.
    train={"optimizer": "adamw"},
)
