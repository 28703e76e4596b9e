"""Who is told how far a command has come? Execution knows these interfaces; `commands.display` shows it in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from vitbench.execution.job import Job, Report
from vitbench.records import Record

Advance = Callable[[str, float, float], None]
"""Told what is being done, how much of it is done, and how much there is."""


class RunObserver(Protocol):
    """Told of runs while they go."""

    def report(self, job: Job, report: Report) -> None:
        """A run has come further."""

    def record(self, job: Job, record: Record) -> None:
        """A run has ended."""

    def recorded_by_others(self, job: Job) -> None:
        """Another process has recorded a run."""

    def say(self, line: str) -> None:
        """A line beside what is shown of runs."""


class Observer(Protocol):
    """Told how far a command has come."""

    def say(self, line: str) -> None:
        """A line of what the command answers."""

    def warn(self, line: str) -> None:
        """A line beside it, as on what is waited for."""

    def progress(self, what: str) -> AbstractContextManager[Advance]:
        """Something that takes a while begins, and ends with the block."""

    def runs(self, jobs: Sequence[Job]) -> AbstractContextManager[RunObserver]:
        """These jobs begin, and have ended with the block."""
