"""Which position embedding carries over to other image sizes?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from vitbench.config import Size, ViTConfig, size_text, square_as_int
from vitbench.studies import Arm, Study

POSITIONS: dict[str, dict[str, Any]] = {
    "1-D": {"position": "learned_1d"},
    "sincos": {"position": "sincos_2d"},
    "RoPE": {"position": "rope_2d", "position_site": "every_layer"},
    "relative": {"position": "relative", "position_site": "every_layer"},
}
"""A learned and a fixed table at the stem; rotations, and learned tables of offsets, in every layer."""
SCALES = (0.75, 1.0, 1.5, 2.0)
"""Of the grid of patches: images of 24, 32, 48 and 64 pixels, where those pretrained on have 32."""
WITH_COORDINATES = ("sincos", "RoPE")
"""What has coordinates in place of tables. At another size these go on at one step a patch, or are rescaled to the grid of
the pretraining, as tables are."""
FINE_TUNING = 0.25
"""Of the pretraining's epochs."""


def pretrained(base: ViTConfig, position: str) -> Arm:
    """Trained and evaluated at the base's image size."""
    size = f"{size_text(base.image_size)} px"
    return Arm(f"{position}, {size}", levels={"position": position, "image size": size}, **POSITIONS[position])


def arms(base: ViTConfig) -> Sequence[Arm]:
    """For each position embedding: pretrained; evaluated at other sizes as it is, with coordinates rescaled too where it has
    any; fine-tuned at every size.

    Patches keep their pixels, so that other sizes have other grids, to which position tables are resampled
    (`vitbench.models.resize`). Fine-tuning has the recipe, learning rate and warm-up of the pretraining, for fewer epochs.
    """
    return [arm for position in POSITIONS for arm in _of(base, position)][1:]


def _of(base: ViTConfig, position: str) -> Iterator[Arm]:
    first = pretrained(base, position)
    yield first
    for (epochs, ending), size in product(((0.0, ""), (FINE_TUNING, ", fine-tuned")), image_sizes(base)):
        if not epochs and size == base.image_size:
            continue
        level = f"{size_text(size)} px{ending}"
        levels = {"position": position, "image size": level}
        changes = {**POSITIONS[position], "image_size": size}
        yield Arm(f"{position}, {level}", start=first.name, epochs=epochs, levels=levels, **changes)
        if not epochs and position in WITH_COORDINATES:
            name = f"{position} rescaled"
            levels = {**levels, "position": name}
            changes["position_grid"] = base.grid
            yield Arm(f"{name}, {level}", start=first.name, epochs=0, levels=levels, **changes)


def image_sizes(base: ViTConfig) -> list[Size]:
    """Image sizes in pixels, ascending, whose grids are nearest to `SCALES` times the base's; each once."""
    sizes = dict.fromkeys(
        tuple(max(1, round(scale * cells)) * pixel for cells, pixel in zip(base.grid, base.patch_hw, strict=True))
        for scale in SCALES
    )
    return [square_as_int(size) for size in sizes]


STUDY = Study(
    question="Which position embedding carries over to other image sizes, as it is and fine-tuned?",
    source="Dosovitskiy et al. 2021, section 3.2; Touvron et al. 2019; Heo et al. 2024",
    baseline=lambda base: pretrained(base, next(iter(POSITIONS))),
    arms=arms,
    within=("image size",),
)
