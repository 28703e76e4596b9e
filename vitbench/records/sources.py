"""Which code of a user's ran? Its source is kept beside the records, in `sources/NAME@1a2b3c4d.py`: to be read alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from vitbench import user_code
from vitbench.files import ANOTHER_RESULTS, cannot_write, write_whole
from vitbench.records.faults import Fault

_SEAL = "# {name} as it ran, with what it reaches in its files. SHA-256 of the lines below: {digest}\n"


def source_path(root: Path, name: str) -> Path:
    """Where a results folder keeps the source of a user's code."""
    return root / "sources" / f"{name}.py"


def keep_sources(root: Path, names: Iterable[str]) -> None:
    """Writes the source of each that this process has loaded, once. Raises ValueError where it cannot be written.

    Another that has the same name differs in comments and layout alone, and the first stays.
    """
    for name in names:
        if user_code.is_loaded(name) and objection(root, name):
            _write(source_path(root, name), _sealed(name, user_code.source_of(name)))


def copy_sources(into: Path, source: Path, names: Iterable[str]) -> None:
    """Copies what `into` lacks and `source` has whole. Raises ValueError where it cannot be written."""
    for name in names:
        if objection(into, name) and not objection(source, name):
            _write(source_path(into, name), source_path(source, name).read_bytes())


def source_fault(root: Path, name: str) -> Fault | None:
    """What is wrong with the source that a record's code is named by; None where it is there, as it was written."""
    if why := objection(root, name):
        return Fault(source_path(root, name), f"{why}, though records name it", kind="source")
    return None


def objection(root: Path, name: str) -> str:
    """Why a kept source is not that of its name; empty where it is."""
    try:
        content = source_path(root, name).read_bytes()
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    text = content.partition(b"\n")[2].decode(errors="replace")
    return "" if content == _sealed(name, text) else "is not as it was written"


def _sealed(name: str, text: str) -> bytes:
    seal = _SEAL.format(name=name, digest=hashlib.sha256(text.encode(errors="replace")).hexdigest())
    return (seal + text).encode(errors="replace")


def _write(path: Path, content: bytes) -> None:
    try:
        write_whole(path, content)
    except OSError as error:
        raise cannot_write("results", path, error, ANOTHER_RESULTS) from error
