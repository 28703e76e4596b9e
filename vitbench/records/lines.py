"""How one JSON object a line is kept in a file: whole lines or none, appended, safe for several writers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from vitbench.config import one_line


def append_line(path: Path, line: str) -> None:
    """Adds one whole line, or raises ValueError and leaves the file as it was."""
    content = (line + "\n").encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.parent / f".{path.stem}.lock"):
            path.touch()
            _mend_tail(path)
            size = path.stat().st_size
            try:
                with path.open("ab") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                os.truncate(path, size)
                raise
    except OSError as error:
        raise ValueError(
            f"results {str(path)!r} cannot be written ({error.strerror}); free space there or give another --results"
        ) from error


def read_lines(path: Path, *, schema: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """(`FILE line N`, its object) of every line; a torn last one (a writer that was killed) is left out.

    Raises ValueError, naming file and line, for a line that is no JSON object of this `schema`.
    """
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if number == len(lines) and not _is_json(line):
            return
        where = f"{path} line {number}"
        try:
            fields = json.loads(line)
        except ValueError as error:
            raise damaged(where, "not JSON") from error
        found = fields.get("schema") if isinstance(fields, dict) else None
        if found != schema:
            raise damaged(where, f"schema {found!r} is not {schema}; read it with the vitbench that wrote it")
        yield where, fields


def damaged(where: str, what: str | ValueError) -> ValueError:
    """What is said of a line that cannot be read."""
    return ValueError(f"{where}: {what if isinstance(what, str) else one_line(what)}; mend or remove that line")


def _mend_tail(path: Path) -> None:
    """After a writer was killed: a torn last line moves to a side file, so that the next line starts whole."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    tail = data[end:]
    if _is_json(tail):  # whole, it only lacks its line break
        with path.open("ab") as file:
            file.write(b"\n")
        return
    with path.with_suffix(".torn").open("ab") as side:
        side.write(tail + b"\n")
    os.truncate(path, end)


def _is_json(line: bytes) -> bool:
    """Of an object's JSON, no part but the whole is JSON."""
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
