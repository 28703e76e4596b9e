"""What is wrong with a record file: which lines are damaged, which contradict each other, and who is told."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

from vitbench.config import TRACEBACK
from vitbench.text import printable

Kind = Literal["damage", "unreadable", "conflict", "not merged", "failure"]


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, and what was left out for it."""

    path: Path
    what: str
    line: int | None = None
    """From 1, the line that is left out; None where it is all of the file."""
    kind: Kind = "damage"
    """`damage`: a line is not as it was written. `unreadable`: the file is none. `conflict`: an earlier line of the same run,
    in an environment in which it must have the same bits, has other numbers. `not merged`: one that is there has.
    `failure`: no tables can be made of the records.
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
    "failure": f"{TRACEBACK}=1 shows where; the others are made without it, earlier tables and plots of it stay",
}


def _on_stderr(line: str) -> None:
    print(f"vitbench: left out: {printable(line)}", file=sys.stderr, flush=True)


MOST_SAID = 10
"""Faults of one file that are said one by one."""


class Faults:
    """Gathers faults while records are read, and says each once, on stderr where nobody else is to say it."""

    def __init__(self, say: Callable[[str], None] = _on_stderr) -> None:
        self._say = say
        self._all: dict[Fault, None] = {}
        self._said: Counter[Path] = Counter()

    def add(self, fault: Fault) -> None:
        if fault in self._all:
            return
        self._all[fault] = None
        self._said[fault.path] += 1
        if self._said[fault.path] <= MOST_SAID:
            self._say(str(fault))
        elif self._said[fault.path] == MOST_SAID + 1:
            self._say(f"{fault.path}: more lines; `vitbench records check` lists them all")

    def leaving_out(self, path: Path) -> LeavingOut:
        """A block that ends at whatever the records in `path` make fail, which is then a fault of theirs.

        They may be of another version, or of none: what they hold cannot be foreseen, and others must not suffer for it.
        Too little memory is no fault of theirs and leaves the block. With TRACEBACK set, all errors do.
        """
        return LeavingOut(self, path)

    @property
    def unread(self) -> set[str]:
        """Names of the studies, or of the folders, that hold what could not be read: earlier tables and plots of it stay."""
        return {fault.path.stem for fault in self._all if fault.kind != "conflict"}

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def remarks(self, path: Path | None = None) -> list[str]:
        """What is to be said of them, or of those of one file, where tables are made of the rest. No file goes unnamed."""
        remarks = []
        for one in dict.fromkeys(fault.path for fault in self._all if path in (None, fault.path)):
            faults = [fault for fault in self._all if fault.path == one]
            remarks += [printable(f"{fault.place}: {fault.what}.") for fault in faults[:MOST_SAID]]
            if (more := len(faults) - MOST_SAID) > 0:
                remarks.append(printable(f"{one.parent.name}/{one.name}: and {more} more."))
        return remarks


@dataclass(frozen=True)
class LeavingOut:
    """`Faults.leaving_out`."""

    faults: Faults
    path: Path

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception) or isinstance(error, MemoryError) or os.environ.get(TRACEBACK):
            return False
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        self.faults.add(Fault(self.path, f"nothing can be made of these records ({reason})", kind="failure"))
        return True
