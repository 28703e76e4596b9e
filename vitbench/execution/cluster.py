"""Many runs on a Ray cluster (extra `ray`): each run is one task, with a GPU of its own where it asks for one."""

from __future__ import annotations

from collections.abc import Sequence

from vitbench.execution.job import Job, OnRecord, utc_now
from vitbench.records import Record


def run_jobs(jobs: Sequence[Job], *, workers: int, on_record: OnRecord) -> None:
    """Runs all jobs as Ray tasks; connects to the cluster in `RAY_ADDRESS`, else starts one with `workers` slots here.

    Raises ValueError where Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ValueError("executor 'ray' needs Ray; install vitbench[ray] or use --executor local") from error
    if not ray.is_initialized():
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
    gpus = 1 if jobs and jobs[0].device.startswith("cuda") else 0
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(_execute)
    started = utc_now()
    pending = {task.remote(job): job for job in jobs}
    try:
        while pending:
            (done,), _ = ray.wait(list(pending), num_returns=1)
            job = pending.pop(done)
            try:
                record = Record.model_validate_json(ray.get(done))
            except ray.exceptions.RayError as error:
                record = job.failed(f"Ray: {type(error).__name__}: {str(error).splitlines()[0]}", started=started)
            on_record(job, record)
    finally:
        ray.shutdown()


def _execute(job: Job) -> str:
    from vitbench.execution.run import execute

    return execute(job).to_json()
