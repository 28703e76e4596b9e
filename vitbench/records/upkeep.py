"""How are record files looked after? They are checked, repaired, and merged with those of another results folder."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitbench.files import ANOTHER_RESULTS, cannot_write, write_whole
from vitbench.records.faults import Fault, Faults, Kind
from vitbench.records.lines import Entry, append_lines, is_torn, lock_of, mend_tail, not_a_file, sound, without_digest
from vitbench.records.schema import Record
from vitbench.records.sources import copy_sources, source_fault
from vitbench.records.store import Firsts, RecordStore, conflict_with_first
from vitbench.records.transfer import TransferStore

SIDE_FILE = ".damaged"
"""Suffix of the file beside a record file that holds what was set aside: line number, tab, the line as it was."""


@dataclass(frozen=True)
class RecordFile:
    """A record file, of runs or of frozen features."""

    store: RecordStore | TransferStore
    path: Path

    def all_entries(self) -> Iterator[Entry[Any]]:
        """Every line; a torn last one too, which reading leaves out in silence."""
        yield from self.store.entries(self.path)
        if not not_a_file(self.path):
            lines = self.path.read_bytes().split(b"\n")
            if lines[-1] and is_torn(lines[-1]):
                what = "cut off where its writer ended; whoever appends next sets it aside"
                yield Entry(len(lines), lines[-1], fault=Fault(self.path, what, len(lines)))

    def faults(self) -> list[Fault]:
        return [entry.fault for entry in self.all_entries() if entry.fault is not None]


def record_files(results: str | Path, faults: Faults) -> list[RecordFile]:
    """Files of runs, then those of frozen features. Raises ValueError where there are neither files nor faults."""
    stores = RecordStore(results, faults), TransferStore(results, faults)
    files = [RecordFile(store, path) for store in stores for path in store.files()]
    if not files and not faults:
        raise ValueError(f"no records under {str(results)!r}; run `vitbench run` first, or give another --results")
    return files


def check(results: str | Path, faults: Faults) -> tuple[int, int]:
    """(files, sound records); `faults` are told of all damage, conflicts, and sources that are not as they were kept."""
    files = record_files(results, faults)
    records = [record for file in files for record in sound(file.all_entries(), faults)]
    for name in _user_code(records):
        if fault := source_fault(Path(results), name):
            faults.add(fault)
    return len(files), len(records)


def _user_code(records: Iterable[Any]) -> dict[str, None]:
    """Names of the users' code that ran, in the order of the records; those of frozen features name none."""
    return dict.fromkeys(name for record in records if isinstance(record, Record) for name in record.config.user_code)


def repair(results: str | Path, faults: Faults, *, conflicts: bool = False) -> dict[Path, list[Fault]]:
    """Moves damaged lines to `FILE.damaged`, and with `conflicts` those that contradict an earlier line of their run.

    All other bytes stay. Returns what was moved, by file; `faults` are told of what remains. Raises ValueError for a file
    that cannot be written.
    """
    kinds: tuple[Kind, ...] = ("damage", "conflict") if conflicts else ("damage",)
    moved = {}
    for file in record_files(results, faults):
        faulty = file.faults()
        if any(fault.kind in kinds for fault in faulty):
            with lock_of(file.path):  # read again, now that no writer is at work
                faulty = file.faults()
                moved[file.path] = [fault for fault in faulty if fault.kind in kinds]
                _set_aside(file.path, {fault.line for fault in moved[file.path] if fault.line is not None})
        for fault in faulty:
            if fault.kind not in kinds:
                faults.add(fault)
    return moved


def _set_aside(path: Path, numbers: Collection[int]) -> None:
    try:
        mend_tail(path)
        *lines, tail = path.read_bytes().split(b"\n")
        numbered = list(enumerate([*(line + b"\n" for line in lines), tail], start=1))
        with path.with_suffix(SIDE_FILE).open("ab") as side:
            side.writelines(b"%d\t%s\n" % (n, line.rstrip(b"\n")) for n, line in numbered if n in numbers and line)
            side.flush()
            os.fsync(side.fileno())
        write_whole(path, b"".join(line for number, line in numbered if number not in numbers))
    except OSError as error:
        raise cannot_write("results", path, error, ANOTHER_RESULTS) from error


def merge(into: str | Path, source: str | Path, faults: Faults) -> dict[Path, int]:
    """Appends to the results in `into`, unchanged, the lines of `source` that it lacks. A second time does nothing.

    The sources of users' code come with them. Returns how many, by file. Lines that are damaged, or contradict one in `into`,
    are left out; `faults` are told of them.
    """
    added = {}
    for file in record_files(source, faults):
        store = type(file.store)(into, faults)
        target = store.directory / file.path.name
        present: list[Entry[Any]] = list(store.entries(target)) if os.path.lexists(target) else []
        new = list(_new_entries(file, present, target, faults))
        copy_sources(Path(into), Path(source), _user_code(entry.record for entry in [*present, *new]))
        lines = [entry.line for entry in new]
        if lines:
            append_lines(target, lines)
        added[target] = len(lines)
    return added


def _new_entries(file: RecordFile, present: Iterable[Entry[Any]], into: Path, faults: Faults) -> Iterator[Entry[Any]]:
    objects: set[bytes] = set()
    firsts: Firsts = {}
    for entry in present:
        objects.add(without_digest(entry.line))
        conflict_with_first(entry, firsts)
    for entry in file.store.entries(file.path):
        if entry.fault is not None:
            faults.add(entry.fault)
        elif without_digest(entry.line) not in objects:
            objects.add(without_digest(entry.line))
            if conflict := conflict_with_first(entry, firsts, file=str(into)):
                faults.add(Fault(file.path, conflict, entry.number, "not merged"))
            else:
                yield entry
