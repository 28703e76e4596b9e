"""How does a figure become the bytes of a file? Equal figures give equal bytes."""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vitbench.analysis.writing.files import MARK
from vitbench.analysis.writing.glyphs import has_all_letters

PNG_DOTS_PER_INCH = 150
SVG_IMAGE_DOTS_PER_INCH = 72


def saved_elsewhere(drawn: bytes, formats: Sequence[str], style: dict[Any, Any]) -> dict[str, bytes] | None:
    """The files of a pickled figure, in a process that has not drawn it; empty where there is none.

    None where a letter is lacking: another font is needed, in which the figure is drawn anew.
    """
    with mpl.rc_context(style), has_all_letters() as letters:
        figure: Figure | None = pickle.loads(drawn)
        files = {} if figure is None else {suffix: saved(figure, suffix) for suffix in formats}
    return files if letters.all_there else None


def saved(figure: Figure, suffix: str, *, all_tones: bool = False) -> bytes:
    """A file of this suffix, `svg` or `png`; `all_tones`: with every tone of its images, in place of the fewest bytes."""
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
