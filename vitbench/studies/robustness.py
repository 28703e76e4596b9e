"""Which designs keep their accuracy on test images that are distorted?"""

from collections.abc import Sequence

from vitbench.config import DISTORTIONS, ViTConfig
from vitbench.studies import Arm, Study
from vitbench.studies.hybrid import depth_of_equal_macs


def arms(base: ViTConfig) -> Sequence[Arm]:
    """Pooling, position embeddings, and where patches have more than one pixel, a convolutional stem at about equal MACs."""
    stem = {"stem": "conv", "stem_width": max(8, 2 * base.width // base.patch_hw[0])}
    has_stem = base.stem == "patch" and base.patch_hw[0] > 1
    return [
        Arm("gap", pool="gap"),
        Arm("no position", position="none"),
        Arm("2-D", position="learned_2d"),
        Arm("sincos", position="sincos_2d"),
        Arm("RoPE", position="rope_2d", position_site="every_layer"),
        Arm("relative, shared", position="relative", position_site="every_layer_shared"),
        *([Arm("conv stem, equal MACs", depth=depth_of_equal_macs(base, stem), **stem)] if has_stem else []),
    ]


STUDY = Study(
    question="What does accuracy hide: which designs bear shifts, noise, and patches that are shuffled or dropped?",
    source="Naseer et al. 2021; Bhojanapalli et al. 2021; Hendrycks and Dietterich 2019",
    baseline=Arm("class token, 1-D", pool="cls", position="learned_1d"),
    arms=arms,
    evaluate=tuple(DISTORTIONS),
)
