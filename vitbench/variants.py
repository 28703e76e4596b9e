"""Which sizes do names stand for? `B/16`, `R50+B/16`, `C+S/16`, and micro sizes for images of 8 to 64 pixels.

Imports no torch.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any

from vitbench.config import ModelConfig, TimmConfig, ViTConfig

SIZES: dict[str, dict[str, float]] = {
    # Micro sizes: ours, for images of 8 to 64 pixels; heads of 32 channels, MLPs of ratio 2 (Hassani et al. 2021).
    "Nano": {"width": 32, "depth": 3, "num_heads": 1, "mlp_ratio": 2.0},
    "Micro": {"width": 64, "depth": 4, "num_heads": 2, "mlp_ratio": 2.0},
    "Mini": {"width": 96, "depth": 6, "num_heads": 3, "mlp_ratio": 2.0},
    "Small32": {"width": 192, "depth": 6, "num_heads": 3},
    # Ti and S: Touvron et al. 2021 (DeiT), Table 1. B, L and H: Dosovitskiy et al. 2021, Table 1.
    "Ti": {"width": 192, "depth": 12, "num_heads": 3},
    "S": {"width": 384, "depth": 12, "num_heads": 6},
    "B": {"width": 768, "depth": 12, "num_heads": 12},
    "L": {"width": 1024, "depth": 24, "num_heads": 16},
    "H": {"width": 1280, "depth": 32, "num_heads": 16},
}
PATCHES = (8, 14, 16, 32)
"""Patch sizes under which `vitbench list` names the full sizes; any patch size that divides the image is accepted."""

STEM_LAYERS: dict[tuple[str, int], tuple[int, ...]] = {
    # R26 is (2, 2, 2, 2) at stride 32 (Steiner et al. 2021); R50 is (3, 4, 6, 3) at stride 32, and at stride 16
    # the layers of stage 4 move to stage 3 (Dosovitskiy et al. 2021, section 4.1). R is the first convolution and pooling
    # alone (Steiner et al. 2021).
    ("R", 16): (),
    ("R26", 32): (2, 2, 2, 2),
    ("R50", 16): (3, 4, 9),
    ("R50", 32): (3, 4, 6, 3),
}
HYBRIDS = ("R+Ti/16", "R26+S/32", "R50+B/16", "R50+L/32")
CONV_STEMS = ("C+Ti/16", "C+S/16")
"""With the stems of ViT_C-1GF and ViT_C-4GF (Xiao et al. 2021). Any size takes one, with a power of two for a patch."""

_NAME = re.compile(r"(?:(?P<stem>C|R\d*)\+)?(?P<size>[A-Za-z0-9]+)/(?P<patch>\d+)", re.ASCII)


def variant_names() -> list[str]:
    """The names that `vitbench list` shows. Micro sizes take any patch size: `Micro/2`, `Mini/4`."""
    full = [f"{size}/{patch}" for size in ("Ti", "S", "B", "L", "H") for patch in PATCHES]
    micro = ["Nano/2", "Micro/2", "Micro/4", "Mini/4", "Small32/4"]
    return [*micro, *full, *CONV_STEMS, *HYBRIDS]


def variant(name: str, **changes: Any) -> ViTConfig:
    """The configuration that `name` stands for, with `changes` on top.

    Raises ValueError for a name that stands for nothing.
    """
    match = _NAME.fullmatch(name)
    if match is None or match["size"] not in SIZES:
        raise ValueError(f"unknown variant {name!r}; {_hint(name)}")
    fields: dict[str, Any] = {**SIZES[match["size"]], "patch_size": int(match["patch"])}
    if match["stem"] == "C":
        fields |= _conv_stem(**fields)
    elif match["stem"]:
        layers = STEM_LAYERS.get((match["stem"], int(match["patch"])))
        if layers is None:
            raise ValueError(f"unknown variant {name!r}; the ResNet stems are {', '.join(HYBRIDS)}")
        fields |= {"stem": "resnet", "stem_layers": layers}
        if not layers:
            # Its authors and timm name it /16, though its patches are 8 × 8 on a map of stride 4.
            fields["patch_size"] = 32
    if fields["patch_size"] < 8 and "image_size" not in changes:
        fields["image_size"] = 32  # a patch this small is meant for small images; 224 would be thousands of tokens
    if "image_size" not in fields | changes and 224 % fields["patch_size"]:
        raise ValueError(
            f"unknown variant {name!r}: patch_size {fields['patch_size']} does not divide 224; give image_size"
        )
    return ViTConfig.model_validate({**fields, **changes})


TIMM = "timm:"
"""Prefix of timm's names."""


def model(name: str, **fields: Any) -> ModelConfig:
    """The configuration of a variant of ours; or for `timm:NAME`, of a model of timm, whose arguments are `options`.

    Raises ValueError for a name that stands for nothing; timm's names are checked when models are built.
    """
    if name.startswith(TIMM):
        return TimmConfig(timm=name.removeprefix(TIMM), **fields)
    if "options" in fields:
        raise ValueError(
            f"model_kwargs {fields['options']} are for a {TIMM}NAME; {name!r} has fields, as options of their own"
        )
    return variant(name, **fields)


def _conv_stem(*, width: int, depth: int, patch_size: int, **_: float) -> dict[str, Any]:
    """The stem of `C+SIZE/PATCH`, which takes the place of one block (Xiao et al. 2021).

    Its log2(patch_size) layers double their channels up to the width: 24, 48, 96, 192 for Ti/16 and 48, 96, 192, 384
    for S/16, as in the paper; none has fewer than 8. MACs at 224 pixels: C+Ti/16 −1.4 %, C+S/16 −0.02 %, B, L and H
    at /16 and /32 up to +2.1 %. In micro sizes and at smaller patches a block costs more than the stem.
    """
    layers = max(patch_size.bit_length() - 1, 1)
    return {"stem": "conv", "stem_width": max(8, width // 2 ** (layers - 1)), "depth": depth - 1}


def _hint(name: str) -> str:
    names = {known.lower(): known for known in variant_names()}
    close = [names[known] for known in get_close_matches(name.lower(), names, n=3, cutoff=0.5)]
    return f"did you mean {' or '.join(close)}?" if close else f"a size ({', '.join(SIZES)}), a slash and a patch size"
