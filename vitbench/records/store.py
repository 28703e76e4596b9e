"""How are records of runs kept? In one append-only JSON-lines file per study, safe for several writers."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from vitbench.files import ANOTHER_RESULTS, cannot_write, write_whole
from vitbench.records.faults import Fault, Faults
from vitbench.records.lines import Entry, append_line, files_in, read_entries, sound
from vitbench.records.reading import RecordReader
from vitbench.records.schema import STUDY_NAME, Outcome, Record
from vitbench.records.sources import keep_sources

Firsts = dict[Hashable, tuple[int | None, Record]]
"""The number of the first line of each run, and its record; by the run and all that its bits depend on."""


class RecordStore:
    """The records under `root/records/`. Reading never writes; appending never rewrites.

    `faults` are told what is wrong with lines and files, which are then left out. Without `faults`, reading raises ValueError
    for the first of them.
    """

    def __init__(self, root: str | Path, faults: Faults | None = None) -> None:
        self.root = Path(root)
        self.directory = self.root / "records"
        self.faults = faults
        # Of a folder such as `results/local/records`, no records would be found, in silence.
        is_inside = self.root.name == "records" and not self.directory.exists()
        if is_inside and files_in(self.root, Faults(say=lambda _: None)):
            inside, outside = str(self.root), str(self.root.parent)
            raise ValueError(f"results {inside!r} is the folder of the records themselves; give {outside!r}")

    def path(self, study: str) -> Path:
        """Raises ValueError for what cannot name a file."""
        if STUDY_NAME.fullmatch(study) is None:
            raise ValueError(f"study {study!r} cannot name a file; use at most 100 letters, digits, - and _")
        return self.directory / f"{study}.jsonl"

    def files(self) -> list[Path]:
        """Its record files, by name."""
        return files_in(self.directory, self.faults)

    def studies(self) -> list[str]:
        """Studies that have a record file, by name."""
        return [path.stem for path in self.files()]

    def prepare(self) -> None:
        """Creates the folders; raises ValueError where results cannot be written."""
        try:
            write_whole(self.directory / ".writable", b"\0" * 4096).unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write("results", self.root, error, ANOTHER_RESULTS) from error

    def append(self, record: Record) -> None:
        """Adds one whole line, or raises ValueError and leaves the file as it was.

        Before that, the source of a user's code is kept beside it, so that a reader can see what ran.
        """
        keep_sources(self.root, record.config.user_code)
        append_line(self.path(record.study), record.to_json())

    def read(self, study: str) -> list[Record]:
        """All records of a study, in the order in which they were appended.

        Left out are: a torn last line, whose writer was killed; damaged lines; and a line that contradicts an earlier one of
        the same run. Without `faults`, the latter two raise ValueError, naming file and line.
        """
        path = self.directory / f"{study}.jsonl"
        if _kept is None:
            return self._read(path, self.faults)
        stamp = _stamp(path)
        if path not in _kept or _kept[path].stamp != stamp:
            faults = None if self.faults is None else Faults(say=lambda _: None)
            _kept[path] = _Reading(stamp, self._read(path, faults), [] if faults is None else [*faults])
        for fault in _kept[path].faults:
            if self.faults is None:
                raise ValueError(str(fault))
            self.faults.add(fault)
        return [*_kept[path].records]

    def _read(self, path: Path, faults: Faults | None) -> list[Record]:
        with _collecting_later():
            return sound(self.entries(path), faults)

    def done(
        self, run_ids: Iterable[str], *, where: Callable[[Record], bool], study: str | None = None
    ) -> dict[str, list[Record]]:
        """By run_id, the records that make it needless to run these again, in the order of recording.

        They are completed or diverged, of one study or of any, and accepted by `where`, which may ask for their images and
        environment. A run_id is that of today's schema (`Record.identity`).
        """
        wanted, done = set(run_ids), dict[str, list[Record]]()
        studies = [study] if study is not None else self.studies() if wanted else []
        for record in (record for name in studies for record in self.read(name)):
            if record.identity in wanted and record.is_done and where(record):
                done.setdefault(record.identity, []).append(record)
        return done

    def entries(self, path: Path) -> Iterator[Entry[Record]]:
        """Every line of one of the files, with its record or its fault; one that contradicts an earlier line is a fault."""
        study = path.stem
        if STUDY_NAME.fullmatch(study) is None or path.parent != self.directory:
            what = f"{study!r} is no name of a study (at most 100 letters, digits, - and _)"
            yield Entry(None, b"", fault=Fault(path, what, kind="unreadable"))
        elif os.path.lexists(path):
            firsts: Firsts = {}
            for entry in read_entries(path, RecordReader(study)):
                # The first line of a run counts, as it may have been reported.
                if conflict := conflict_with_first(entry, firsts):
                    yield replace(entry, record=None, fault=Fault(path, conflict, entry.number, "conflict"))
                else:
                    yield entry


class _Reading(NamedTuple):
    """What a file held when it was of this stamp."""

    stamp: object
    records: list[Record]
    faults: list[Fault]


_kept: dict[Path, _Reading] | None = None


@contextmanager
def reading_once() -> Iterator[None]:
    """Within, a record file is read again only when it has changed, whichever `RecordStore` reads it.

    For one command: it takes the memory of all that was read.
    """
    global _kept
    before, _kept = _kept, {}
    try:
        yield
    finally:
        _kept = before


def _stamp(path: Path) -> object:
    """Another one when the file was written to, replaced, or is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@contextmanager
def _collecting_later() -> Iterator[None]:
    """While many objects are made that all stay, looking for unused ones takes a third of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def conflict_with_first(entry: Entry[Any], firsts: Firsts, *, file: str = "") -> str:
    """How an entry contradicts the first line of the same run, which is in `file`; empty where it does not.

    Where the entry is the first of its kind, it is added to `firsts`. Other bits may be right on a GPU, in another
    environment, and for a run that went on from another, as its record does not tell where that ran. Frozen features never
    conflict: what was measured last counts.
    """
    record = entry.record
    if not isinstance(record, Record) or not record.is_done:
        return ""
    if record.outcome is Outcome.COMPLETED and not record.metrics:
        return ""
    environment = record.environment.determines_bits
    if environment is None or record.config.pretraining is not None:
        return ""
    number, first = firsts.setdefault((record.arm, record.config, environment), (entry.number, record))
    if first is record or not (differing := record.differing_numbers(first)):
        return ""
    where = f"{file} line {number}" if file else f"line {number}"
    return (
        f"run {record.run_id} ({record.arm}, seed {record.seed}) is in {where} with other {', '.join(differing)}, "
        "which counts"
    )
