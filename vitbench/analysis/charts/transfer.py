"""How well do classifiers on frozen features do, from one image of each class to all of them?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vitbench.analysis.charts.parts import panels_height, panels_of
from vitbench.analysis.drawing import GREY, PALETTE, headed_figure
from vitbench.analysis.transfer_tables import HEADINGS, TransferRow, order_of

ON_ALL = {
    "linear": ("D", "linear probe"),
    "knn": ("s", HEADINGS["knn"]),
    "": ("P", "the head that it was trained with"),
}
"""Marker and name of what has seen all training images; the last is no classifier on frozen features."""
LINES: tuple[Literal["solid", "dashed", "dotted", "dashdot"], ...] = ("solid", "dashed", "dotted", "dashdot")
CAPTION = (
    "Test accuracy of classifiers on frozen pre-logits. Small: draws of training images. Lines: few-shot, means over draws. "
    "A model has one colour, its seeds a line each."
)


def transfer_figure(rows: Sequence[TransferRow]) -> Figure | None:
    """A panel for each data set: test top-1 over training images of each class; None without rows."""
    if not rows:
        return None
    datasets = list(dict.fromkeys(row.record.request.dataset for row in rows))
    models = list(dict.fromkeys(row.model for row in rows))
    shots = sorted({shot for row in rows for shot in shots_of(row)})
    handles = _handles(rows, models)
    figure = headed_figure("Frozen features", CAPTION, panels_height(len(datasets)) + 0.1 * len(handles))
    panels = panels_of(figure, len(datasets))
    for axes, dataset in zip(panels, datasets, strict=True):
        axes.set_title(dataset)
        for row in rows:
            if row.record.request.dataset == dataset:
                _draw(axes, row, shots, models.index(row.model))
        axes.set_xticks(range(len(shots) + 1), [*map(str, shots), "all"])
        axes.set_xlim(-0.4, len(shots) + 0.4)
        axes.grid(visible=False, axis="x")
        axes.set_xlabel("training images of each class")
    panels[0].set_ylabel("test top-1 (%)")
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return figure


def shots_of(row: TransferRow) -> list[int]:
    """Images of each class in its few-shot classifiers, ascending."""
    kinds = sorted(row.top1, key=order_of)
    return [order_of(name)[1] for name in kinds if order_of(name)[0] == 1]


def _draw(axes: Axes, row: TransferRow, shots: Sequence[int], index: int) -> None:
    color, everything = PALETTE[index % len(PALETTE)], len(shots)
    own = {shot: [100 * value for value in row.top1[f"{shot}-shot"]] for shot in shots_of(row)}
    for shot, values in own.items():
        axes.scatter([shots.index(shot)] * len(values), values, s=10, color=color, alpha=0.5, linewidths=0, zorder=2)
    axes.plot(
        [shots.index(shot) for shot in own],
        [sum(values) / len(values) for values in own.values()],
        color=color,
        marker="o",
        markersize=5.5,
        linewidth=1.6,
        linestyle=LINES[index % len(LINES)],
    )
    for place, (name, (marker, _)) in enumerate(ON_ALL.items()):
        values = [100 * value for value in _on_all(row, name)]
        axes.plot([everything + 0.16 * (place - 1)] * len(values), values, marker, color=color)


def _on_all(row: TransferRow, name: str) -> Sequence[float]:
    """Accuracies of one of `ON_ALL`; its own head's where that was trained on the same data."""
    if name:
        return row.top1.get(name, ())
    if row.trained is None or row.trained.config.data.dataset != row.record.request.dataset:
        return ()
    return (row.trained.metrics["test_top1"],)


def _handles(rows: Sequence[TransferRow], models: Sequence[str]) -> list[Line2D]:
    """A column of models, and one of the kinds of point that are drawn on all images."""
    lines = [
        Line2D([], [], color=PALETTE[i % len(PALETTE)], linestyle=LINES[i % len(LINES)], marker="o", label=model)
        for i, model in enumerate(models)
    ]
    points = [
        Line2D([], [], color=GREY, linestyle="", marker=marker, label=label)
        for name, (marker, label) in ON_ALL.items()
        if any(_on_all(row, name) for row in rows)
    ]
    rest = [Line2D([], [], linestyle="", label=" ") for _ in range(abs(len(lines) - len(points)))]
    return [*lines, *rest, *points] if len(lines) < len(points) else [*lines, *points, *rest]
