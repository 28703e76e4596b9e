"""What does a trained model look like inside? Every figure from its numbers alone, so that each can be drawn again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from vitbench.analysis.insides.attention import class_token_figure, distance_figure, rollout_figure
from vitbench.analysis.insides.cka import cka_figure
from vitbench.analysis.insides.confusion import confusion_figure
from vitbench.analysis.insides.weights import filters_figure, position_figure
from vitbench.analysis.writing.drawing import rendered
from vitbench.analysis.writing.files import write, write_each

if TYPE_CHECKING:  # it imports torch
    from vitbench.inspection.figure_numbers import FigureNumbers

KINDS: dict[str, Callable[[Mapping[str, Any], str], Figure]] = {
    "filters": filters_figure,
    "position": position_figure,
    "distance": distance_figure,
    "rollout": rollout_figure,
    "class-token": class_token_figure,
    "cka": cka_figure,
    "confusion": confusion_figure,
}
"""Name → from (numbers, what the figure is of) to the figure."""


def render(kind: str, numbers: Mapping[str, Any], about: str, *, formats: Sequence[str] = ("svg",)) -> dict[str, bytes]:
    """One figure in each of `formats`; equal numbers give equal bytes."""
    return rendered(lambda: KINDS[kind](numbers, about), formats, all_tones=True)


def write_figures(numbers: FigureNumbers) -> list[Path]:
    """Writes `numbers.json` and each figure that was just computed as PNG and SVG; returns their paths.

    Removes pictures of ours that no numbers stand behind any more: the weights were others, or the reason is new.
    """
    paths = [write(numbers.path, numbers.to_json())]
    for name in numbers.computed:
        if drawn := numbers.figures.get(name):
            pictures = render(drawn["kind"], drawn, drawn["about"], formats=("png", "svg"))
            paths += write_each(numbers.folder / name, pictures)
    for path in [*numbers.folder.glob("*.png"), *numbers.folder.glob("*.svg")]:
        is_ours = path.stem in KINDS or path.stem.startswith("cka-")
        if is_ours and path.stem not in numbers.figures:
            path.unlink()
    return paths
