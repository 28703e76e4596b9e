"""How do many figures become files in less time? They are drawn here, one after the other, and saved by several processes.

Saving takes ten times as long as drawing, and a drawn figure is small, however many records are behind it.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TypeVar

import matplotlib as mpl
from matplotlib.figure import Figure

from vitbench.analysis.writing.drawing import STYLE, rendered
from vitbench.analysis.writing.glyphs import has_all_letters
from vitbench.analysis.writing.saving import saved_elsewhere

Name = TypeVar("Name")
Draw = Callable[[], Figure | None]
Files = Callable[[], dict[str, bytes]]
FEWEST = 24
"""Figures from which starting processes, a second each, pays."""
MOST_WORKERS = 16
_STYLE_OF_SAVING = {name: value for name, value in STYLE.items() if name != "image.cmap"}
"""Images have theirs when they are drawn; the default is seaborn's, which takes a second to be imported."""


def render_each(
    figures: Iterable[tuple[Name, Draw]], formats: Sequence[str], *, workers: int = 1
) -> Iterator[tuple[Name, Files]]:
    """Each name, and a call that gives what `rendered` gives, to the byte, and raises what drawing raises; in their order.

    With several `workers`, processes are started once there are `FEWEST` figures. A program that asks for them must be one
    that Python's multiprocessing can start again.
    """
    if workers == 1:
        for name, draw in figures:
            yield name, _Serial(draw, formats)
        return
    waiting: deque[tuple[Name, _Parallel]] = deque()
    pool: ProcessPoolExecutor | None = None
    ended_early = True
    try:
        for name, draw in figures:
            waiting.append((name, _Parallel(draw, formats)))
            if pool is None and len(waiting) >= FEWEST:
                pool = ProcessPoolExecutor(min(workers, MOST_WORKERS), mp_context=get_context("spawn"))
                for _, files in waiting:
                    files.start(pool)
            elif pool is not None:
                waiting[-1][1].start(pool)
                if len(waiting) > FEWEST + 2 * workers:
                    yield waiting.popleft()
        yield from waiting
        ended_early = False
    finally:
        if pool is not None:  # whoever gathered all may ask for their files only now
            pool.shutdown(cancel_futures=ended_early)


@dataclass
class _Serial:
    draw: Draw
    formats: Sequence[str]

    def __call__(self) -> dict[str, bytes]:
        return rendered(self.draw, self.formats)


class _Parallel:
    """A figure that is drawn, and saved elsewhere; where that cannot be, it is drawn anew and saved here."""

    def __init__(self, draw: Draw, formats: Sequence[str]) -> None:
        self._here = _Serial(draw, formats)
        self._future: Future[dict[str, bytes] | None] | None = None

    def start(self, pool: ProcessPoolExecutor) -> None:
        with mpl.rc_context(STYLE):
            try:
                with has_all_letters() as letters:
                    figure = self._here.draw()
                drawn = pickle.dumps(figure)
            except Exception:  # told when the files are asked for
                return
        if letters.all_there:
            self._future = pool.submit(saved_elsewhere, drawn, self._here.formats, _STYLE_OF_SAVING)

    def __call__(self) -> dict[str, bytes]:
        try:
            files = self._future.result() if self._future is not None else None
        except BrokenProcessPool:
            files = None
        return self._here() if files is None else files
