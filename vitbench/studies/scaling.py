"""Which part of a ViT is worth making larger?"""

from __future__ import annotations

from collections.abc import Sequence

from vitbench.config import ViTConfig, size_text, square_as_int
from vitbench.studies import Arm, Study

FACTORS = (0.25, 0.5, 2)
PATCH_FACTORS = (0.5, 2)
"""A patch of a quarter the side has 16 times the tokens, and up to 256 times the attention."""


def arms(base: ViTConfig) -> Sequence[Arm]:
    """Depth, width (with as many heads more) and MLP at a quarter, half and twice the base's, and patches of half and twice
    the side, each alone, where that has a meaning. Drop path needs two blocks.
    """
    arms = []
    for factor in FACTORS:
        depth, width = base.depth * factor, base.width * factor
        if depth >= (2 if base.drop_path else 1) and depth == int(depth):
            arms.append(Arm(f"depth {int(depth)}", depth=int(depth)))
        if width == int(width) and int(width) % base.head_dim == 0:
            arms.append(Arm(f"width {int(width)}", width=int(width), num_heads=int(width) // base.head_dim))
        patch = tuple(side * factor for side in base.patch_hw)
        if factor in PATCH_FACTORS and all(
            p == int(p) and size % int(p) == 0 for p, size in zip(patch, base.image_hw, strict=True)
        ):
            size = int(patch[0]), int(patch[1])
            arms.append(Arm(f"patch {size_text(size)}", patch_size=square_as_int(size)))
        arms.append(Arm(f"MLP {base.mlp_ratio * factor:g}×", mlp_ratio=base.mlp_ratio * factor))
    return arms


STUDY = Study(
    question="What is accuracy's exchange rate with FLOPs when depth, width, patch or MLP grows alone?",
    source="Dosovitskiy et al. 2021, appendix D.2 and Figure 8",
    baseline=Arm("base"),
    arms=arms,
)
