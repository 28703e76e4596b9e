"""How does a run go whose processes `torchrun` has started? Rank 0 plans and records it, the others compute their part.

Rank 0 decides when the run ends: the others are there for as long as it is. Nobody else watches them in its place, as
torchrun ends all once one has died; so rank 0 sees to it itself that a run is recorded as failed, and why.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta

import torch
from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from vitbench.execution.job import Job, Report
from vitbench.execution.processes import is_alive, this_machine
from vitbench.execution.run import execute
from vitbench.launched import Launched
from vitbench.machine import utc_now
from vitbench.ranks import LOST, joined
from vitbench.records import Outcome, Record
from vitbench.signals import RECORDING_SECONDS, Ended, HeldSignals, leave_to_parent
from vitbench.text import error_with_type, say

POLL_SECONDS = 0.5
BEAT_SECONDS = 2.0
"""How often every rank shows that it is there."""
LOST_SECONDS = 30.0
"""After so long without a beat, a rank of another machine is lost."""
STUCK_SECONDS = 10.0
"""After so long, rank 0 does not wait any more for its own step to notice that another rank is lost."""
MEETING = timedelta(minutes=5)


class Peers:
    """What the ranks of a run tell each other besides gradients, through torchrun's store."""

    def __init__(self, launch: Launched) -> None:
        self.launch = launch
        self._store, self._watched = _meet(launch), _meet(launch)  # a client serves one thread at a time
        self._beats: dict[int, tuple[bytes, float]] = {}
        """Rank → (what it showed last, when that was new)."""
        self._on_lost: Callable[[str], None] | None = None
        self._store.set(f"process {launch.rank}", json.dumps([this_machine(), os.getpid()]))
        threading.Thread(target=self._watch, daemon=True).start()

    def give(self, job: Job | None) -> None:
        """Rank 0 has this to compute, or nothing."""
        self._store.set("job", base64.b64encode(pickle.dumps(job)).decode())

    def take(self) -> Job | None:
        """What rank 0 gives. Raises RuntimeError where it has ended before."""
        while not self._store.check(["job"]):
            if self._why_lost(0, self._store):
                raise RuntimeError("rank 0 ended before there was anything to compute")
            time.sleep(POLL_SECONDS)
        job: Job | None = pickle.loads(base64.b64decode(self._store.get("job")))
        return job

    def group(self) -> Store:
        """Where the ranks meet for gradients."""
        return PrefixStore("group", self._store)

    def tell_failure(self, reason: str) -> None:
        with suppress(RuntimeError):
            self._store.set(f"failure {self.launch.rank}", reason)

    def tell_recorded(self) -> None:
        with suppress(RuntimeError):
            self._store.set("recorded", "")

    def wait_until_recorded(self) -> None:
        """Until rank 0 has recorded the run or ended: a rank that is gone before counts as lost."""
        with suppress(RuntimeError):
            while not self._store.check(["recorded"]) and not self._why_lost(0, self._store):
                time.sleep(POLL_SECONDS)

    def lost(self, *, within: float = 0.0) -> str:
        """Which other rank has failed or died, and why; empty where none has, or is seen to have in so many seconds."""
        end = time.monotonic() + within
        while True:
            with suppress(RuntimeError):
                if reason := self._lost(self._store):
                    return reason
            if time.monotonic() >= end:
                return ""
            time.sleep(POLL_SECONDS)

    def _lost(self, store: Store) -> str:
        others = [rank for rank in range(self.launch.size) if rank != self.launch.rank]
        size = self.launch.size
        for rank in others:
            why = self._why_lost(rank, store)
            if why and not why.startswith(LOST):  # who only lost another is not the cause: it may have lost this one
                return f"rank {rank} of {size}: {why}"
        return ""

    def _why_lost(self, rank: int, store: Store) -> str:
        if store.check([f"failure {rank}"]):
            return str(store.get(f"failure {rank}").decode())
        if not store.check([f"process {rank}"]):  # not there yet
            return ""
        machine, process = json.loads(store.get(f"process {rank}"))
        if machine and machine == this_machine():
            return "" if is_alive(process) else "its process was ended, perhaps out of memory"
        beat = store.get(f"beat {rank}") if store.check([f"beat {rank}"]) else b""
        now = time.monotonic()
        last, since = self._beats.get(rank, (None, now))
        if beat != last:
            since = now
        self._beats[rank] = beat, since
        return "" if now - since < LOST_SECONDS else f"nothing heard from its process for {LOST_SECONDS:.0f} s"

    @contextmanager
    def watched(self, on_lost: Callable[[str], None]) -> Iterator[None]:
        """While entered, `on_lost` is called in another thread once another rank is lost: for followers, rank 0."""
        self._on_lost = on_lost
        try:
            yield
        finally:
            self._on_lost = None

    def _watch(self) -> None:
        """Shows that this rank is there, from the beginning to its end."""
        for number in itertools.count():
            try:
                self._watched.set(f"beat {self.launch.rank}", str(number))
                reason = ""
                if self._on_lost is not None:
                    first = self.launch.rank == 0
                    reason = self._lost(self._watched) if first else self._why_lost(0, self._watched)
            except RuntimeError:  # the store has ended with torchrun
                reason = "torchrun has ended"
            if reason:
                time.sleep(STUCK_SECONDS)
                if (on_lost := self._on_lost) is not None:
                    on_lost(reason)
            time.sleep(BEAT_SECONDS)


