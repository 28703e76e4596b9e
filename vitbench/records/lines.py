"""How are JSON objects kept in a file? One a line, each with its digest, whole lines or none, safe for several writers.

A line is `{"digest":"<64 hex>",` and then the object without its opening brace. The digest is the SHA-256 of the object's
bytes, brace included. It stands first so that no damage turns such a line into one without a digest, as older versions wrote:
those begin with a field of the schema.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

from filelock import FileLock

from vitbench.files import ANOTHER_RESULTS, cannot_write
from vitbench.records.faults import Fault, Faults
from vitbench.refusals import one_line
from vitbench.text import printable

Read = TypeVar("Read")

_BEFORE, _AFTER = b'{"digest":"', b'",'
_DIGITS = 64
_HEAD = len(_BEFORE) + _DIGITS + len(_AFTER)


def append_line(path: Path, line: str) -> None:
    """Adds one whole line, a JSON object, with its digest; or raises ValueError and leaves the file as it was."""
    append_lines(path, [with_digest(line.encode())])


def append_lines(path: Path, lines: Collection[bytes]) -> None:
    """Adds lines as they are, all or none; raises ValueError likewise."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with lock_of(path):
            if path.exists() and (reason := not_a_file(path)):
                raise OSError(None, reason)
            path.touch()
            mend_tail(path)
            size = path.stat().st_size
            try:
                with path.open("ab") as file:
                    file.write(b"".join(line + b"\n" for line in lines))
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                os.truncate(path, size)
                raise
    except OSError as error:
        raise cannot_write("results", path, error, ANOTHER_RESULTS) from error


def lock_of(path: Path) -> FileLock:
    """Held by whoever changes the file."""
    return FileLock(path.parent / f".{path.stem}.lock")


def with_digest(plain: bytes) -> bytes:
    """The line of an object's JSON."""
    return _BEFORE + hashlib.sha256(plain).hexdigest().encode() + _AFTER + plain[1:]


@dataclass(frozen=True)
class Entry(Generic[Read]):
    """A line of a file, and its record or its fault. Number and bytes are missing where the fault is the file's."""

    number: int | None
    line: bytes
    record: Read | None = None
    fault: Fault | None = None


def read_entries(path: Path, read: Callable[[bytes], Read]) -> Iterator[Entry[Read]]:
    """Every line of a file but empty ones and a last one that its writer had not finished.

    `read` turns it into a record, or raises ValueError for a damaged one.
    """
    try:
        if reason := not_a_file(path):  # a pipe would wait for a writer
            raise OSError(None, reason)
        lines = path.read_bytes().split(b"\n")
        if is_torn(lines[-1]):
            lines.pop()
        for number, line in enumerate((line.removesuffix(b"\r") for line in lines), start=1):
            if not line.strip():
                continue
            try:
                record = read(line)  # before the digest, as other refusals say more
                if line.startswith(_BEFORE) and with_digest(without_digest(line)) != line:
                    raise ValueError("its digest is not that of its bytes")
                yield Entry(number, line, record)
            except ValueError as error:
                yield Entry(number, line, fault=Fault(path, one_line(error), number))
            except RecursionError:
                yield Entry(number, line, fault=Fault(path, "nested too deeply", number))
    except OSError as error:
        yield Entry(None, b"", fault=Fault(path, f"cannot be read ({error.strerror})", kind="unreadable"))


def sound(entries: Iterable[Entry[Read]], faults: Faults | None) -> list[Read]:
    """The records without fault. The others' faults are added to `faults`, or without these raised as ValueError."""
    records = []
    for entry in entries:
        if entry.record is not None:
            records.append(entry.record)
        elif entry.fault is not None:
            if faults is None:
                raise ValueError(str(entry.fault))
            faults.add(entry.fault)
    return records


def files_in(folder: Path, faults: Faults | None) -> list[Path]:
    """The `*.jsonl` of a folder, by name, without the `._*` that macOS puts beside files; empty where there is no folder."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        fault = Fault(folder, f"cannot be read ({error.strerror})", kind="unreadable")
        return sound([Entry(None, b"", fault=fault)], faults)
    return [folder / name for name in names if name.endswith(".jsonl") and not name.startswith("._")]


def parse(line: bytes, *, schema: int, names: Collection[str]) -> dict[str, Any]:
    """The object of a line. A line without a digest begins with one of the fields `names`.

    Raises ValueError for a line that is no JSON object of this `schema`.
    """
    try:
        fields = _DECODER.decode(line.decode())
        if b"\\ud" in line.lower():  # an escape of half a character, which cannot be printed
            json.dumps(fields, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except (_NoNumberError, UnicodeError) as error:
        raise ValueError(f"not JSON ({error})") from error
    except ValueError as error:
        raise ValueError("not JSON") from error
    kind = fields.get("schema") if isinstance(fields, dict) else None
    if kind != schema:
        raise ValueError(f"schema {kind!r} is not {schema}; read it with the vitbench that wrote it")
    first = next(iter(fields))
    if not line.startswith(_BEFORE) and (first not in names or "digest" in fields):
        raise ValueError(f"begins with {first!r}, neither its digest nor a field of a record without one")
    return dict(fields)


def without_digest(line: bytes) -> bytes:
    """The object's JSON."""
    return b"{" + line[_HEAD:] if line.startswith(_BEFORE) else line


def not_a_file(path: Path) -> str:
    """Why `path` is no file to read from; empty for a regular file. Raises OSError where it cannot be looked up."""
    mode = path.stat().st_mode
    if stat.S_ISREG(mode):
        return ""
    return "is a folder" if stat.S_ISDIR(mode) else "is no regular file"


def is_torn(tail: bytes) -> bool:
    """Whether the bytes after the last line break are only a part of a line: no part of an object is JSON but the whole."""
    text = tail.decode(errors="replace")
    try:
        json.JSONDecoder().raw_decode(text)
    except RecursionError:
        return False
    except ValueError:
        return True
    return False


class _NoNumberError(ValueError):
    """NaN or an infinity, which Python reads and JSON has not."""


def _no_number(name: str) -> NoReturn:
    raise _NoNumberError(f"{printable(name)} is no number")


_DECODER = json.JSONDecoder(parse_constant=_no_number)


def mend_tail(path: Path) -> None:
    """Moves a last line that a killed writer left unfinished to `FILE.torn`, so that the next line can be appended."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    tail = data[end:]
    if not is_torn(tail):  # only its line break is missing
        with path.open("ab") as file:
            file.write(b"\n")
        return
    with path.with_suffix(".torn").open("ab") as side:
        side.write(tail + b"\n")
    os.truncate(path, end)
