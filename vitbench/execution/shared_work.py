"""What do several processes that work on one results folder know of each other? Claims, and the records that others append."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vitbench.execution.arrivals import Arrivals
from vitbench.execution.claims import Claims, JobQueue
from vitbench.execution.job import Job


@dataclass(frozen=True)
class SharedWork:
    """The claims of this process, and what others have recorded since."""

    claims: Claims
    arrivals: Arrivals

    def queue(
        self,
        jobs: Sequence[Job],
        *,
        by_process: bool,
        on_settled: Callable[[Job], None] = lambda _: None,
        on_wait: Callable[[int], None] = lambda _: None,
    ) -> JobQueue:
        """The jobs, each to be claimed; those that another process records meanwhile are dropped."""
        return JobQueue(
            jobs,
            self.claims,
            look=self.arrivals.look,
            is_settled=lambda job: self.arrivals.had(job.run.run_id),
            on_settled=on_settled,
            on_wait=on_wait,
            by_process=by_process,
        )

    def is_lost(self, run_id: str) -> bool:
        """Whether another process took over a run that this one finished, as after this one was stopped for a lease."""
        try:
            return self.claims.is_taken_by_another(run_id) or (
                not self.claims.holds(run_id) and self.arrivals.has(run_id)
            )
        except OSError:  # what was finished is not lost for a claim that cannot be read
            return False
