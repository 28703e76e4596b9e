"""Which records has any process appended to a store since a command last read it whole?"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from vitbench.records import Record, RecordStore

_BLOCK = 2**16


class Arrivals:
    """Reads what is new in the record files, and only that."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store
        self._run_ids: set[str] = set()
        self._failed: set[tuple[str, str]] = set()
        self._read_to: dict[Path, int] = {}
        for path in store.directory.glob("*.jsonl"):
            with suppress(OSError):
                self._read_to[path] = _end_of_last_line(path)

    def forget(self) -> None:
        """Forgets what has arrived up to now, but not what failed."""
        self.look()
        self._run_ids.clear()

    def has(self, run_id: str) -> bool:
        """Whether a record of this run has arrived, in any study."""
        self.look()
        return self.knows(run_id)

    def knows(self, run_id: str) -> bool:
        """The same as of the last look, for whoever asks for many runs at once."""
        return run_id in self._run_ids

    def failed(self) -> set[tuple[str, str]]:
        """(study, run_id) of all runs that failed last since this was made."""
        self.look()
        return set(self._failed)

    def look(self) -> None:
        """Reads what is new. A file that cannot be read now is read later; whoever reads the whole of it says so."""
        for path in self._store.directory.glob("*.jsonl"):
            with suppress(OSError):
                self._look_into(path)

    def _look_into(self, path: Path) -> None:
        start, status = self._read_to.get(path, 0), path.stat()
        if not stat.S_ISREG(status.st_mode):
            return
        if status.st_size < start:  # someone repaired the file
            self._read_to[path] = _end_of_last_line(path)
        elif status.st_size > start:
            with path.open("rb") as file:
                file.seek(start)
                lines, line_break, _ = file.read().rpartition(b"\n")
            self._read_to[path] = start + len(lines) + len(line_break)
            for line in lines.split(b"\n"):
                with suppress(ValueError):  # whoever reads the whole file says so
                    record = Record.model_validate_json(line)
                    self._run_ids.add(record.identity)
                    (self._failed.discard if record.is_done else self._failed.add)(record.key)


def _end_of_last_line(path: Path) -> int:
    """Where the next line begins; what a writer that was killed left of one may lie there. Raises OSError."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - _BLOCK)
            file.seek(start)
            place = file.read(end - start).rfind(b"\n")
            if place >= 0:
                return start + place + 1
            end = start
    return 0
