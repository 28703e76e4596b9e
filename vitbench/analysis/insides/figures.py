"""What does a trained model look like inside? Every figure from its numbers alone, so that each can be drawn again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from vitbench.analysis.insides.attention import class_token_figure, distance_figure, rollout_figure
from vitbench.analysis.insides.cka import cka_figure
from vitbench.analysis.insides.confusion import confusion_figure
from vitbench.analysis.insides.weights import filters_figure, position_figure
from vitbench.analysis.writing.drawing import rendered

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
