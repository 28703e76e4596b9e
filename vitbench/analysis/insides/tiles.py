"""How do images become rows of tiles, with a scale of colours beside them?"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from vitbench.analysis.writing.drawing import PALE, WIDTH
from vitbench.analysis.writing.glyphs import brief

SEQUENTIAL = "viridis"
"""Of even lightness steps, and legible to the colour-blind (van der Walt and Smith 2015)."""
DIVERGING = "RdBu_r"
"""White in the middle; red against blue is seen by all but the rarest of eyes."""

LONGEST_NAME = 14
"""Letters of a class's name above a picture."""


def array(values: Any) -> NDArray[np.float64]:
    """Nested lists of numbers, None for those that are not there (NaN)."""
    return np.array(values, dtype=np.float64)


def picture(png: str) -> NDArray[np.uint8]:
    """A PNG in base64 as [H, W, 3] or, where it is grey, [H, W]."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))


@dataclass(frozen=True)
class Tiles:
    """Equal cells in rows and columns, in inches; placed by hand, since finding room for a hundred axes takes seconds.

    `aspect`: height ÷ width of a cell; `left` is room for names of rows, `above` for titles of each row.
    """

    rows: int
    columns: int
    aspect: float = 1.0
    left: float = 0.1
    right: float = 0.1
    above: float = 0.1
    gap: float = 0.14
    widest: float = 2.0

    @property
    def width(self) -> float:
        return min(self.widest, (WIDTH - self.left - self.right - self.gap * (self.columns - 1)) / self.columns)

    @property
    def row_height(self) -> float:
        return self.width * self.aspect + self.above

    @property
    def height(self) -> float:
        return self.rows * self.row_height + 0.1

    def axes(self, figure: Figure) -> NDArray[Any]:
        """[rows, columns], in the lower `height` inches of the figure."""
        figure.set_layout_engine("none")
        total, cells = figure.get_figheight(), np.empty((self.rows, self.columns), dtype=object)
        for row, column in np.ndindex(cells.shape):
            left, bottom = self.left + column * (self.width + self.gap), self.height - (row + 1) * self.row_height
            box = (left / WIDTH, bottom / total, self.width / WIDTH, self.width * self.aspect / total)
            cells[row, column] = figure.add_axes(box)
        return cells

    def scale(self, figure: Figure, label: str, *, color_map: str, scale: Normalize) -> None:
        """A bar of colours at the right of all rows, with its unit, in the `right` inches."""
        total = figure.get_figheight()
        left = self.left + self.columns * (self.width + self.gap)
        box = (left / WIDTH, 0.1 / total, 0.12 / WIDTH, (self.height - 0.1 - self.above) / total)
        _bar(figure.colorbar(ScalarMappable(scale, color_map), cax=figure.add_axes(box), label=label))


def show(axes: Axes, image: NDArray[Any], *, color_map: str = "gray", scale: Normalize | None = None) -> None:
    """A framed image of square cells, without ticks; pixels are uint8."""
    norm = Normalize(0, 255) if image.dtype == np.uint8 else scale
    axes.imshow(image, cmap=color_map, norm=norm, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set(color=PALE, linewidth=0.6)


def scale_beside(
    figure: Figure, panels: Sequence[Axes] | Axes, label: str, *, color_map: str, scale: Normalize
) -> None:
    """A bar of colours, with its unit."""
    _bar(figure.colorbar(ScalarMappable(scale, color_map), ax=panels, label=label, fraction=0.03, pad=0.015, aspect=30))


def _bar(bar: Colorbar) -> None:
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=9)


def verdict(image: Mapping[str, Any]) -> str:
    """The class of a shown image, and beneath it an arrow to what it was taken for, where that is another."""
    label, predicted = (brief(image[key], LONGEST_NAME) for key in ("label", "predicted"))
    return f"{label}\n" if image["label"] == image["predicted"] else f"{label}\n→ {predicted}"
