"""How do many runs share a Ray cluster (extra `ray`)? Each is one task, on GPUs with one to itself."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from typing import Any

from vitbench.execution.claims import POLL_SECONDS, JobQueue
from vitbench.execution.job import Job, OnRecord
from vitbench.machine import utc_now
from vitbench.records import Record
from vitbench.signals import RECORDING_SECONDS, Ended, HeldSignals, obeyed


def run_jobs(queue: JobQueue, *, workers: int, on_gpus: bool, on_record: OnRecord) -> None:
    """Runs all jobs as Ray tasks; connects to the cluster in `RAY_ADDRESS`, else starts one here; `workers` at a time.

    Raises ValueError without Ray.
    """
    try:
        import ray
    except ImportError as error:
        raise ValueError("executor 'ray' needs Ray; install vitbench[ray] or use --executor local") from error
    with obeyed():
        try:
            if not ray.is_initialized():
                _connect(ray, workers)
            _run_tasks(ray, queue, workers=workers, on_gpus=on_gpus, on_record=on_record)
        finally:
            ray.shutdown()


def _connect(ray: Any, workers: int) -> None:
    # Ray refuses a number of slots for a cluster that is there already.
    slots: dict[str, Any] = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers}
    with HeldSignals():
        handler = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(**slots, include_dashboard=False, log_to_driver=False)
        except SystemExit as end:  # raised by the handler that Ray puts in place of ours
            raise Ended(128 + signal.SIGTERM) from end
        signal.signal(signal.SIGTERM, handler)


def _run_tasks(ray: Any, queue: JobQueue, *, workers: int, on_gpus: bool, on_record: OnRecord) -> None:
    task = ray.remote(num_cpus=1, num_gpus=int(on_gpus), max_retries=0)(_execute)
    pending: dict[Any, tuple[Job, str]] = {}
    while queue or pending:
        while len(pending) < workers and (job := queue.take()) is not None:
            if on_gpus:
                job = replace(job, device="cuda:0")  # Ray shows a task its own GPU alone
            pending[task.remote(job)] = job, utc_now()
        if not pending:
            if queue:
                queue.wait()
            continue
        # Ray turns what a handler raises within it into exit status 1, and what was fetched must be recorded.
        with HeldSignals(patience=RECORDING_SECONDS):
            done, _ = ray.wait(list(pending), num_returns=1, timeout=POLL_SECONDS)
            for reference in done:
                job, started = pending.pop(reference)
                try:
                    record = Record.model_validate_json(ray.get(reference))
                except ray.exceptions.RayError as error:  # its checkpoint stays for the next try
                    reason = " ".join(f"Ray: {type(error).__name__}: {error}".split())[:300]
                    on_record(job, job.failed(reason, started=started))
                else:
                    job.hand_over(record, on_record)
                queue.done(job)


def _execute(job: Job) -> str:
    from vitbench.execution.run import execute

    return execute(job).to_json()
