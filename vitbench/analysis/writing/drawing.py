"""How does every figure look, and how does it become a file?"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vitbench.analysis.writing.files import MARK
from vitbench.analysis.writing.glyphs import legibly

WIDTH = 8.0
"""Inches; at 100 px per inch the width of a README's column."""
PNG_DOTS_PER_INCH = 150
SVG_IMAGE_DOTS_PER_INCH = 72
LINE = 0.19
"""Inches from one line of a heading to the next."""

INK, PALE = "#222222", "#b8b8b8"
"""Of text and of frames: every figure has a white page of its own."""
GREY = "#6b6b6b"
PALETTE = ("#0069b4", "#b0860b", "#00926b", "#c8371b", "#c063b4", "#7c604a", "#8f8f8f", "#3f9bdc")
"""Of marks and lines. Each is at least 3 : 1 on a white page and on a dark one (WCAG 2.1, 1.4.11), and apart from the others
also where red or green is not seen."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")

STYLE: dict[Any, Any] = {
    **sns.axes_style("whitegrid"),
    "font.family": ["sans-serif"],  # `glyphs.legibly` adds what its letters need
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": PALE,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": "#e6e6e6",
    "axes.formatter.useoffset": False,
    "legend.frameon": False,
    # Arm names may hold dollar signs, which are not mathematics here.
    "text.parse_math": False,
    "svg.hashsalt": "vitbench",
    "svg.fonttype": "path",
}


def headed_figure(title: str, about: str, height: float) -> Figure:
    """An empty figure with its title, a caption beneath it, and `height` inches below both."""
    titles = textwrap.wrap(title, 86)
    lines = textwrap.wrap(about, 112)
    heading = LINE * (len(titles) + len(lines)) + 0.2
    total = height + heading
    figure = Figure(figsize=(WIDTH, total))
    figure.set_layout_engine("constrained", rect=(0, 0, 1, height / total), w_pad=0.08, h_pad=0.06)
    left, top = 0.1 / WIDTH, 1 - 0.1 / total
    figure.text(left, top, "\n".join(titles), weight="bold", va="top", linespacing=1.3)
    figure.text(
        left, top - LINE * len(titles) / total, "\n".join(lines), fontsize=9, color=GREY, va="top", linespacing=1.45
    )
    return figure


def rendered(draw: Callable[[], Figure | None], formats: Sequence[str], *, all_tones: bool = False) -> dict[str, bytes]:
    """What `draw` makes, as files of these suffixes, `svg` or `png`; empty where it makes nothing.

    `all_tones`: with every tone of the figure's images, in place of the fewest bytes. Equal figures give equal bytes.
    """

    def drawn() -> dict[str, bytes]:
        figure = draw()
        if figure is None:
            return {}
        if all_tones and isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
            # Laid out once: a second time, for the next format, would move things by a hair.
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
        return {suffix: _saved(figure, suffix, all_tones=all_tones) for suffix in formats}

    with mpl.rc_context(STYLE):
        return legibly(drawn)


def _saved(figure: Figure, suffix: str, *, all_tones: bool) -> bytes:
    file = io.BytesIO()
    dpi = SVG_IMAGE_DOTS_PER_INCH if suffix == "svg" and not all_tones else PNG_DOTS_PER_INCH
    figure.savefig(file, format=suffix, dpi=dpi, metadata={"Date": None, "Creator": MARK} if suffix == "svg" else None)
    if suffix == "svg":
        return file.getvalue() if all_tones else _compact(file.getvalue().decode()).encode()
    image: Image.Image = Image.open(file).convert("RGB")
    if not all_tones:  # a palette makes a file a third of the size; a chart has few colours
        image = image.quantize(255, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    remark, smaller = PngInfo(), io.BytesIO()
    remark.add_text("Software", MARK)
    image.save(smaller, format="png", optimize=True, pnginfo=remark, dpi=(PNG_DOTS_PER_INCH, PNG_DOTS_PER_INCH))
    return smaller.getvalue()


def _compact(svg: str) -> str:
    """The same drawing without remarks and indentation, in hundredths of a point: half the size."""
    lines = (line.strip() for line in re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL).splitlines())
    svg = "\n".join(line for line in lines if line) + "\n"
    return re.sub(
        r'(?: d| x| y| points)="[^"]*"|translate\([^)]*\)',
        lambda values: re.sub(
            r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), values[0]
        ),
        svg,
    )
