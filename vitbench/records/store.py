"""How records are kept: one append-only JSON-lines file per study, whole lines or none, safe for several writers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from vitbench.config import one_line
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
        return sorted(path.stem for path in self.directory.glob("*.jsonl"))

    def prepare(self) -> None:
        """Creates the folders; raises ValueError where results cannot be written."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            probe = self.directory / f".writable-{os.getpid()}"
            with probe.open("wb") as file:
                file.write(b"\0" * 4096)
                file.flush()
                os.fsync(file.fileno())
            probe.unlink()
        except OSError as error:
            raise ValueError(
                f"results {str(self.root)!r} cannot be written ({error.strerror}); free space there or give another --results"
            ) from error

    def append(self, record: Record) -> None:
        """Adds one whole line, or raises ValueError and leaves the file as it was."""
        line = (record.to_json() + "\n").encode()
        path = self.path(record.study)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with FileLock(self.directory / f".{record.study}.lock"):
                path.touch()
                _mend_tail(path)
                size = path.stat().st_size
                try:
                    with path.open("ab") as file:
                        file.write(line)
                        file.flush()
                        os.fsync(file.fileno())
                except OSError:
                    os.truncate(path, size)
                    raise
        except OSError as error:
            raise ValueError(
                f"results {str(path)!r} cannot be written ({error.strerror}); free space there or give another --results"
            ) from error

    def read(self, study: str) -> list[Record]:
        """All records of a study, in the order in which they were appended.

        A torn last line (a writer that was killed) is left out. Raises ValueError, naming file and line, for a foreign
        schema or a line that is not a record.
        """
        path = self.path(study)
        if not path.exists():
            return []
        return list(_parse(path))


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


def _parse(path: Path) -> Iterator[Record]:
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if number == len(lines) and not _is_json(line):
            return  # torn
        try:
            fields = json.loads(line)
            schema = fields.get("schema") if isinstance(fields, dict) else None
            if schema != SCHEMA:
                raise ValueError(f"schema {schema!r} is not {SCHEMA}; read it with the vitbench that wrote it")
            yield Record.model_validate(fields)
        except ValueError as error:
            what = "not JSON" if isinstance(error, json.JSONDecodeError) else one_line(error)
            raise ValueError(f"{path} line {number}: {what}; mend or remove that line") from error
