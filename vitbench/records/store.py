"""How records are kept: one append-only JSON-lines file per study, whole lines or none, safe for several writers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from vitbench.files import ANOTHER_RESULTS, cannot_write, write_whole
from vitbench.records.faults import Fault, Faults
from vitbench.records.lines import Entry, append_line, files_in, parse, read_entries, sound
from vitbench.records.schema import SCHEMA, STUDY_NAME, Outcome, Record

_NAMES = frozenset(field.alias or name for name, field in Record.model_fields.items())


class RecordStore:
    """The records under `root/records/`. Reading never writes; appending never rewrites.

    `faults` are told what is wrong with lines and files, which are then left out. Without, reading raises ValueError for the
    first of them.
    """

    def __init__(self, root: str | Path, faults: Faults | None = None) -> None:
        self.root = Path(root)
        self.directory = self.root / "records"
        self.faults = faults
        _refuse_records_folder(self.root)

    def path(self, study: str) -> Path:
        """Raises ValueError for what cannot name a file."""
        if STUDY_NAME.fullmatch(study) is None:
            raise ValueError(f"study {study!r} cannot name a file; use at most 100 letters, digits, - and _")
        return self.directory / f"{study}.jsonl"

    def studies(self) -> list[str]:
        """Studies that have a record file, by name."""
        return [path.stem for path in files_in(self.directory, self.faults)]

    def prepare(self) -> None:
        """Creates the folders; raises ValueError where results cannot be written."""
        try:
            write_whole(self.directory / ".writable", b"\0" * 4096).unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write("results", self.root, error, ANOTHER_RESULTS) from error

    def append(self, record: Record) -> None:
        """Adds one whole line, or raises ValueError and leaves the file as it was."""
        append_line(self.path(record.study), record.to_json())

    def read(self, study: str) -> list[Record]:
        """All records of a study, in the order in which they were appended.

        Left out are a torn last line (a writer that was killed), damaged lines, and of two lines of one run that must have
        the same numbers and have not, the later. Raises ValueError, naming file and line, for the latter two where no `faults`
        are told.
        """
        return sound(self.entries(study), self.faults)

    def done(
        self,
        run_ids: Iterable[str],
        *,
        where: Callable[[Record], bool],
        study: str | None = None,
    ) -> dict[str, list[Record]]:
        """By run_id (as of today's schema), the records for which a run need not run again, in the order of recording.

        They are completed or diverged, of any study or of one, and `where` takes them, as for their images and environment.
        """
        wanted, done = set(run_ids), dict[str, list[Record]]()
        studies = [study] if study is not None else self.studies() if wanted else []
        for record in (record for name in studies for record in self.read(name)):
            if record.identity in wanted and record.is_done and where(record):
                done.setdefault(record.identity, []).append(record)
        return done

    def entries(self, study: str) -> Iterator[Entry[Record]]:
        """Every line of a study's file, with its record or what is wrong with it."""
        path = self.directory / f"{study}.jsonl"
        if STUDY_NAME.fullmatch(study) is None:
            what = f"{study!r} is no name of a study (at most 100 letters, digits, - and _)"
            return iter([Entry(None, b"", fault=Fault(path, what, kind="unreadable"))])
        if not os.path.lexists(path):
            return iter(())
        return _with_conflicts(path, read_entries(path, lambda line: _record(study, line)))


def _record(study: str, line: bytes) -> Record:
    """Raises ValueError for a line that is no record of the study, or contradicts itself."""
    record = Record.model_validate(parse(line, schema=SCHEMA, names=_NAMES))
    if record.study != study:
        raise ValueError(f"study {record.study!r} is not that of its file, {study!r}")
    if objection := record.objection():
        raise ValueError(objection)
    return record


def _with_conflicts(path: Path, entries: Iterable[Entry[Record]]) -> Iterator[Entry[Record]]:
    """The same, where a later line of a run must have the numbers of the first that must have the same bits.

    What was recorded first stays: no such line changes a number that may have been reported.
    """
    first: dict[Any, Entry[Record]] = {}
    for entry in entries:
        if conflict := first_conflict(entry, first):
            yield replace(entry, record=None, fault=Fault(path, conflict, entry.number, "conflict"))
        else:
            yield entry


def first_conflict(entry: Entry[Any], first: dict[Any, Entry[Any]], *, of: str = "") -> str:
    """Which numbers are not those of the first line of the same run, with its number, `of` which file; empty where there is
    none like it.

    `first` is by run and all that its bits depend on, and the entry's is added. There is no conflict where other bits may be
    right: on a GPU, in another environment, and of a run that went on from another, whose environment the record does not
    tell. Nor of frozen features, where what is measured again counts.
    """
    record = entry.record
    if (
        not isinstance(record, Record)
        or not record.is_done
        or (record.outcome is Outcome.COMPLETED and not record.metrics)
    ):
        return ""
    environment = record.environment.determines_bits
    if environment is None or record.config.pretraining is not None:
        return ""
    earlier = first.setdefault((record.arm, record.config, environment), entry)
    assert isinstance(earlier.record, Record)
    differing = record.differs(earlier.record)
    if not differing:
        return ""
    return (
        f"run {record.run_id} ({record.arm}, seed {record.seed}) is in {of}line {earlier.number} with other {differing}, "
        "which counts"
    )


def _refuse_records_folder(root: Path) -> None:
    """Where someone gave `results/local/records`: nothing would be found there, in silence."""
    if root.name == "records" and not (root / "records").exists() and files_in(root, Faults(say=lambda _: None)):
        raise ValueError(f"results {str(root)!r} is the folder of the records themselves; give {str(root.parent)!r}")