def _meet(launch: Launched) -> Store:
    store, _, _ = next(rendezvous("env://", launch.rank, launch.size, timeout=MEETING))
    return PrefixStore("vitbench", store)


def execute_first(
    peers: Peers, job: Job, on_report: Callable[[Report], None], keep: Callable[[Record], None]
) -> Record:
    """Runs `job` as rank 0, and hands its record to `keep`: that of a failed run where another rank failed or died.

    Where rank 0 is told to end and the others are there, the signal has its effect.
    """

    begun, ending = utc_now(), threading.Lock()

    def on_lost(reason: str) -> None:
        with ending:
            keep(job.failed(reason, started=begun))
            say(f"run {job.run.run_id} failed: {reason}")
            os._exit(1)  # stuck in a step, which a lost rank never ends

    peers.give(job)
    with peers.watched(on_lost):
        try:
            device = job.rank_devices[0]
            with joined(peers.group(), 0, peers.launch.size, torch.device(device)) as ranks:
                record = execute(replace(job, device=device), on_report, ranks)
        except (Ended, KeyboardInterrupt):
            reason = peers.lost()  # torchrun tells all others to end once one has died
            if not reason:
                raise
            record = job.failed(reason, started=begun)
        except RuntimeError as error:  # they have not met
            record = job.failed(error_with_type(error), started=begun)
    with HeldSignals(patience=RECORDING_SECONDS), ending:  # torchrun's signal must not come between
        if record.outcome is Outcome.FAILED:
            reason = peers.lost(within=LOST_SECONDS + 5 if record.reason.startswith(LOST) else 0.0)
            record = job.failed(reason, started=begun) if reason else record
        keep(record)
        peers.tell_recorded()
    return record


def follow(launch: Launched) -> bool:
    """Computes this rank's part of what rank 0 gives; whether that went well."""
    peers = Peers(launch)
    try:
        job = peers.take()
    except RuntimeError:
        return False
    if job is None:
        return True
    leave_to_parent()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with peers.watched(lambda _: os._exit(1)):
        try:
            device = device_of(job.device, launch)
            with joined(peers.group(), launch.rank, launch.size, torch.device(device)) as ranks:
                record = execute(replace(job, device=device), ranks=ranks)
                if record.outcome is Outcome.FAILED:  # told before this rank leaves the others
                    peers.tell_failure(record.reason)
        except Exception as error:
            peers.tell_failure(error_with_type(error))
            record = job.failed(error_with_type(error), started="")
        peers.wait_until_recorded()
    return record.outcome is not Outcome.FAILED


def device_of(name: str, launch: Launched) -> str:
    """The device of this process, where rank 0 has `name`: the GPU of its own number on its machine."""
    return f"cuda:{launch.local_rank}" if name.startswith("cuda") else name
