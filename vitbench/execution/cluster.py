"""Many runs on a Ray cluster (extra `ray`): each run is one task, with a GPU of its own where it asks for one."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from vitbench.execution.job import Job, OnRecord, utc_now
from vitbench.records import Record


def run_jobs(jobs: Sequence[Job], *, workers: int, on_record: OnRecord) -> None:
    """Runs all jobs as Ray tasks; connects to the cluster in `RAY_ADDRESS`, else starts one here; `workers` at a time.

    Raises ValueError where Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ValueError("executor 'ray' needs Ray; install vitbench[ray] or use --executor local") from error
    if not ray.is_initialized():
        # Ray refuses a number of slots for a cluster that is there already.
        slots: dict[str, Any] = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers}
        ray.init(**slots, include_dashboard=False, log_to_driver=False)
    gpus = 1 if jobs and jobs[0].device.startswith("cuda") else 0
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(_execute)
    waiting = deque(jobs)
    pending: dict[Any, tuple[Job, str]] = {}
    try:
        while waiting or pending:
            while waiting and len(pending) < workers:
                job = waiting.popleft()
                if gpus:
                    job = replace(job, device="cuda:0")  # Ray shows a task its own GPU alone
                pending[task.remote(job)] = job, utc_now()
            (done,), _ = ray.wait(list(pending), num_returns=1)
            job, started = pending.pop(done)
            died = False
            try:
                record = Record.model_validate_json(ray.get(done))
            except ray.exceptions.RayError as error:
                died = True  # what the run had kept of itself stays for the next try
                record = job.failed(" ".join(f"Ray: {type(error).__name__}: {error}".split())[:300], started=started)
            on_record(job, record)
            if not died:
                job.remove_checkpoint()
    finally:
        ray.shutdown()


def _execute(job: Job) -> str:
    from vitbench.execution.run import execute

    return execute(job).to_json()
