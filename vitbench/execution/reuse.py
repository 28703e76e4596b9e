"""A run that several studies need is trained once: the same configuration in the same environment gives the same bits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from vitbench.execution.arrivals import Arrivals
from vitbench.execution.claims import Claims
from vitbench.execution.current_environment import Here
from vitbench.execution.job import weights_path
from vitbench.records import Outcome, Record, RecordStore
from vitbench.studies import PlannedRun

Planned = tuple[str, PlannedRun]
"""Data set as the user named it, run."""


def by_run_id(pending: Iterable[Planned]) -> dict[str, list[Planned]]:
    """run_id → all places in the asked studies that this run has, in their order."""
    places: dict[str, list[Planned]] = {}
    for name, run in pending:
        places.setdefault(run.run_id, []).append((name, run))
    return places


def recorded_here(
    store: RecordStore, run_ids: Iterable[str], here: Here, *, of_these_images: Callable[[Record], bool]
) -> dict[str, list[Record]]:
    """run_id → its records of any study that are of this environment and of these images, the latest last."""
    wanted = set(run_ids)
    records: dict[str, list[Record]] = {}
    for study in store.studies() if wanted else ():
        for record in store.read(study):
            if (
                record.identity in wanted
                and record.outcome is not Outcome.FAILED
                and record.environment.threads == here.threads
                and not here.differs(record)
                and of_these_images(record)
            ):
                records.setdefault(record.identity, []).append(record)
    return records


def take_over(
    store: RecordStore,
    pending: Sequence[Planned],
    here: Here,
    data_sha256: Mapping[tuple[str, tuple[int, int]], str],
    claims: Claims,
    arrivals: Arrivals,
    *,
    with_weights: Collection[str] = (),
) -> list[Planned]:
    """Appends the records that other studies have of these runs; returns what is left to run, or claimed by others.

    `data_sha256` is by data set, as the user named it, and image size: (height, width). `with_weights`: run_ids of those
    whose record alone will not do, their weights must be there too.
    """
    places = by_run_id(pending)

    def of_these_images(record: Record) -> bool:
        name, run = places[record.identity][0]
        return record.environment.data_sha256 == data_sha256[name, run.config.model.image_hw]

    found = recorded_here(store, places, here, of_these_images=of_these_images)
    left: list[Planned] = []
    for run_id, wanted in places.items():
        records = found.get(run_id, [])
        if run_id in with_weights:
            # Weights are named by the run_id that the run had; of an older schema's record, the one written here is another.
            records = [record for record in records if record.run_id == run_id and has_weights(store.root, record)]
        record = records[-1] if records else None
        if record is None:
            left += wanted
            continue
        # What has arrived may be in these studies by now: the next plan knows.
        if arrivals.has(run_id) or not claims.take(run_id):
            left += wanted
            continue
        if arrivals.has(run_id):
            left += wanted
        else:
            for _, place in wanted:
                store.append(in_place_of(record, place))
        claims.release(run_id)
    return left


def has_weights(results: Path, record: Record) -> bool:
    """Whether the weights that the run was left with are kept: these, and not others under their name."""
    from safetensors import SafetensorError, safe_open

    path = weights_path(results / "checkpoints", record.run_id)
    try:
        with safe_open(path, framework="np") as file:  # not "pt", which imports torch: `vitbench plan` asks here too
            return (file.metadata() or {}).get("weights_sha256") == record.weights_sha256
    except (OSError, SafetensorError):
        return False


def in_place_of(record: Record, run: PlannedRun) -> Record:
    """The record of a run as that of another study's run of the same configuration. Raises ValueError for another one."""
    if record.identity != run.run_id:
        raise ValueError(f"run_id {record.identity!r} is not {run.run_id!r}; only equal configurations share a record")
    place = {
        # Of an older schema's record, the fields that came later are written out with it, and give it today's.
        "run_id": run.run_id,
        "study": run.study,
        "arm": run.arm,
        "budget": run.budget,
        "variant": run.variant,
        "design": run.design,
        "taken_from": record.taken_from or record.study,
    }
    return record.model_copy(update=place)
