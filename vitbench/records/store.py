"""How records are kept: one append-only JSON-lines file per study, whole lines or none, safe for several writers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vitbench.files import ANOTHER_RESULTS, cannot_write, entries, write_whole
from vitbench.records.lines import append_line, damaged, read_lines
from vitbench.records.schema import SCHEMA, Record


class RecordStore:
    """The records under `root/records/`. Reading never writes; appending never rewrites."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.directory = self.root / "records"

    def path(self, study: str) -> Path:
        return self.directory / f"{study}.jsonl"

    def studies(self) -> list[str]:
        """Studies that have a record file, by name."""
        return [path.stem for path in entries(self.directory) if path.match("[!.]*.jsonl")]

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

        A torn last line (a writer that was killed) is left out. Raises ValueError, naming file and line, for a foreign
        schema or a line that is not a record.
        """
        path = self.path(study)
        if not path.exists():
            return []
        return list(_parse(path))


def _parse(path: Path) -> Iterator[Record]:
    for where, fields in read_lines(path, schema=SCHEMA):
        try:
            record = Record.model_validate(fields)
        except ValueError as error:
            raise damaged(where, error) from error
        yield record
