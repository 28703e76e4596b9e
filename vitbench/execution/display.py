"""What a person sees while runs are under way: a live display in a terminal, a line per study elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from vitbench.execution.job import Job, Report
from vitbench.records import Outcome, Record
from vitbench.text import counted, duration, printable

STARTING_FLOPS = 2e9
"""Added to every run's training FLOPs in the estimate of time left: data, evaluation and start cost something too."""
BAR_WIDTH = 24


def is_live() -> bool:
    """Whether someone watches stderr. rich would also take FORCE_COLOR, which CI services set, for a terminal."""
    return sys.stderr.isatty() and not os.environ.get("CI")


@contextmanager
def progress(what: str) -> Iterator[Callable[[str, float, float], None]]:
    """Yields what is told (what is being done, how much of it is done, how much there is) while the block lasts."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=BAR_WIDTH), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not is_live()) as bar:
        row = bar.add_task(escape(what), total=None)

        def advance(description: str, done: float, total: float) -> None:
            bar.update(row, description=escape(description), completed=done, total=total)

        yield advance


class RunDisplay:
    """Study, run, epoch, loss, images/s and time left. Quiet in CI and in a pipe, where it prints a line per study."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.console, self.live = Console(stderr=True), is_live()
        self.left = Counter(job.run.study for job in jobs)
        self.outcomes: dict[str, Counter[str]] = {study: Counter() for study in self.left}
        self.started = time.monotonic()
        columns = TextColumn("{task.description}"), BarColumn(bar_width=BAR_WIDTH), TextColumn("{task.fields[detail]}")
        self.progress = Progress(*columns, console=self.console, disable=not self.live)
        self._rows: dict[str, TaskID] = {}
        """By run_id."""
        self._total = sum(map(_weight, jobs))
        self._all = self.progress.add_task(f"[bold]{counted(len(jobs), 'run')}", total=self._total, detail="")
        self._num_jobs, self._num_done, self._done = len(jobs), 0, 0.0

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def report(self, job: Job, report: Report) -> None:
        if not self.live:
            return
        run = job.run
        if run.run_id not in self._rows:
            setting = run.setting_text if run.design.tuned else f"lr {run.setting_text}"
            label = f"{run.study}  {run.arm}  {run.config.data.dataset}  {setting}  seed {run.config.seed}"
            self._rows[run.run_id] = self.progress.add_task(escape(label), total=_weight(job), detail="")
        row = self._rows[run.run_id]
        self.progress.update(row, completed=report.fraction * _weight(job), detail=report.text)
        self._update_total()

    def record(self, job: Job, record: Record) -> None:
        if record.outcome is not Outcome.COMPLETED:
            self.say(f"{job.run.study}, {record.arm}, seed {record.seed}: {record.outcome}: {record.reason}")
        self._end(job, record.outcome)

    def recorded_by_others(self, job: Job) -> None:
        self._end(job, "by other processes")

    def say(self, line: str) -> None:
        """On stderr."""
        if self.live:
            self.console.print(printable(line), markup=False, highlight=False)
        else:
            print(printable(line), file=sys.stderr, flush=True)

    def _end(self, job: Job, how: str) -> None:
        self._num_done += 1
        self._done += _weight(job)
        if (row := self._rows.pop(job.run.run_id, None)) is not None:
            self.progress.remove_task(row)
        self._update_total()
        study = job.run.study
        self.outcomes[study][how] += 1
        self.left[study] -= 1
        if self.left[study] == 0:
            counts = ", ".join(f"{n} {outcome}" for outcome, n in sorted(self.outcomes[study].items()))
            self.say(f"{study}: {counts} ({time.monotonic() - self.started:.0f} s)")

    def _update_total(self) -> None:
        done = self._done + sum(task.completed for task in self.progress.tasks if task.id != self._all)
        left = (time.monotonic() - self.started) * (self._total - done) / done if done else 0.0
        detail = f"{self._num_done}/{self._num_jobs} done, {duration(left)} left" if done else ""
        self.progress.update(self._all, completed=done, detail=detail)


def _weight(job: Job) -> float:
    return job.run.training_flops + STARTING_FLOPS
