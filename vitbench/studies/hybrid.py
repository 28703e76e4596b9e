"""Patches of pixels, normalised patches, a stack of convolutions, or a ResNet's feature map?"""

from collections.abc import Sequence
from math import log
from typing import Any

from vitbench.config import ViTConfig
from vitbench.costs import count
from vitbench.studies import Arm, Study


def arms(base: ViTConfig) -> Sequence[Arm]:
    """LayerNorms around the patches' projection, and convolutional stems on an encoder with as many fewer blocks.

    The ResNet stem also stands before all blocks. It has as many stages as its stride allows, behind a first convolution of
    stride 1, 2 or 4 (the paper's), by patch size. Its width is in proportion to the paper's, 64 at width 768, and its groups
    have two channels or more, as the paper's 64 in 32. The stack of convolutions doubles its channels up to the encoder's
    width (Xiao et al. 2021). Patches of one pixel have no stack, and patches of one value no LayerNorm.
    """
    if base.stem != "patch":
        raise ValueError(
            f"stem {base.stem!r} of the base variant is what this study varies; choose one of plain patches"
        )
    stride = base.patch_hw[0]
    if stride & (stride - 1):
        raise ValueError(
            f"patch_size {stride}: a ResNet stem halves its map and so needs a power of two; choose a --variant "
            "with such a patch size"
        )
    arms = []
    if base.in_channels * base.patch_hw[0] * base.patch_hw[1] > 1:
        arms.append(Arm("patch_norm stem", stem="patch_norm"))
    if stride > 1:
        conv: dict[str, Any] = {"stem": "conv", "stem_width": max(8, base.width // (stride // 2))}
        arms.append(Arm("conv stem, equal MACs", depth=depth_of_equal_macs(base, conv), **conv))
    first = 4 if stride >= 16 else min(stride, 2)
    num_stages = (stride // first).bit_length()
    stem_width = max(8, round(64 * base.width / 768 / 8) * 8)
    resnet: dict[str, Any] = {
        "stem": "resnet",
        "stem_layers": (1,) * num_stages,
        "stem_width": stem_width,
        "stem_groups": min(32, stem_width // 2),
    }
    depth = depth_of_equal_macs(base, resnet)
    arms.append(Arm("ResNet stem, equal MACs", depth=depth, **resnet))
    if depth != base.depth:
        arms.append(Arm("ResNet stem, equal depth", **resnet))
    return arms


def depth_of_equal_macs(base: ViTConfig, stem: dict[str, Any]) -> int:
    """The depth at which the model with that stem has MACs as near to the base's as whole blocks allow."""
    target, least = count(base).macs, 2 if base.drop_path else 1
    return min(range(least, base.depth + 1), key=lambda d: abs(log(count(base.replace(depth=d, **stem)).macs / target)))


STUDY = Study(
    question="Does a convolutional stem help, at about equal MACs?",
    source="Dosovitskiy et al. 2021, section 4.4 and Figure 5; Xiao et al. 2021",
    baseline=Arm("patch stem", stem="patch"),
    arms=arms,
)
