"""`vitbench run`: runs what is not yet recorded."""

from __future__ import annotations

import typer

from vitbench.commands.arguments import DONE, FAILED, DeviceName, ExecutorName, Jobs, KeepWeights, StudyOptions, Threads
from vitbench.commands.options import with_options


@with_options
def run(
    options: StudyOptions,
    device: DeviceName = "auto",
    executor: ExecutorName = ExecutorName.local,
    jobs: Jobs = "auto",
    threads: Threads = None,
    keep_weights: KeepWeights = False,
) -> None:
    """Run what is not yet recorded in --results. Interrupt it whenever you like; the next call goes on."""
    request = options.request()
    from vitbench.commands.display import Terminal
    from vitbench.execution.studies import Workers, run_studies

    workers = Workers(device=device, executor=executor.value, jobs=jobs, threads=threads or 1)
    failed = run_studies(request, workers, Terminal(), keep_weights=keep_weights)
    raise typer.Exit(FAILED if failed or request.faults else DONE)
