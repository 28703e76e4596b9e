"""Patches of pixels or of a ResNet's feature map?"""

from collections.abc import Sequence
from math import log

from vitbench.config import ViTConfig
from vitbench.profiling import count
from vitbench.studies.base import Arm, Study


def arms(base: ViTConfig) -> Sequence[Arm]:
    """The ResNet stem on the encoder as it is, and one with the stem's MACs taken from the encoder's depth.

    The stem has as many stages as its stride allows, the first convolution a stride of 1, 2 or 4 (the paper's) for
    small, middling and large images; its width is that of the paper in proportion, 64 at width 768.
    """
    if base.stem != "patch":
        raise ValueError(
            f"stem {base.stem!r} of the base variant is what this study varies; choose one of plain patches"
        )
    stride = base.patch_hw[0]
    powers_of_two = stride & -stride
    if powers_of_two != stride:
        raise ValueError(
            f"patch_size {stride}: a ResNet stem halves its map and so needs a power of two; choose a --variant "
            "with such a patch size"
        )
    first = 4 if stride >= 16 else min(stride, 2)
    num_stages = (stride // first).bit_length()
    stem = {
        "stem": "resnet",
        "stem_layers": (1,) * num_stages,
        "stem_width": max(8, round(64 * base.width / 768 / 8) * 8),
    }
    target = count(base).macs
    depth = min(range(1, base.depth + 1), key=lambda d: abs(log(count(base.replace(depth=d, **stem)).macs / target)))
    equal = Arm("ResNet stem, equal MACs", depth=depth, **stem)
    return [equal] if depth == base.depth else [equal, Arm("ResNet stem, equal depth", **stem)]


STUDY = Study(
    question="Does a convolutional stem help, at about equal MACs?",
    source="Dosovitskiy et al. 2021, section 4.4 and Figure 5",
    baseline=Arm("patch stem", stem="patch"),
    arms=arms,
)
