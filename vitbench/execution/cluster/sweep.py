"""How do runs go through a cluster? Each as a task; one that is lost with its node or worker is tried again elsewhere.

Ray places the tasks. Its own retries are not used: it would not tell of them, and a lost run would go back to the node whose
memory it had used up.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from vitbench.execution.claims import POLL_SECONDS, JobQueue
from vitbench.execution.cluster import task
from vitbench.execution.cluster.mailbox import Mailbox
from vitbench.execution.cluster.nodes import Nodes, with_threads
from vitbench.execution.cluster.task import Answer, Expected
from vitbench.execution.job import Job, OnRecord, OnReport
from vitbench.execution.processes import SAVING_SECONDS
from vitbench.machine import utc_now
from vitbench.records import Record
from vitbench.signals import RECORDING_SECONDS, HeldSignals, obeyed

RETRIES = 2
"""So often is a run tried again that was lost with its node or worker; then it has failed."""


@dataclass(frozen=True)
class Limit:
    """How much is under way at a time: `most` runs, or where that is None, what there is room for."""

    most: int | None
    share: Callable[[Job], float]
    """Of a GPU, that a job takes."""


@dataclass
class _Attempt:
    """A job under way: what it takes, when it began, and what became of its earlier attempts."""

    job: Job
    share: float
    started: str = field(default_factory=utc_now)
    losses: int = 0
    node: str | None = None
    """Where it is, once it has told."""
    avoid: set[str] = field(default_factory=set)
    """Nodes on which it was lost."""


class Sweep:
    """The runs of one wave."""

    def __init__(
        self,
        ray: Any,
        queue: JobQueue,
        nodes: Nodes,
        limit: Limit,
        expected: Expected,
        mailbox: Mailbox,
        *,
        on_record: OnRecord,
        on_report: OnReport | None,
        say: Callable[[str], None],
    ) -> None:
        self._ray, self._queue, self._nodes, self._limit, self._expected = ray, queue, nodes, limit, expected
        self._on_record, self._on_report, self._say = on_record, on_report, say
        self._mailbox = mailbox
        self._task = ray.remote(num_cpus=nodes.needs.threads, max_retries=0)(task.run)
        self._pending: dict[Any, _Attempt] = {}
        """By the reference to its answer."""

    def run(self) -> None:
        """Until the queue is empty. When left by an exception (Ctrl-C, a full disk), tasks save their state and end."""
        is_interrupted = False
        with obeyed():
            try:
                while self._queue or self._pending:
                    self._hand_out()
                    if self._pending:
                        self._receive(POLL_SECONDS)
                    elif self._queue:
                        self._queue.wait()
            except (KeyboardInterrupt, SystemExit):
                is_interrupted = True
                raise
            finally:
                self._end(record=is_interrupted)

    def _hand_out(self) -> None:
        self._nodes.look()
        self._nodes.require_fit()
        while self._has_room() and (job := self._queue.take()) is not None:
            with HeldSignals(patience=RECORDING_SECONDS):  # or a run could be under way that nobody knows of
                self._submit(_Attempt(job, self._limit.share(job)))

    def _has_room(self) -> bool:
        if self._limit.most is not None:
            return len(self._pending) < self._limit.most
        if not self._nodes.needs.on_gpu:
            return len(self._pending) < sum(self._nodes.slots(1.0).values())
        taken = sum(attempt.share for attempt in self._pending.values())
        return taken < self._nodes.num_gpus - 1e-3

    def _submit(self, attempt: _Attempt) -> None:
        needs = self._nodes.needs
        options = {**with_threads(needs), **self._nodes.where(attempt.avoid)}
        if needs.on_gpu:
            options["num_gpus"] = attempt.share
        reference = self._task.options(**options).remote(
            pickle.dumps(attempt.job),
            sorted(self._nodes.examined),
            self._nodes.slots(attempt.share),
            self._expected,
            self._mailbox.actor,
        )
        self._pending[reference] = attempt

    def _receive(self, seconds: float) -> None:
        """Waits for what comes first, an answer or a report, and records it."""
        # Ray turns what a handler raises within it into exit status 1, and what was fetched must be recorded.
        with HeldSignals(patience=RECORDING_SECONDS):
            asked = self._mailbox.asked
            references = [*self._pending, *([asked] if asked is not None else [])]
            done, _ = self._ray.wait(references, num_returns=1, timeout=seconds)
            for reference in done:
                if reference == asked:
                    self._deliver()
                else:
                    self._settle(reference, again=True)

    def _deliver(self) -> None:
        attempts = {attempt.job.run.run_id: attempt for attempt in self._pending.values()}
        for run_id, letter in self._mailbox.take().items():
            if (attempt := attempts.get(run_id)) is not None:
                attempt.node = letter.node
                if letter.report is not None and self._on_report is not None:
                    self._on_report(attempt.job, letter.report)

    def _settle(self, reference: Any, *, again: bool) -> None:
        """Records what a task came to, or tries it again."""
        attempt = self._pending.pop(reference)
        job, errors = attempt.job, self._ray.exceptions
        try:
            answer: Answer = self._ray.get(reference)
        except errors.RayError as error:
            if not again:
                return
            if isinstance(error, errors.RayTaskError) and not isinstance(error, errors.TaskCancelledError):
                reason = (
                    str(error).splitlines()[-1].strip()
                )  # of ours, outside of the run: what a run raises is in its record
                self._fail(attempt, f"Ray: {reason}")
            else:
                self._lose(attempt, error)
            return
        if answer.unfit:
            self._nodes.exclude(answer.node, answer.unfit)
            self._nodes.examined.discard(answer.node)
            if again:
                self._nodes.require_fit()
                self._submit(replace(attempt, node=None))
            return
        job.hand_over(Record.model_validate_json(answer.record), self._on_record)
        self._queue.done(job)

    def _lose(self, attempt: _Attempt, error: Exception) -> None:
        losses = attempt.losses + 1
        node = self._nodes.name(attempt.node) if attempt.node else "its node"
        how = _HOW.get(type(error).__name__, type(error).__name__ + " on {node}").format(node=node)
        if losses > RETRIES:
            self._fail(attempt, f"lost {losses} times with its node or worker, at last: {how}")
            return
        run = attempt.job.run
        self._say(f"{run.study}, {run.arm}, seed {run.config.seed}: {how}; tried again ({losses} of {RETRIES})")
        avoid = attempt.avoid | ({attempt.node} if attempt.node else set())
        self._submit(replace(attempt, losses=losses, avoid=avoid, node=None))

    def _fail(self, attempt: _Attempt, reason: str) -> None:
        job = attempt.job
        record = job.failed(reason[:300], started=attempt.started)
        if self._nodes.facts is not None:  # the nodes' machine, not that of this process
            known = {"precision": job.precision, "threads": job.threads, "workers": job.workers, "kernels": "torch"}
            environment = self._nodes.facts.environment.model_copy(update=known)
            record = record.model_copy(update={"environment": environment})
        self._on_record(job, record)  # its checkpoint stays
        self._queue.done(job)

    def _end(self, *, record: bool) -> None:
        """Has all tasks that are left save their state and end; records what they had finished, where asked to."""
        ray = self._ray
        try:
            for reference in self._pending:
                ray.cancel(reference)
            deadline = time.monotonic() + SAVING_SECONDS
            while self._pending and time.monotonic() < deadline:
                with HeldSignals(patience=RECORDING_SECONDS):
                    done, _ = ray.wait(list(self._pending), num_returns=1, timeout=POLL_SECONDS)
                    for reference in done:
                        if record:
                            self._settle(reference, again=False)
                        else:
                            del self._pending[reference]
        finally:
            for reference in self._pending:
                ray.cancel(reference, force=True)


_HOW = {
    "NodeDiedError": "{node} died",
    "WorkerCrashedError": "its worker process on {node} was killed",
    "OutOfMemoryError": "killed by Ray, as memory ran out on {node}",
    "TaskCancelledError": "cancelled from outside",
}
