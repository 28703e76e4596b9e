"""Which runs need not be trained again? The same configuration in the same environment gives the same bits, in any study."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from vitbench.execution.claims import SharedWork
from vitbench.execution.current_environment import CurrentEnvironment
from vitbench.execution.job import place_in_study, weights_path
from vitbench.execution.preparation import DataHashes, Planned
from vitbench.records import Record, RecordStore
from vitbench.studies import PlannedRun


def by_run_id(pending: Iterable[Planned]) -> dict[str, list[Planned]]:
    """run_id → all places in the asked studies that this run has, in their order."""
    places: dict[str, list[Planned]] = {}
    for name, run in pending:
        places.setdefault(run.run_id, []).append((name, run))
    return places


def take_over(
    store: RecordStore,
    pending: Sequence[Planned],
    current: CurrentEnvironment,
    hashes: DataHashes,
    shared: SharedWork,
    *,
    with_weights: Collection[str],
) -> list[Planned]:
    """Appends the records that other studies have of these runs; returns what is left to run, or claimed by others.

    `hashes`: of the data sets as they are now. `with_weights`: run_ids of those whose record alone will not do, their weights
    must be there too.
    """
    places = by_run_id(pending)

    def serves(record: Record) -> bool:
        name, run = places[record.identity][0]
        sha256 = hashes[name, run.config.model.image_hw]
        return record.environment.data_sha256 == sha256 and current.would_repeat(record)

    recorded = store.done(places, where=serves)
    left: list[Planned] = []
    for run_id, wanted in places.items():
        records = recorded.get(run_id, [])
        if run_id in with_weights:
            # Weights are named by the run_id that the run had; of an older schema's record, the one written now is another.
            records = [record for record in records if record.run_id == run_id and has_weights(store.root, record)]
        # What has arrived may be in these studies by now: the next plan knows.
        if not records or shared.arrivals.has(run_id) or not shared.claims.take(run_id):
            left += wanted
            continue
        if shared.arrivals.has(run_id):
            left += wanted
        else:
            for _, run in wanted:
                store.append(recorded_as(records[-1], run))
        shared.claims.release(run_id)
    return left


def has_weights(results: Path, record: Record) -> bool:
    """Whether the weights that the run was left with are kept: these, and not others under their name."""
    from safetensors import SafetensorError, safe_open

    path = weights_path(results / "checkpoints", record.run_id)
    try:
        with safe_open(path, framework="np") as file:  # not "pt", which imports torch: `vitbench plan` asks too
            return (file.metadata() or {}).get("weights_sha256") == record.weights_sha256
    except (OSError, SafetensorError):
        return False


def recorded_as(record: Record, run: PlannedRun) -> Record:
    """The record of a run as that of another study's run of the same configuration. Raises ValueError for another one."""
    if record.identity != run.run_id:
        raise ValueError(f"run_id {record.identity!r} is not {run.run_id!r}; only equal configurations share a record")
    # Of an older schema's record, the fields that came later are written out with it, and give it today's run_id.
    return record.model_copy(update={**place_in_study(run), "taken_from": record.taken_from or record.study})
