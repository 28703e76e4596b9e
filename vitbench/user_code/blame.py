"""Which line of a user's file failed, and how is that told?"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from vitbench.refusals import one_line

_OURS = ("vitbench", "pydantic")


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
