"""How do many runs share this machine? Worker processes, with one run at a time each, that live as long as a wave."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from vitbench.execution.claims import POLL_SECONDS, JobQueue
from vitbench.execution.job import Job, OnRecord, OnReport, Report
from vitbench.execution.preparation import run_devices
from vitbench.execution.processes import SPAWN, end_after_parent, end_all, how_it_died, started
from vitbench.machine import utc_now
from vitbench.records import Outcome, Record
from vitbench.signals import RECORDING_SECONDS, HeldSignals, leave_to_parent, obeyed, outlive_terminal


@dataclass
class _Worker:
    """A process, our end of its pipe, and what it is doing."""

    index: int
    process: SpawnProcess
    pipe: Connection
    job: Job | None = None
    started: str = ""

    def give(self, job: Job, devices: Sequence[str]) -> None:
        self.job = job.on(run_devices(devices, job.num_devices, worker=self.index))
        self.started = utc_now()
        with contextlib.suppress(OSError):  # it has died between two runs: reading from it will say so
            self.pipe.send(self.job)


def run_jobs(
    queue: JobQueue, *, workers: int, devices: Sequence[str], on_record: OnRecord, on_report: OnReport
) -> None:
    """Runs all jobs on `workers` processes, which are dealt out over `devices`; calls back in this process as they go.

    Where a worker dies, its run is recorded as failed; its checkpoint stays, and the next try goes on from it. When this
    function is left by an exception (Ctrl-C, a full disk), the workers write their checkpoints, where they keep any, and
    end; a second Ctrl-C kills them.
    """
    pool: list[_Worker] = []
    interrupted = False
    with obeyed():
        try:
            while queue or any(worker.job for worker in pool):
                _give_out(queue, pool, workers, devices)
                busy = [worker for worker in pool if worker.job]
                if not busy:
                    if queue:
                        queue.wait()
                    continue
                is_idle = bool(queue) and len(busy) < workers
                ready = wait([worker.pipe for worker in busy], timeout=POLL_SECONDS if is_idle else None)
                for worker in [w for w in busy if w.pipe in ready]:
                    job = worker.job
                    # A signal must not come between reading from the pipe and recording.
                    with HeldSignals(patience=RECORDING_SECONDS):
                        _receive(worker, on_record, on_report)
                    if worker.job is None and job is not None:
                        queue.done(job)
                        if not worker.process.is_alive():
                            pool.remove(worker)
        except (KeyboardInterrupt, SystemExit):
            interrupted = True
            raise
        finally:
            end_all([worker.process for worker in pool])
            if interrupted:
                with HeldSignals(patience=RECORDING_SECONDS):
                    _receive_last(pool, on_record)


def _give_out(queue: JobQueue, pool: list[_Worker], workers: int, devices: Sequence[str]) -> None:
    """Gives every free worker a job, starting workers as long as there are jobs that nobody else has claimed."""
    free = [worker for worker in pool if worker.job is None]
    while (free or len(pool) < workers) and (job := queue.take()) is not None:
        if not free:
            index = next(i for i in range(workers) if all(i != worker.index for worker in pool))
            with HeldSignals(patience=RECORDING_SECONDS):  # or the worker could be left without its first message
                free.append(_start(index, job))
                pool.append(free[-1])
        worker = free.pop()
        queue.give_to(job, worker.process.pid)
        worker.give(job, devices)


def _receive_last(pool: Sequence[_Worker], on_record: OnRecord) -> None:
    """Records what workers finished before they ended, and nobody has read yet."""
    for worker in pool:
        with contextlib.suppress(EOFError, OSError):
            while worker.job and worker.pipe.poll():
                message = worker.pipe.recv()
                if not isinstance(message, Report):
                    job, worker.job = worker.job, None
                    job.hand_over(Record.model_validate_json(message), on_record)


def _start(index: int, first: Job) -> _Worker:
    ours, theirs = SPAWN.Pipe()
    process = started(_serve, (theirs,), threads=first.threads)
    theirs.close()
    return _Worker(index, process, ours)


def _receive(worker: _Worker, on_record: OnRecord, on_report: OnReport) -> None:
    assert worker.job is not None
    job = worker.job
    try:
        message = worker.pipe.recv()
    except (EOFError, OSError):  # OSError: it died half-way through a message
        worker.process.join()
        worker.job = None
        on_record(job, job.failed(how_it_died(worker.process.exitcode), started=worker.started))
        return
    if isinstance(message, Report):
        on_report(job, message)
    else:
        worker.job = None
        record = Record.model_validate_json(message)
        if record.outcome is Outcome.FAILED and job.device.startswith("cuda"):
            # An error on a GPU can leave its context unusable, and every later run of this process would fail too.
            worker.process.terminate()
            worker.process.join()
        job.hand_over(record, on_record)


def _serve(pipe: Connection) -> None:
    """Runs the jobs that come through the pipe, sends reports and records back, until the other end is gone."""
    leave_to_parent()  # where there is no mask to inherit
    outlive_terminal()
    threading.Thread(target=end_after_parent, daemon=True).start()
    from vitbench.execution.rank_processes import RankProcesses
    from vitbench.execution.run import execute

    def report(report: Report) -> None:
        with contextlib.suppress(OSError):  # the parent is gone, and SIGTERM on its way
            pipe.send(report)

    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError), RankProcesses() as ranks:
        while True:
            job = pipe.recv()
            record = execute(job, report) if job.num_devices == 1 else ranks.execute(job, report)
            # As JSON, so that what the parent appends is what a reader will see.
            pipe.send(record.to_json())
