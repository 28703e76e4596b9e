"""What can be run now, where runs go on from the weights of others: those come first, and keep their weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vitbench.commands.once import Planned, has_weights
from vitbench.execution.job import weights_path
from vitbench.records import Outcome, Record


@dataclass(frozen=True)
class Wave:
    """`ready` can run now. `hopeless`: what never can, with the record of its pretraining."""

    ready: Sequence[Planned]
    hopeless: Sequence[tuple[Planned, Record]]
    kept: frozenset[str]
    """run_ids whose weights others go on from."""


@dataclass(frozen=True)
class Pretrained:
    """The records of a request's studies, by run_id, and where weights are kept."""

    results: Path
    records: Mapping[str, Record]

    @classmethod
    def of(cls, results: Path, records: Sequence[Record]) -> Pretrained:
        """Of several records of a run, the last whose weights are kept, else the last that did not fail, else the last."""
        best: dict[str, tuple[tuple[bool, bool], Record]] = {}
        for record in records:
            rank = has_weights(results, record), record.outcome is not Outcome.FAILED
            if record.identity not in best or rank >= best[record.identity][0]:
                best[record.identity] = rank, record
        return cls(results, {run_id: record for run_id, (_, record) in best.items()})

    def weights(self, run_id: str) -> Path | None:
        """The file of a run's weights, named by the run_id that it had when they were written; None where none is kept."""
        record = self.records.get(run_id)
        if record is None or not has_weights(self.results, record):
            return None
        return weights_path(self.results.absolute() / "checkpoints", record.run_id)

    def wave(self, pending: Sequence[Planned], planned: Sequence[Planned], trained: Collection[str]) -> Wave:
        """Of `pending`, what can run now; of the rest of `planned`, what runs again because its weights are not kept.

        What is among `trained` has run in this command and does not again. A run has no hope whose pretraining diverged,
        or failed in this command, or has completed in it without leaving weights.
        """
        open_ids = {run.run_id for _, run in pending}
        planned_ids = {run.run_id: (name, run) for name, run in planned}
        ready: dict[tuple[str, str], Planned] = {}
        hopeless: list[tuple[Planned, Record]] = []
        kept: set[str] = set()
        for place in pending:
            before = place[1].config.pretraining
            if before is None or self.weights(before.run_id) is not None:
                ready[place[1].study, place[1].run_id] = place
                continue
            record = self.records.get(before.run_id)
            over = record is not None and (record.outcome is not Outcome.COMPLETED or before.run_id in trained)
            if record is not None and over and before.run_id not in open_ids:
                hopeless.append((place, record))
                continue
            kept.add(before.run_id)
            if before.run_id not in open_ids:
                name, run = planned_ids[before.run_id]
                ready[run.study, run.run_id] = name, run
        return Wave(list(ready.values()), hopeless, frozenset(kept))
