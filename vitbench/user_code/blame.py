"""Which line of a user's file failed, and how is that told?"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from traceback import extract_tb
from types import TracebackType

from vitbench.process_state import taken_back
from vitbench.refusals import one_line
from vitbench.signals import Ended
from vitbench.text import printable

_OURS = ("vitbench", "pydantic")
_LIBRARIES = ("torch", "vitbench", "einops", "numpy")
"""Packages between a user's code and the line that fails."""


@contextmanager
def users_code(title: str, file: str) -> Iterator[None]:
    """While code of a user's `file` runs: what it prints goes to stderr, and what it raises becomes a ValueError.

    What it sets for the whole process is taken back afterwards.

    The error begins with `title` and names the line to mend.
    """
    try:
        with redirect_stdout(sys.stderr), taken_back():
            yield
    except (KeyboardInterrupt, Ended):
        raise
    except BaseException as error:  # whatever it raises, SystemExit too, it is the user's code that must be mended
        raise ValueError(f"{title}{blamed(error, file)}") from error


def blamed(error: BaseException, file: str) -> str:
    """` line 3 fails: ZeroDivisionError: division by zero`.

    The line is the innermost in `file` or its folder; it is left out where none is in the traceback. A refusal of ours names
    field, value and remedy already: ` line 3: fraction 2: …`.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_place(error.filename, error.lineno or 0, file)} fails: {_text(error)}"
    place, last = "", ""
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        place = _place(code.co_filename, trace.tb_lineno, file) or place
        last = trace.tb_frame.f_globals.get("__name__", "")
        trace = trace.tb_next
    if isinstance(error, ValueError) and last.partition(".")[0] in _OURS:
        return f"{place}: {one_line(error)}"
    return f"{place} fails: {_text(error)}"


def _text(error: BaseException) -> str:
    reason = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__


def _place(where: str, line: int, file: str) -> str:
    if where == file:
        return f" line {line}"
    beside = bool(file) and Path(where).parent == Path(file).parent
    return f" ({Path(where).name} line {line})" if beside else ""


def reason_of(error: BaseException) -> str:
    """In one line, `RuntimeError: its text (my_study.py:14)`: the innermost line that is neither torch's nor ours."""
    frames = [frame for frame in extract_tb(error.__traceback__) if not _is_library(frame.filename)]
    place = f" ({frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno})" if frames else ""
    text = " ".join(printable(f"{type(error).__name__}: {error}").split())
    return f"{text if len(text) <= 300 else f'{text[:299]}…'}{place}"


def _is_library(filename: str) -> bool:
    loaded = [sys.modules[name] for name in _LIBRARIES if name in sys.modules]
    return filename.startswith(("<", *(f"{Path(package.__path__[0])}{os.sep}" for package in loaded)))
