"""`vitbench run`: runs what is not yet recorded."""

from __future__ import annotations

import math

import typer

from vitbench.commands.arguments import (
    CHECKPOINT_MINUTES,
    DONE,
    FAILED,
    CheckpointMinutes,
    DeviceName,
    ExecutorName,
    GpusPerRun,
    Hours,
    Jobs,
    KeepWeights,
    MicroBatch,
    RayAddress,
    StudyOptions,
    Threads,
)
from vitbench.commands.callbacks import images_at_a_time
from vitbench.commands.options import with_options
from vitbench.commands.several_devices import DevicesPerRun


@with_options
def run(
    options: StudyOptions,
    device: DeviceName = "auto",
    executor: ExecutorName = ExecutorName.local,
    jobs: Jobs = "auto",
    devices_per_run: DevicesPerRun = 1,
    threads: Threads = None,
    keep_weights: KeepWeights = False,
    hours: Hours = None,
    micro_batch: MicroBatch = None,
    checkpoint_minutes: CheckpointMinutes = CHECKPOINT_MINUTES,
    ray_address: RayAddress = None,
    gpus_per_run: GpusPerRun = None,
) -> None:
    """Run what is not yet recorded in --results. Interrupt it whenever you like; the next call goes on."""
    request = options.request()
    from vitbench.execution.cluster import ClusterOptions
    from vitbench.execution.studies import StudyRuns

    of_cluster = ray_address is not None or gpus_per_run is not None
    runs = StudyRuns(
        request,
        device=device,
        executor=executor,
        jobs=jobs,
        devices_per_run=devices_per_run,
        threads=threads or 1,
        keep_weights=keep_weights,
        hours=math.inf if hours is None else hours,
        micro_batch=images_at_a_time(micro_batch),
        checkpoint_minutes=checkpoint_minutes,
        cluster=ClusterOptions(ray_address, "1" if gpus_per_run is None else gpus_per_run) if of_cluster else None,
    )
    raise typer.Exit(FAILED if runs.run_all() or request.faults else DONE)
