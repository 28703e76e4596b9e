"""What is left to do of a request, and what will it take on this machine?"""

from __future__ import annotations

from dataclasses import dataclass

from vitbench.execution import rates
from vitbench.execution.current_environment import CurrentEnvironment
from vitbench.execution.memory_needs import MemoryNeeds, memory_needs
from vitbench.execution.preparation import resolve_jobs
from vitbench.execution.pretraining import Pretrained
from vitbench.execution.request import Request
from vitbench.execution.reuse import by_run_id
from vitbench.execution.standing import RecordedElsewhere, Standing
from vitbench.machine import cpu_cores, cpu_name
from vitbench.studies import PlannedRun
from vitbench.studies.estimate import Estimate, estimate


@dataclass(frozen=True)
class Forecast:
    """What is pending and what it costs; `to_train` leaves out what another study has recorded."""

    standing: Standing
    to_train: list[PlannedRun]
    again: int
    """Of these, how many for their weights alone."""
    recorded_elsewhere: RecordedElsewhere
    cost: Estimate
    memory: MemoryNeeds | None
    """Of the runs to train; None where there are none, and where the free memory is not told."""
    rates_made_elsewhere: list[tuple[str, str]]
    """(study, of which device and torch the rates are that its epochs are matched by), where `run` would refuse them."""

    @classmethod
    def of(cls, request: Request, *, jobs: str, device: str | None = None) -> Forecast:
        """Without torch: the GPUs of this machine are not known. On a `device`, with torch, memory is measured.

        Raises ValueError for what is wrong with the request.
        """
        content, current, store = request.content(), CurrentEnvironment(), request.store
        standing = Standing.of(request, content)
        pending = standing.pending()
        places = by_run_id(pending)
        recorded = store.done(places, where=lambda record: current.would_repeat(record) and content.agrees(record))
        to_train = [wanted[0][1] for run_id, wanted in places.items() if run_id not in recorded]
        again = Pretrained(request.results, standing.records, current).wave(pending, standing.planned).again
        to_train += {run.run_id: run for _, run in standing.planned if run.run_id in again}.values()
        workers = resolve_jobs(jobs, device=device or "cpu", pending=len(to_train))
        records = [record for study in store.studies() for record in store.read(study)]
        rates_made_elsewhere = [
            (resolved.study.name, differing)
            for resolved in (request.resolved_studies() if request.overrides.match == "time" else ())
            if (differing := rates.made_elsewhere(request.results, resolved))
        ]
        return cls(
            standing=standing,
            to_train=to_train,
            again=len(again),
            recorded_elsewhere=standing.recorded_elsewhere(current),
            memory=memory_needs(to_train, workers=workers, device=device) if to_train else None,
            cost=estimate(to_train, records, cpu=cpu_name(), cpu_cores=cpu_cores(), workers=workers),
            rates_made_elsewhere=rates_made_elsewhere,
        )
