"""Who is told how far a command has come? Execution knows this interface alone; commands show it in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Self

from vitbench.execution.job import Job, Report
from vitbench.records import Record

Advance = Callable[[str, float, float], None]
"""Told what is being done, how much of it is done, and how much there is."""


class RunObserver:
    """Told of runs while they go; this one tells nobody."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def report(self, job: Job, report: Report) -> None:
        """A run has come further."""

    def record(self, job: Job, record: Record) -> None:
        """A run has ended."""

    def recorded_by_others(self, job: Job) -> None:
        """Another process has recorded a run."""

    def say(self, line: str) -> None:
        """A line beside what is shown of runs."""


class Observer:
    """Told how far a command has come; this one tells nobody."""

    def say(self, line: str) -> None:
        """A line of what the command answers."""

    def warn(self, line: str) -> None:
        """A line beside it, as on what is waited for."""

    @contextmanager
    def progress(self, what: str) -> Iterator[Advance]:  # noqa: ARG002
        """Something that takes a while begins, and ends with the block."""
        yield lambda *_: None

    def runs(self, jobs: Sequence[Job]) -> AbstractContextManager[RunObserver]:  # noqa: ARG002
        """These jobs begin, and have ended with the block."""
        return RunObserver()
