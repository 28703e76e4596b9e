"""Which process runs what, where several share a results folder? Each run is claimed; a claim ends with its process.

A claim is a file, `claims/<run_id>`, whose time of change its process renews. Another process takes it over once it has
seen that time unchanged for the length of a lease on its own clock, so that clocks need not agree; on the machine of the
claim, as soon as its processes are gone.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from filelock import FileLock

from vitbench.execution.arrivals import Arrivals
from vitbench.execution.job import Job
from vitbench.files import ANOTHER_RESULTS, cannot_write, write_whole

LEASE_SECONDS = 60.0
"""How long a claim holds without being renewed: six renewals may fail, and workers whose driver died get 30 s to save."""
RENEWALS = 6
"""In the time of a lease."""
POLL_SECONDS = 1.0
"""Between two looks at what others have claimed."""


class Claims:
    """The claims of this process in a results folder, while it is entered; at the end all are released."""

    def __init__(self, results: Path) -> None:
        self._folder = results.absolute() / "claims"
        self._lock_file = results.absolute() / "records" / ".claims.folder.lock"  # of no study, whose names have no dot
        self._token = secrets.token_hex(8)
        self._held: set[str] = set()
        self._others: dict[str, tuple[_Claim, float, float]] = {}
        """run_id → (another's claim as it was last seen, when that was, seconds that it has been so)."""
        self._over = threading.Event()
        self._renewing = threading.Thread(target=self._renew, name="claims", daemon=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for run_id in tuple(self._held):
            self.release(run_id)
        self._sweep()

    def take(self, run_id: str, *, by_process: bool = True) -> bool:
        """Claims a run; False where another process has it. Raises ValueError where results cannot be written.

        `by_process`: it is computed on this machine, so that the end of this process, and of those named to `share`, ends
        the claim.
        """
        try:
            if self._is_taken(run_id):
                return False
            self._lock_file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self._lock_file):
                if self._is_taken(run_id):
                    return False
                self._folder.mkdir(exist_ok=True)
                path = self._path(run_id)
                path.unlink(missing_ok=True)
                with path.open("x", encoding="utf-8") as file:
                    try:
                        file.write(self._content([os.getpid()] if by_process else []))
                        file.flush()
                    except OSError:
                        path.unlink(missing_ok=True)  # the disk is full
                        raise
        except FileExistsError:  # on a file system whose locks do not reach other machines
            return False
        except OSError as error:
            raise cannot_write("claims", self._folder, error, ANOTHER_RESULTS) from error
        self._held.add(run_id)
        if not self._renewing.is_alive():
            self._renewing.start()
        return True

    @contextmanager
    def held(self, name: str, *, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """The claim of one thing; `on_wait` is called once where another process has it, and must end first."""
        if not self.take(name):
            on_wait()
            while not self.take(name):
                time.sleep(POLL_SECONDS)
        try:
            yield
        finally:
            self.release(name)

    def share(self, run_id: str, process: int) -> None:
        """Has the claim outlive this process for as long as `process` lives, which computes the run."""
        if self.holds(run_id):
            with suppress(OSError):
                write_whole(self._path(run_id), self._content([os.getpid(), process]))

    def holds(self, run_id: str) -> bool:
        """Whether the claim is still this process's: it loses it when it is stopped for longer than a lease."""
        claim = _read(self._path(run_id))
        return claim is not None and claim.token == self._token

    def is_taken_by_another(self, run_id: str) -> bool:
        """Whether a living process other than this one has claimed the run."""
        return not self.holds(run_id) and self._is_taken(run_id)

    def release(self, run_id: str) -> None:
        """Lets others have it. The folder goes with the last claim in it."""
        if run_id not in self._held:
            return
        self._held.discard(run_id)
        with suppress(OSError), FileLock(self._lock_file):
            if self.holds(run_id):
                self._path(run_id).unlink(missing_ok=True)
            self._folder.rmdir()

    def _path(self, run_id: str) -> Path:
        return self._folder / run_id

    def _content(self, processes: Sequence[int]) -> str:
        return json.dumps({"token": self._token, "machine": _machine(), "processes": list(processes)})

    def _is_taken(self, run_id: str) -> bool:
        claim = _read(self._path(run_id))
        if claim is None:
            self._others.pop(run_id, None)
            return False
        if claim.has_ended():
            return False
        now = time.monotonic()
        seen, last, unchanged = self._others.get(run_id, (claim, now, 0.0))
        # Between two looks far apart, both may have been without the file system, and the other unable to renew.
        unchanged = unchanged + min(now - last, LEASE_SECONDS / RENEWALS) if seen == claim else 0.0
        self._others[run_id] = claim, now, unchanged
        return unchanged < LEASE_SECONDS

    def _renew(self) -> None:
        while not self._over.wait(LEASE_SECONDS / RENEWALS):
            for run_id in tuple(self._held):
                with suppress(OSError):
                    if self.holds(run_id):
                        os.utime(self._path(run_id))

    def _sweep(self) -> None:
        """Removes what processes of this machine that were killed left behind of runs that nobody asks for any more."""
        with suppress(OSError):
            dead = [path for path in self._folder.iterdir() if (claim := _read(path)) and claim.has_ended()]
            if dead:
                with FileLock(self._lock_file):
                    for path in dead:
                        if (claim := _read(path)) and claim.has_ended():
                            path.unlink(missing_ok=True)
                    self._folder.rmdir()


@dataclass(frozen=True)
class _Claim:
    """What the file of a claim says, and when it was renewed. One that is being written says nothing."""

    renewed: int
    token: str = ""
    machine: str = ""
    processes: Sequence[int] = ()

    def has_ended(self) -> bool:
        """Whether it was made on this machine, by processes that are all gone; False where that cannot be known."""
        is_this_machines = bool(self.machine) and self.machine == _machine()
        return is_this_machines and bool(self.processes) and not any(map(_is_alive, self.processes))


def _read(path: Path) -> _Claim | None:
    """None where there is no claim. The file is opened, as a network file system then asks the server for its time."""
    try:
        with path.open("rb") as file:
            content, renewed = file.read(), os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None
    try:
        facts = json.loads(content)
        return _Claim(
            renewed, str(facts["token"]), str(facts["machine"]), [int(number) for number in facts["processes"]]
        )
    except (ValueError, KeyError, TypeError, OverflowError):
        return _Claim(renewed)


def _is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in "ZX"


def _machine() -> str:
    """This boot of this machine, and within it the set of processes that see each other; empty where it is not told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


@dataclass(frozen=True)
class SharedWork:
    """The claims of this process, and what others have recorded since. `by_process` as of `Claims.take`."""

    claims: Claims
    arrivals: Arrivals
    by_process: bool = True

    def is_lost(self, run_id: str) -> bool:
        """Whether another process took over a run that this one finished, as after this one was stopped for a lease."""
        try:
            return self.claims.is_taken_by_another(run_id) or (
                not self.claims.holds(run_id) and self.arrivals.has(run_id)
            )
        except OSError:  # what was finished is not lost for a claim that cannot be read
            return False


class JobQueue:
    """Jobs in their order, each claimed before it is handed out. What others have claimed is waited for.

    Where another process records a job first, it is dropped, and `on_settled` called. Without `shared`, nothing is claimed.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        shared: SharedWork | None = None,
        *,
        on_settled: Callable[[Job], None] = lambda _: None,
        on_wait: Callable[[int], None] = lambda _: None,
        until: float = math.inf,
    ) -> None:
        """`until`: the time, by `time.monotonic`, after which no more are handed out, and none is left."""
        self._shared, self._until = shared, until
        self._waiting = dict(enumerate(jobs))
        self._on_settled, self._on_wait = on_settled, on_wait
        self._has_told_of_waiting = False
        self._next_try = 0.0
        """When what others have claimed is tried again."""

    def __len__(self) -> int:
        """How many are left, to run or to wait for."""
        return len(self._waiting)

    def take(self) -> Job | None:
        """The next job, claimed; None where nothing is left, or others have claimed all that is, as of the last second."""
        shared = self._shared
        if time.monotonic() >= self._until:
            self._waiting.clear()
        if shared is None:
            return self._waiting.pop(next(iter(self._waiting))) if self._waiting else None
        shared.arrivals.look()
        tries = time.monotonic() >= self._next_try
        for index, job in tuple(self._waiting.items()):
            if self._drops(index, job):
                continue
            if not tries or not shared.claims.take(job.run.run_id, by_process=shared.by_process):
                continue
            shared.arrivals.look()
            if self._drops(index, job):  # recorded between the two
                self.done(job)
                continue
            del self._waiting[index]
            return job
        if tries:
            self._next_try = time.monotonic() + POLL_SECONDS
        return None

    def done(self, job: Job) -> None:
        """For whoever has recorded the job and removed its checkpoint."""
        if self._shared is not None:
            self._shared.claims.release(job.run.run_id)

    def give_to(self, job: Job, process: int | None) -> None:
        """Names the process that runs a job that was taken."""
        if self._shared is not None and process is not None:
            self._shared.claims.share(job.run.run_id, process)

    def wait(self) -> None:
        """Lets a while go by in which others may come further; says so, once."""
        if not self._has_told_of_waiting:
            self._on_wait(len(self))
            self._has_told_of_waiting = True
        time.sleep(POLL_SECONDS)

    def __iter__(self) -> Iterator[Job]:
        """One job after the other, for whoever calls `done` before the next."""
        while self:
            job = self.take()
            if job is not None:
                yield job
            elif self:
                self.wait()

    def _drops(self, index: int, job: Job) -> bool:
        if self._shared is None or not self._shared.arrivals.knows(job.run.run_id):
            return False
        del self._waiting[index]
        self._on_settled(job)
        return True
