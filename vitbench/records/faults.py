"""What is wrong with a record file, and who is told: damaged lines, lines that contradict each other, unreadable files."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vitbench.refusals import TRACEBACK
from vitbench.text import printable

Kind = Literal["damage", "unreadable", "conflict", "not merged", "failure", "source"]


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, for which a line or a file is left out."""

    path: Path
    what: str
    line: int | None = None
    """From 1; None where all of the file is left out."""
    kind: Kind = "damage"
    """`damage`: a line is not as it was written. `unreadable`: no file can be read there. `conflict`: an earlier line of the
    same run has other numbers, though its environment guarantees equal ones. `not merged`: such a line in a folder that is
    merged into this one. `failure`: tables cannot be made of the records. `source`: the kept source of a user's code.
    """

    @property
    def place(self) -> str:
        """`records/pooling.jsonl line 3`: the same wherever the results lie."""
        return f"{self.path.parent.name}/{self.path.name}" + self._line

    @property
    def _line(self) -> str:
        return "" if self.line is None else f" line {self.line}"

    def __str__(self) -> str:
        return f"{self.path}{self._line}: {self.what}; {_REMEDIES[self.kind]}"

    def to_dict(self) -> dict[str, str | int | None]:
        return {"file": str(self.path), "line": self.line, "kind": self.kind, "what": self.what}


_REMEDIES: dict[Kind, str] = {
    "damage": "mend or remove that line (`vitbench records repair`)",
    "unreadable": "make it readable, or remove it; earlier tables and plots of it stay",
    "conflict": "`vitbench records repair --conflicts` sets this line aside",
    "not merged": "it is not taken over",
    "source": "run the study again with its file, or bring it back from a copy; records and tables do not need it",
    "failure": f"{TRACEBACK}=1 shows where; the others are made without it, earlier tables and plots of it stay",
}


def _on_stderr(line: str) -> None:
    print(f"vitbench: left out: {printable(line)}", file=sys.stderr, flush=True)


MOST_SHOWN = 10
"""Faults of one file that are shown one by one."""


class Faults:
    """Gathers faults while records are read, and tells each once: to `say`, by default on stderr."""

    def __init__(self, say: Callable[[str], None] = _on_stderr) -> None:
        self._say = say
        self._all: dict[Fault, None] = {}
        self._counts: Counter[Path] = Counter()

    def add(self, fault: Fault) -> None:
        if fault in self._all:
            return
        self._all[fault] = None
        self._counts[fault.path] += 1
        if self._counts[fault.path] <= MOST_SHOWN:
            self._say(str(fault))
        elif self._counts[fault.path] == MOST_SHOWN + 1:
            self._say(f"{fault.path}: more lines; `vitbench records check` lists them all")

    @contextmanager
    def leaving_out(self, path: Path) -> Iterator[None]:
        """A block that ends at the first error, which becomes a fault of the records in `path`.

        What these hold cannot be foreseen, as they may be of another version, and other studies must not suffer for it.
        Too little memory is no fault of theirs and leaves the block. With TRACEBACK set, all errors do.
        """
        try:
            yield
        except Exception as error:
            if isinstance(error, MemoryError) or os.environ.get(TRACEBACK):
                raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            self.add(Fault(path, f"nothing can be made of these records ({reason})", kind="failure"))

    @property
    def unread(self) -> set[str]:
        """Names of studies, or of folders, with records that could not be read: their earlier tables and plots stay."""
        return {fault.path.stem for fault in self._all if fault.kind != "conflict"}

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def remarks(self, path: Path | None = None) -> list[str]:
        """Sentences on what is left out of tables, of all files or of one."""
        remarks = []
        for file in dict.fromkeys(fault.path for fault in self._all if path in (None, fault.path)):
            faults = [fault for fault in self._all if fault.path == file]
            remarks += [printable(f"{fault.place}: {fault.what}.") for fault in faults[:MOST_SHOWN]]
            if (more := len(faults) - MOST_SHOWN) > 0:
                remarks.append(printable(f"{file.parent.name}/{file.name}: and {more} more."))
        return remarks
