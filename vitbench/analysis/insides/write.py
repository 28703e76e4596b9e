"""How do the figures of a trained model get onto disk, beside the numbers that they are drawn from?"""

from __future__ import annotations

from pathlib import Path

from vitbench.analysis.insides import figures
from vitbench.analysis.writing.files import write, write_each
from vitbench.inspection.figure_numbers import FigureNumbers


def write_figures(numbers: FigureNumbers) -> list[Path]:
    """Writes `numbers.json` and each figure that was just computed as PNG and SVG; returns their paths.

    Removes pictures of ours that no numbers stand behind any more: the weights were others, or the reason is new.
    """
    paths = [write(numbers.path, numbers.to_json())]
    for name in numbers.computed:
        if drawn := numbers.figures.get(name):
            pictures = figures.render(drawn["kind"], drawn, drawn["about"], formats=("png", "svg"))
            paths += write_each(numbers.folder / name, pictures)
    for path in [*numbers.folder.glob("*.png"), *numbers.folder.glob("*.svg")]:
        is_ours = path.stem in figures.KINDS or path.stem.startswith("cka-")
        if is_ours and path.stem not in numbers.figures:
            path.unlink()
    return paths
