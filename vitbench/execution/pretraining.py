"""What can be run now, where runs go on from the weights of others: those come first, and keep their weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vitbench.execution.current_environment import Here
from vitbench.execution.job import weights_path
from vitbench.execution.reuse import Planned, has_weights
from vitbench.records import Outcome, Record


@dataclass(frozen=True)
class Wave:
    """`ready` can run now. `hopeless`: what never can, with the record of its pretraining."""

    ready: Sequence[Planned]
    hopeless: Sequence[tuple[Planned, Record]]
    kept: frozenset[str]
    """run_ids whose weights others go on from."""
    again: frozenset[str]
    """run_ids that are recorded, but run again, because others go on from weights that are not there."""


@dataclass
class _Sorted:
    """A wave in the making."""

    ready: dict[tuple[str, str], Planned] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    again: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Pretrained:
    """The records of this environment, by run_id in their order, and where weights are kept.

    Weights of another environment are not gone on from: the runs of a comparison are of one.
    """

    results: Path
    records: Mapping[str, Sequence[Record]]
    trained: Collection[str] = ()
    """run_ids that were ready before in this command, and are not run in it again."""
    _files: dict[str, Path | None] = field(default_factory=dict)

    @classmethod
    def of(cls, results: Path, records: Sequence[Record], here: Here, trained: Collection[str] = ()) -> Pretrained:
        found: dict[str, list[Record]] = {}
        for record in records:
            if not here.differs(record):
                found.setdefault(record.identity, []).append(record)
        return cls(results, found, trained)

    def weights(self, run_id: str) -> Path | None:
        """The file of the weights that a record of this run tells of; None where there is none, or it holds others."""
        if run_id not in self._files:
            folder = self.results.absolute() / "checkpoints"
            kept = (record for record in reversed(self.records.get(run_id, ())) if has_weights(self.results, record))
            self._files[run_id] = next((weights_path(folder, record.run_id) for record in kept), None)
        return self._files[run_id]

    def wave(self, pending: Sequence[Planned], planned: Sequence[Planned]) -> Wave:
        """Of `pending`, what can run now; of the rest of `planned`, what runs again because its weights are not kept.

        A run has no hope whose pretraining, or what that goes on from, diverged, failed in this command, or left no
        weights in it.
        """
        open_ids = {run.run_id for _, run in pending}
        by_run_id = {run.run_id: (name, run) for name, run in planned}
        parts, hopeless = _Sorted(), []
        for place in pending:
            over = self._sort(place, open_ids, by_run_id, parts)
            if over is not None:
                hopeless.append((place, over))
        return Wave(list(parts.ready.values()), hopeless, frozenset(parts.kept), frozenset(parts.again))

    def _sort(
        self, place: Planned, open_ids: Collection[str], planned: Mapping[str, Planned], parts: _Sorted
    ) -> Record | None:
        """Finds what is to run for `place` to be run; the record that leaves no hope, where there is one."""
        _, run = place
        before = run.config.pretraining
        if before is None or self.weights(before.run_id) is not None:
            parts.ready[run.study, run.run_id] = place
            return None
        last = self.records.get(before.run_id, (None,))[-1]
        if before.run_id in open_ids:
            parts.kept.add(before.run_id)
            return None
        if last is not None and (last.outcome is not Outcome.COMPLETED or before.run_id in self.trained):
            return last
        parts.kept.add(before.run_id)
        parts.again.add(before.run_id)
        return self._sort(planned[before.run_id], open_ids, planned, parts)
