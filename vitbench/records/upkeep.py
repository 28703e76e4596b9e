"""How record files are looked after: checked, rid of damaged lines, and one results folder's added to another's."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitbench.files import ANOTHER_RESULTS, cannot_write, write_whole
from vitbench.records.faults import Fault, Faults, Kind
from vitbench.records.lines import (
    Entry,
    append_lines,
    files_in,
    is_torn,
    lock_of,
    mend_tail,
    not_a_file,
    without_digest,
)
from vitbench.records.store import RecordStore, first_conflict
from vitbench.records.transfer import TransferStore

SIDE_FILE = ".damaged"
"""Suffix of the file beside a record file that holds what was set aside: line number, tab, the line as it was."""


@dataclass(frozen=True)
class RecordFile:
    """A record file and how its lines are read; of runs, or of frozen features."""

    path: Path
    read: Callable[[], Iterable[Entry[Any]]]


def record_files(results: str | Path, faults: Faults) -> list[RecordFile]:
    """Those of runs, then those of frozen features. Raises ValueError where there are none, and nothing to say of it."""
    store, transfer = RecordStore(results, faults), TransferStore(results, faults)
    files = [_of_study(store, study) for study in store.studies()]
    files += [_of_transfer(transfer, path) for path in files_in(transfer.directory, faults)]
    if not files and not faults:
        raise ValueError(f"no records under {str(results)!r}; run `vitbench run` first, or give another --results")
    return files


def check(results: str | Path, faults: Faults) -> tuple[int, int]:
    """(files, sound records); `faults` are told of all damage and conflicts."""
    files = record_files(results, faults)
    sound = 0
    for file in files:
        for entry in (*file.read(), *_torn(file.path)):
            if entry.fault is not None:
                faults.add(entry.fault)
            sound += entry.record is not None
    return len(files), sound


def _torn(path: Path) -> Iterator[Entry[Any]]:
    """The last line, where whoever wrote it was killed; reading leaves it out in silence."""
    if not_a_file(path):
        return
    lines = path.read_bytes().split(b"\n")
    if lines[-1] and is_torn(lines[-1]):
        what = "cut off where its writer ended; whoever appends next sets it aside"
        yield Entry(len(lines), lines[-1], fault=Fault(path, what, len(lines)))


def repair(results: str | Path, faults: Faults, *, conflicts: bool = False) -> dict[Path, list[Fault]]:
    """Sets damaged lines aside, and of `conflicts` the later lines: the rest of a file stays as it is, byte by byte.

    Returns what was set aside of each file, which is in `FILE.damaged` now; `faults` are told of what is left. Raises
    ValueError where it cannot be written.
    """
    kinds: tuple[Kind, ...] = ("damage", "conflict") if conflicts else ("damage",)
    moved = {}
    for file in record_files(results, faults):
        wrong = [entry.fault for entry in (*file.read(), *_torn(file.path)) if entry.fault is not None]
        if any(fault.kind in kinds for fault in wrong):
            with lock_of(file.path):  # a writer may have been at work: looked at again, alone
                wrong = [entry.fault for entry in (*file.read(), *_torn(file.path)) if entry.fault is not None]
                moved[file.path] = [fault for fault in wrong if fault.kind in kinds]
                _set_aside(file.path, {fault.line for fault in moved[file.path] if fault.line is not None})
        for fault in wrong:
            if fault.kind not in kinds:
                faults.add(fault)
    return moved


def _set_aside(path: Path, numbers: Collection[int]) -> None:
    try:
        mend_tail(path)
        *lines, tail = path.read_bytes().split(b"\n")
        numbered = list(enumerate([*(line + b"\n" for line in lines), tail], start=1))
        with path.with_suffix(SIDE_FILE).open("ab") as side:
            side.writelines(
                b"%d\t%s\n" % (one, line.rstrip(b"\n")) for one, line in numbered if one in numbers and line
            )
            side.flush()
            os.fsync(side.fileno())
        write_whole(path, b"".join(line for number, line in numbered if number not in numbers))
    except OSError as error:
        raise cannot_write("results", path, error, ANOTHER_RESULTS) from error


def merge(into: str | Path, source: str | Path, faults: Faults) -> dict[Path, int]:
    """Appends to the results in `into` the lines that `source` has besides, as they are. A second time does nothing.

    Returns how many, by file. `faults` are told of lines that are damaged, and of those that conflict with one that is
    there; neither is taken over.
    """
    added = {}
    for file in record_files(source, faults):
        target = _counterpart(Path(into), file, faults)
        present = list(target.read()) if os.path.lexists(target.path) else []
        lines = list(_new_lines(file, present, target.path, faults))
        if lines:
            append_lines(target.path, lines)
        added[target.path] = len(lines)
    return added


def _new_lines(file: RecordFile, present: Iterable[Entry[Any]], into: Path, faults: Faults) -> Iterator[bytes]:
    there: set[bytes] = set()
    first: dict[Any, Entry[Any]] = {}
    for entry in present:
        there.add(without_digest(entry.line))
        first_conflict(entry, first)
    for entry in file.read():
        if entry.fault is not None:
            faults.add(entry.fault)
        elif without_digest(entry.line) not in there:
            there.add(without_digest(entry.line))
            if conflict := first_conflict(entry, first, of=f"{into} "):
                faults.add(Fault(file.path, conflict, entry.number, "not merged"))
            else:
                yield entry.line


def _counterpart(results: Path, file: RecordFile, faults: Faults) -> RecordFile:
    """The file of the same name in another results folder."""
    if file.path.parent.name == "records":
        return _of_study(RecordStore(results, faults), file.path.stem)
    transfer = TransferStore(results, faults)
    return _of_transfer(transfer, transfer.directory / file.path.name)


def _of_study(store: RecordStore, study: str) -> RecordFile:
    return RecordFile(store.directory / f"{study}.jsonl", lambda: store.entries(study))


def _of_transfer(store: TransferStore, path: Path) -> RecordFile:
    return RecordFile(path, lambda: store.entries(path))
