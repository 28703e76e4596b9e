"""How does one run use several devices of this machine? A process for each, and this one, which watches them."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import TYPE_CHECKING, Self

from vitbench.execution.job import Job, Report
from vitbench.execution.processes import SAVING_SECONDS, SPAWN, end_after_parent, end_all, how_it_died, started
from vitbench.machine import utc_now
from vitbench.records import Outcome, Record
from vitbench.signals import leave_to_parent, obeyed, outlive_terminal
from vitbench.text import error_with_type

if TYPE_CHECKING:
    from torch._C._distributed_c10d import TCPStore

SETTLING_SECONDS = 3.0
"""After a first rank has failed: in which its reason, or its death, is told apart from what it did to the others."""
MARGIN_SECONDS = 5.0
"""How much sooner than workers ranks are killed, so that none is left behind."""


@dataclass
class _Rank:
    """A process, our end of its pipe, and what it came to."""

    number: int
    process: SpawnProcess
    pipe: Connection
    record: Record | None = None
    is_dead: bool = False


@dataclass
class RankProcesses:
    """Computes runs on several devices, one run after the other; ranks live from the first run until one fails.

    While entered; at the end rank 0 keeps the state of the run under way, and all end.
    """

    ranks: list[_Rank] = field(default_factory=list)
    threads: int = 0
    store: TCPStore | None = None
    runs: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end(saving=True)

    def execute(self, job: Job, on_report: Callable[[Report], None] = lambda _: None) -> Record:
        """Runs `job` on its `rank_devices`. Where a rank fails or dies, the record is of a failed run, and says which and why.

        When this is left by an exception, as by a signal, rank 0 writes its checkpoint, and all ranks end.
        """
        begun = utc_now()
        with obeyed():
            try:
                self._start(job)
                record = self._watch(on_report)
                if record is None:
                    record = job.failed(self._why_failed(), started=begun)
                    self._end(saving=False)
                return record
            except BaseException:
                self._end(saving=True)
                raise

    def _start(self, job: Job) -> None:
        """Gives the job to as many ranks, started where there are none like that."""
        from torch._C._distributed_c10d import TCPStore

        if len(self.ranks) != job.num_devices or self.threads != job.threads:
            self._end(saving=False)
            self.threads = job.threads
            # In this process, which outlives every rank; port 0 takes one that is free.
            self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
            for number in range(job.num_devices):
                ours, theirs = SPAWN.Pipe()
                process = started(_serve, (theirs, number), threads=job.threads)
                theirs.close()
                self.ranks.append(_Rank(number, process, ours))
        assert self.store is not None
        self.runs += 1
        for rank in self.ranks:
            rank.record = None
            with contextlib.suppress(OSError):  # it has died between two runs: reading from it will say so
                rank.pipe.send((job, self.store.port, self.runs))

    def _watch(self, on_report: Callable[[Report], None]) -> Record | None:
        """Rank 0's record, once all ranks have one; None where one has failed or died."""
        gives_up = float("inf")
        while True:
            busy = [rank for rank in self.ranks if rank.record is None and not rank.is_dead]
            failed = [rank for rank in self.ranks if rank.is_dead or (rank.record and _failed(rank.record))]
            if failed and gives_up == float("inf"):
                gives_up = time.monotonic() + SETTLING_SECONDS
            if not busy or time.monotonic() >= gives_up:
                return None if failed else self.ranks[0].record
            ready = wait([rank.pipe for rank in busy], timeout=None if not failed else gives_up - time.monotonic())
            for rank in [rank for rank in busy if rank.pipe in ready]:
                _receive(rank, on_report)

    def _why_failed(self) -> str:
        """The first cause: a death, else an error that is not the loss of another rank."""
        from vitbench.ranks import LOST

        size = len(self.ranks)
        if dead := next((rank for rank in self.ranks if rank.is_dead), None):
            dead.process.join()
            return f"rank {dead.number} of {size}: {how_it_died(dead.process.exitcode)}"
        records = [(rank.number, rank.record) for rank in self.ranks if rank.record and _failed(rank.record)]
        number, record = min(records, key=lambda pair: (pair[1].reason.startswith(LOST), pair[0]))
        return f"rank {number} of {size}: {record.reason}" if number else record.reason

    def _end(self, *, saving: bool) -> None:
        """Ends all ranks; with `saving`, rank 0 first, which finishes its step with the others and keeps its state."""
        processes = [rank.process for rank in self.ranks]
        try:
            if saving:
                end_all(processes[:1], seconds=SAVING_SECONDS - MARGIN_SECONDS)
        finally:
            end_all(processes, seconds=0.0)
            for rank in self.ranks:
                rank.pipe.close()
            self.ranks.clear()


def _failed(record: Record) -> bool:
    return record.outcome is Outcome.FAILED


def _receive(rank: _Rank, on_report: Callable[[Report], None]) -> None:
    try:
        message = rank.pipe.recv()
    except (EOFError, OSError):  # OSError: it died half-way through a message
        rank.is_dead = True
        return
    if isinstance(message, Report):
        on_report(message)
    else:
        rank.record = Record.model_validate_json(message)


def _serve(pipe: Connection, number: int) -> None:
    """Computes the part of rank `number` of the runs that come through the pipe, until the other end is gone.

    Rank 0 alone sends reports, and is told to end: the others are there for as long as it needs them.
    """
    leave_to_parent()
    if number:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    outlive_terminal()
    threading.Thread(target=end_after_parent, daemon=True).start()

    def report(report: Report) -> None:
        with contextlib.suppress(OSError):  # the parent is gone, and SIGTERM on its way
            pipe.send(report)

    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            job, port, run = pipe.recv()
            _execute(pipe, job, number, port, run, report if number == 0 else lambda _: None)


def _execute(pipe: Connection, job: Job, number: int, port: int, run: int, on_report: Callable[[Report], None]) -> None:
    import torch
    from torch._C._distributed_c10d import PrefixStore, TCPStore

    from vitbench.execution.run import execute
    from vitbench.ranks import joined

    begun, device = utc_now(), job.rank_devices[number]
    try:
        store = PrefixStore(str(run), TCPStore("127.0.0.1", port, is_master=False, timeout=timedelta(seconds=60)))
        with joined(store, number, job.num_devices, torch.device(device)) as ranks:
            record = execute(replace(job, device=device), on_report, ranks)
            # Before it leaves the others: so its reason comes before their loss of it.
            pipe.send(record.to_json())
    except RuntimeError as error:  # they have not met
        pipe.send(job.failed(error_with_type(error), started=begun).to_json())
