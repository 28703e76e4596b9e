"""Which designs keep their accuracy on test images that are distorted?"""

from collections.abc import Sequence

from vitbench.config import DISTORTIONS, ViTConfig
from vitbench.studies import Arm, Study
from vitbench.studies.hybrid import depth_of_equal_macs


def arms(base: ViTConfig) -> Sequence[Arm]:
    """Pooling, position embeddings, and where the patch allows it, a convolutional stem at about equal MACs."""
    stem = {"stem": "conv", "stem_width": max(8, 2 * base.width // base.patch_hw[0])}
    return [
        Arm("gap", pool="gap"),
        Arm("no position", position="none"),
        Arm("2-D", position="learned_2d"),
        Arm("sincos", position="sincos_2d"),
        Arm("RoPE", position="rope_2d", position_site="every_layer"),
        Arm("relative, shared", position="relative", position_site="every_layer_shared"),
        *([Arm("conv stem, equal MACs", depth=depth_of_equal_macs(base, stem), **stem)] if _has_stem(base) else []),
    ]


def _has_stem(base: ViTConfig) -> bool:
    """Whether a stack of convolutions, each of which halves its map, can stand in place of the patches."""
    side = base.patch_hw[0]
    return base.stem == "patch" and side > 1 and side & (side - 1) == 0


def left_out(base: ViTConfig) -> Sequence[str]:
    return [] if _has_stem(base) else ["no convolutional stem, which needs plain patches of 2, 4, 8, … pixels"]


STUDY = Study(
    question="What does accuracy hide: which designs bear shifts, noise, and patches that are shuffled or dropped?",
    source="Naseer et al. 2021; Bhojanapalli et al. 2021; Hendrycks and Dietterich 2019",
    baseline=Arm("class token, 1-D", pool="cls", position="learned_1d"),
    arms=arms,
    left_out=left_out,
    evaluate=tuple(DISTORTIONS),
)
