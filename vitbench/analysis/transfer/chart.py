"""How accurate are classifiers on frozen features, from one image of each class to all of them?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vitbench.analysis.comparison.naming import data_words, distinct_names
from vitbench.analysis.transfer.tables import HEADINGS, TransferRow, environments_of, order_of
from vitbench.analysis.writing.drawing import GREY, PALETTE, headed_figure
from vitbench.analysis.writing.panels import COLUMNS, panels_height, panels_of, wrapped

ON_ALL = {"linear": ("D", "linear probe"), "knn": ("s", HEADINGS["knn"])}
"""Marker and name of classifiers that are fitted to all training images."""
HEAD = ("P", "the head that it was trained with")
LINES, FILLS = ("solid", "dashed", "dotted"), ("full", "none", "left")
"""Of lines and of points, one for each model, as colours are: three and eight repeat together after 24."""
CAPTION = (
    "Test accuracy of classifiers on frozen pre-logits. Small: draws of training images. Lines: few-shot, means over draws. "
    "A model has one colour, its seeds a line each."
)
SEVERAL = " Computed in several environments, which the table lists."


def transfer_figure(rows: Sequence[TransferRow]) -> Figure | None:
    """A panel for each data set: test top-1 over training images of each class; None without rows."""
    if not rows:
        return None
    datasets = list(dict.fromkeys(row.record.request.dataset for row in rows))
    names = distinct_names(datasets)
    models = list(dict.fromkeys(labels_of(rows)))
    shots = sorted({shot for row in rows for shot in shots_of(row)})
    handles = _handles(rows, models)
    height = panels_height(len(datasets)) + 0.1 * len(handles)
    figure = headed_figure("Frozen features", CAPTION + (SEVERAL if len(environments_of(rows)) > 1 else ""), height)
    panels = panels_of(figure, len(datasets))
    for axes, dataset in zip(panels, datasets, strict=True):
        axes.set_title(wrapped(names[dataset], 45))
        for row, model in zip(rows, labels_of(rows), strict=True):
            if row.record.request.dataset == dataset:
                _draw(axes, row, shots, models.index(model))
        axes.set_xticks(range(len(shots) + 1), [*map(str, shots), "all"])
        axes.set_xlim(-0.4, len(shots) + 0.4)
        axes.grid(visible=False, axis="x")
    for axes in panels[-COLUMNS:]:
        axes.set_xlabel("training images of each class")
    for axes in panels[::COLUMNS]:
        axes.set_ylabel("test top-1 (%)")
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return figure


def labels_of(rows: Sequence[TransferRow]) -> list[str]:
    """What each row's model is called: equal for runs that differ in their seed alone, a hash where names clash."""
    names: dict[str, str] = {}
    for row in rows:
        label = row.model if row.trained is None else f"{row.model} of {data_words(row.trained.config.data.dataset)}"
        taken = label in names.values() and _but_seed(row) not in names
        names.setdefault(_but_seed(row), f"{label} #{_but_seed(row)[:4]}" if taken else label)
    return [names[_but_seed(row)] for row in rows]


def _but_seed(row: TransferRow) -> str:
    return row.record.request.weights if row.trained is None else row.trained.config.replace(seed=0).run_id


def shots_of(row: TransferRow) -> list[int]:
    """Images of each class in its few-shot classifiers, ascending."""
    return sorted(shots for kind, shots, _ in map(order_of, row.top1) if kind == 1)


def _draw(axes: Axes, row: TransferRow, shots: Sequence[int], index: int) -> None:
    look = _look(index)
    draws = {shots.index(shot): [100 * value for value in row.top1[f"{shot}-shot"]] for shot in shots_of(row)}
    for x, values in draws.items():
        axes.scatter([x] * len(values), values, s=10, color=look["color"], alpha=0.5, linewidths=0, zorder=2)
    means = [sum(values) / len(values) for values in draws.values()]
    axes.plot(list(draws), means, markersize=5.5, linewidth=1.6, **look)
    for place, (marker, top1) in enumerate(_points(row).items()):
        places = [len(shots) + 0.16 * (place - 1)] * len(top1)
        axes.plot(places, top1, marker, color=look["color"], fillstyle=look["fillstyle"])


def _look(index: int) -> dict[str, Any]:
    line, fill = LINES[index % len(LINES)], FILLS[index % len(FILLS)]
    return {"color": PALETTE[index % len(PALETTE)], "marker": "o", "linestyle": line, "fillstyle": fill}


def _points(row: TransferRow) -> Mapping[str, Sequence[float]]:
    """Marker → accuracies (%) of what is fitted to all images of each class, the head last."""
    top1 = {marker: row.top1.get(name, []) for name, (marker, _) in ON_ALL.items()}
    data = None if row.trained is None else row.trained.config.data
    on_all = data is not None and data.dataset == row.record.request.dataset and data.train_images is None
    top1[HEAD[0]] = [row.trained.metrics["test_top1"]] if row.trained is not None and on_all else []
    return {marker: [100 * value for value in values] for marker, values in top1.items()}


def _handles(rows: Sequence[TransferRow], models: Sequence[str]) -> list[Line2D]:
    """A column of models, and one of the kinds of point that are drawn on all images."""
    lines = [Line2D([], [], label=wrapped(model, 55), **_look(index)) for index, model in enumerate(models)]
    points = [
        Line2D([], [], color=GREY, linestyle="", marker=marker, label=label)
        for marker, label in (*ON_ALL.values(), HEAD)
        if any(_points(row)[marker] for row in rows)
    ]
    rest = [Line2D([], [], linestyle="", label=" ") for _ in range(abs(len(lines) - len(points)))]
    return [*lines, *rest, *points] if len(lines) < len(points) else [*lines, *points, *rest]
