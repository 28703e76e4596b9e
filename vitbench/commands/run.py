"""`vitbench run`: runs what is not yet recorded."""

from __future__ import annotations

import math

import typer

from vitbench.commands.arguments import (
    DONE,
    FAILED,
    DeviceName,
    ExecutorName,
    Hours,
    Jobs,
    KeepWeights,
    StudyOptions,
    Threads,
)
from vitbench.commands.options import with_options


@with_options
def run(
    options: StudyOptions,
    device: DeviceName = "auto",
    executor: ExecutorName = ExecutorName.local,
    jobs: Jobs = "auto",
    threads: Threads = None,
    keep_weights: KeepWeights = False,
    hours: Hours = None,
) -> None:
    """Run what is not yet recorded in --results. Interrupt it whenever you like; the next call goes on."""
    request = options.request()
    from vitbench.execution.studies import StudyRuns

    runs = StudyRuns(
        request,
        device=device,
        executor=executor,
        jobs=jobs,
        threads=threads or 1,
        keep_weights=keep_weights,
        hours=math.inf if hours is None else hours,
    )
    raise typer.Exit(FAILED if runs.run_all() or request.faults else DONE)
