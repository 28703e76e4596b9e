"""Which pending runs can start now, where some go on from the weights of others? Those come first, and keep their weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vitbench.execution.current_environment import CurrentEnvironment
from vitbench.execution.job import weights_path
from vitbench.execution.preparation import Planned
from vitbench.execution.reuse import has_weights
from vitbench.records import Outcome, Record


@dataclass
class Wave:
    """Runs that can start at the same time."""

    ready: dict[tuple[str, str], Planned] = field(default_factory=dict)
    """By (study, run_id)."""
    hopeless: list[tuple[Planned, Record]] = field(default_factory=list)
    """What can never start, with the record of its pretraining."""
    kept: set[str] = field(default_factory=set)
    """run_ids whose weights others go on from."""
    again: set[str] = field(default_factory=set)
    """run_ids that are recorded, but run again, because others go on from weights that are not kept."""


class Pretrained:
    """The records of this environment, and the weights that are kept of them.

    Runs do not go on from weights of another environment: the runs of a comparison are of one. `trained`: run_ids that were
    ready before in this command, and are not run in it again.
    """

    def __init__(
        self, results: Path, records: Sequence[Record], current: CurrentEnvironment, trained: Collection[str] = ()
    ) -> None:
        self.results, self.trained = results, trained
        self.records: dict[str, list[Record]] = defaultdict(list)
        """By run_id, in their order."""
        for record in records:
            if not current.differs(record):
                self.records[record.identity].append(record)
        self._files: dict[str, Path | None] = {}

    def weights(self, run_id: str) -> Path | None:
        """The file with the weights of the latest record of this run whose weights are kept; None where none are."""
        if run_id not in self._files:
            folder = self.results.absolute() / "checkpoints"
            kept = (record for record in reversed(self.records.get(run_id, ())) if has_weights(self.results, record))
            self._files[run_id] = next((weights_path(folder, record.run_id) for record in kept), None)
        return self._files[run_id]

    def wave(self, pending: Sequence[Planned], planned: Sequence[Planned]) -> Wave:
        """Of `pending`, what can run now; of the rest of `planned`, what runs again because its weights are not kept.

        A run is hopeless if what it goes on from, directly or not, diverged, or failed or left no weights in this command.
        """
        pending_ids = {run.run_id for _, run in pending}
        by_run_id = {run.run_id: (name, run) for name, run in planned}
        wave = Wave()
        for place in pending:
            ended = self._enter(place, wave, pending_ids, by_run_id)
            if ended is not None:
                wave.hopeless.append((place, ended))
        return wave

    def _enter(
        self, place: Planned, wave: Wave, pending_ids: Collection[str], planned: Mapping[str, Planned]
    ) -> Record | None:
        """Enters what must run for `place` to run into the wave; returns the record that leaves no hope, if one does."""
        _, run = place
        before = run.config.pretraining
        if before is None or self.weights(before.run_id) is not None:
            wave.ready[run.key] = place
            return None
        last = self.records.get(before.run_id, (None,))[-1]
        if before.run_id in pending_ids:
            wave.kept.add(before.run_id)
            return None
        if last is not None and (last.outcome is not Outcome.COMPLETED or before.run_id in self.trained):
            return last
        wave.kept.add(before.run_id)
        wave.again.add(before.run_id)
        return self._enter(planned[before.run_id], wave, pending_ids, planned)
