"""Do figures that other processes save come out as those that are saved here, each once and in order, whatever goes wrong?"""

from __future__ import annotations

from functools import partial
from itertools import groupby

import pytest
from matplotlib.figure import Figure

from vitbench.analysis.writing import rendering
from vitbench.analysis.writing.drawing import headed_figure, rendered
from vitbench.analysis.writing.panels import mark_ticks
from vitbench.analysis.writing.rendering import render_each

FORMATS = ("svg", "png")


def figure(number: int, title: str = "A title") -> Figure:
    drawn = headed_figure(f"{title} {number}", "What it shows", 2.0)
    axes = drawn.add_subplot()
    axes.plot([1, 10, 100], [number, 2, 3], label=f"arm {number}")
    axes.set_xscale("log")
    mark_ticks(axes.xaxis, [1, 10, 100])
    axes.legend()
    return drawn


def nothing() -> None:
    return None


def faulty() -> Figure:
    raise ValueError("no such arm")


@pytest.fixture
def few(monkeypatch):
    """Processes are started for the third figure."""
    monkeypatch.setattr(rendering, "FEWEST", 3)


@pytest.mark.slow
def test_other_processes_save_the_same_bytes_in_order_and_tell_what_drawing_raises(few):
    draws = [partial(figure, 0), nothing, partial(figure, 1), faulty, partial(figure, 2), partial(figure, 3, "猫 \x00")]
    gathered = [*render_each(enumerate(draws), FORMATS, workers=2)]  # asked for when all have ended
    assert [number for number, _ in gathered] == [*range(len(draws))]
    for (_, files), draw in zip(gathered, draws, strict=True):
        if draw is faulty:
            with pytest.raises(ValueError, match="no such arm"):
                files()
        else:
            assert files() == rendered(draw, FORMATS)


@pytest.mark.slow
def test_figures_of_one_comparison_may_be_gathered_before_their_files_are_asked_for(few):
    names = [(name, number) for name in "abc" for number in range(4)]
    figures = ((name, partial(figure, name[1])) for name in names)
    for _, group in groupby(render_each(figures, ("svg",), workers=2), lambda each: each[0][0]):
        for (_, number), files in [*group]:
            assert files() == rendered(partial(figure, number), ("svg",))


def test_what_cannot_be_saved_elsewhere_is_saved_here(few, monkeypatch):
    class Broken:
        def __init__(self, *_, **__) -> None: ...
        def submit(self, *_):
            future = rendering.Future()
            future.set_exception(rendering.BrokenProcessPool("a worker was killed"))
            return future

        def shutdown(self, **_) -> None: ...

    monkeypatch.setattr(rendering, "ProcessPoolExecutor", Broken)
    for number, files in render_each(((number, partial(figure, number)) for number in range(4)), ("svg",), workers=2):
        assert files() == rendered(partial(figure, number), ("svg",))


def test_one_worker_and_few_figures_start_no_process(monkeypatch):
    monkeypatch.setattr(rendering, "ProcessPoolExecutor", None)
    draws = [("a", partial(figure, 0)), ("b", nothing)]
    for workers in (1, 8):
        (_, files), (_, none) = render_each(draws, ("svg",), workers=workers)
        assert files() == rendered(draws[0][1], ("svg",)) and none() == {}
