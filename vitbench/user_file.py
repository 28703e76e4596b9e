"""How is a user's Python file loaded for its study or data, and which line of it failed?"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType, TracebackType

from vitbench import user_files
from vitbench.config import one_line
from vitbench.signals import Ended

_OURS = ("vitbench", "pydantic")

_FOLDERS: set[Path] = set()
"""Folders of the files that were imported, where Python finds their siblings."""


def load_file(path: Path, kind: str) -> ModuleType:
    """A user's `study` or `data` file as a module; see `user_files.load`. What it prints goes to stderr.

    Raises ValueError, with the line to mend, where it cannot be imported.
    """
    file = path.resolve()
    _check_siblings(path, file.parent, kind)
    try:
        with redirect_stdout(sys.stderr):
            return user_files.load(file)
    except (KeyboardInterrupt, Ended):
        raise
    except BaseException as error:  # whatever a user's file raises, SystemExit too, it is the file that must be mended
        raise ValueError(f"{kind} file {str(path)!r}{blamed(error, str(file))}") from error
    finally:
        _FOLDERS.add(file.parent)


def _check_siblings(path: Path, folder: Path, kind: str) -> None:
    """Raises ValueError where a sibling has the name of another file's sibling, which Python would import instead."""
    for sibling in sorted(folder.glob("*.py")):
        imported = getattr(sys.modules.get(sibling.stem), "__file__", None)
        if imported and Path(imported).parent in _FOLDERS - {folder}:
            raise ValueError(
                f"{kind} file {str(path)!r}: its sibling {sibling.name} has the name of {imported!r}, which another study "
                "imports; rename one"
            )


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
