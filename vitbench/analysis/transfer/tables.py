"""Which table the records of frozen features come to: a row for each model on each data set, from the records alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from vitbench.analysis.comparison.notes import listed
from vitbench.analysis.writing.files import write
from vitbench.analysis.writing.markup import ABSENT
from vitbench.analysis.writing.presentable import presentable
from vitbench.analysis.writing.table import Table, csv_text, markdown
from vitbench.records import Faults, Outcome, Record, RecordStore
from vitbench.records.transfer import TransferRecord, TransferStore

WHERE = "Test top-1 (%) of classifiers on frozen pre-logits; docs/transfer.md has the methods and their constants"
HEADINGS = {"knn": "kNN", "knn-majority": "kNN, majority"}


def write_transfer(store_root: str | Path, faults: Faults | None = None) -> list[Path]:
    """Writes `tables/transfer.{md,csv}`; returns the paths, none where nothing is recorded.

    `faults` (else stderr) are told of what is damaged; it is left out. Raises ValueError where the folder cannot be written.
    """
    faults = Faults() if faults is None else faults
    texts = {}
    with faults.leaving_out(TransferStore(store_root).directory):
        table = load_transfer(store_root, faults)
        if table is not None:
            texts = {"md": markdown(table, where=WHERE), "csv": csv_text(table)}
    directory = Path(store_root) / "tables"
    return [write(directory / f"transfer.{suffix}", text) for suffix, text in texts.items()]


def load_transfer(store_root: str | Path, faults: Faults | None = None) -> Table | None:
    """The table of all that is recorded of frozen features; None where nothing is. `faults` as of `RecordStore`."""
    rows = load_rows(store_root, faults)
    return table_of(rows) if rows else None


@dataclass(frozen=True)
class TransferRow:
    """What the features of one model were worth on one data set, in one environment."""

    record: TransferRecord
    """One of those that this was measured by, which all agree in weights, data and environment."""
    trained: Record | None
    """The run that left the weights, where it is recorded."""
    top1: Mapping[str, Sequence[float]]
    """By classifier; several are draws of training images."""
    notes: tuple[str, ...]

    @property
    def model(self) -> str:
        """What was trained, of single runs for how long; without a record of that, the weights' own name."""
        if self.trained is None:
            return self.record.request.weights
        epochs = self.trained.config.train.epochs
        single = f"{self.trained.arm}, {'1 epoch' if epochs == 1 else f'{epochs:g} epochs'}"
        return single if self.trained.study == "train" else f"{self.trained.study}: {self.trained.arm}"


def load_rows(store_root: str | Path, faults: Faults | None = None) -> list[TransferRow]:
    """The rows of all that is recorded of frozen features, in the table's order. `faults` as of `RecordStore`."""
    records = presentable(TransferStore(store_root, faults).read())
    return transfer_rows(records, _runs(RecordStore(store_root, faults), {record.run_id for record in records} - {""}))


def transfer_rows(records: Iterable[TransferRecord], runs: Mapping[str, Record]) -> list[TransferRow]:
    """A row for each model, data set and environment; of what was measured again, the last.

    `runs` are the training records of weights, by run_id, as far as they are known.
    """
    found: dict[tuple[Any, ...], list[TransferRecord]] = defaultdict(list)
    for record in _last_of_each(records):
        found[_row_key(record)].append(record)
    return [_row(found[key], runs.get(found[key][-1].run_id)) for key in sorted(found)]


def _row(records: Sequence[TransferRecord], trained: Record | None) -> TransferRow:
    top1 = {
        name: [one.top1 for one in record.accuracies if one.classifier == name]
        for record in records
        for name in dict.fromkeys(one.classifier for one in record.accuracies)
    }
    row = TransferRow(records[-1], trained, top1, ())
    doubts = dict.fromkeys(doubt for record in records for doubt in _doubts(record, _label(row)[0]))
    return replace(row, notes=tuple(doubts))


def table_of(rows: Sequence[TransferRow]) -> Table:
    """Accuracies in per cent, classifiers in columns."""
    classifiers = sorted({name for row in rows for name in row.top1}, key=order_of)
    return Table(
        name="transfer",
        title="Frozen features",
        columns=("model", "seed", "data", "its own test top-1", *(HEADINGS.get(name, name) for name in classifiers)),
        rows=[[*_label(row), *(_percent(row.top1.get(name, [])) for name in classifiers)] for row in rows],
        raw=[_raw(row, classifiers) for row in rows],
        texts=3,
        conventions=(
            "Features are pre-logits of the frozen model; images are resized to its size, without augmentation.",
            "linear: logistic regression to convergence, L2 chosen on validation images cut from train. n-shot: ridge "
            "regression in closed form on n training images of each class, mean ± standard deviation over draws. kNN: "
            "cosine, weighted by exp(similarity / temperature), or one vote each.",
            "Its own test top-1 is that of the head that it was trained with, on the data set of its training.",
        ),
        notes=tuple(note for row in rows for note in row.notes) + _environments(row.record for row in rows),
    )


def _last_of_each(records: Iterable[TransferRecord]) -> list[TransferRecord]:
    """By request and environment, in the order of the first of each."""
    found: dict[tuple[Any, ...], TransferRecord] = {}
    for record in records:
        found[record.identity, record.environment.comparison_key] = record
    return list(found.values())


def _row_key(record: TransferRecord) -> tuple[Any, ...]:
    request = record.request
    shared = (request.weights_sha256, request.image_size, request.mean, request.std, request.transfer_version)
    return request.dataset, request.weights, *shared, record.environment.comparison_key


def order_of(classifier: str) -> tuple[int, int, str]:
    """linear, then few-shot by shots, then neighbours."""
    if classifier == "linear":
        return 0, 0, ""
    shots, _, kind = classifier.partition("-")
    return (1, int(shots), "") if kind == "shot" else (2, 0, classifier)


def _label(row: TransferRow) -> list[str]:
    """(model, seed, data, the test top-1 of its own head)."""
    weights, dataset = row.record.request.weights, row.record.request.dataset
    if row.trained is None:
        return [weights, ABSENT, dataset, ABSENT]
    own = f"{_percent([row.trained.metrics['test_top1']])} ({row.trained.config.data.dataset})"
    return [f"{row.model} ({weights})", str(row.trained.seed), dataset, own]


def _percent(top1: Sequence[float]) -> str:
    if not top1:
        return ABSENT
    spread = f" ± {100 * stdev(top1):.2f}" if len(top1) > 1 else ""
    return f"{100 * mean(top1):.2f}{spread}"


def _raw(row: TransferRow, classifiers: Sequence[str]) -> dict[str, Any]:
    record, trained, top1 = row.record, row.trained, row.top1
    request, environment = record.request, record.environment
    return {
        "weights": request.weights,
        "study": trained.study if trained else "",
        "arm": trained.arm if trained else "",
        "seed": trained.seed if trained else None,
        "trained_on": trained.config.data.dataset if trained else "",
        "own_test_top1": trained.metrics["test_top1"] if trained else None,
        "dataset": request.dataset,
        "image_height": request.image_size[0],
        "image_width": request.image_size[1],
        "features": record.width,
        "device": environment.device,
        "machine": environment.machine,
        "precision": environment.precision,
        "torch": environment.torch,
        **{
            f"{name}_{what}": value
            for name in classifiers
            for what, value in (
                ("top1", mean(top1[name]) if name in top1 else None),
                ("sd", stdev(top1[name]) if len(top1.get(name, ())) > 1 else None),
                ("draws", len(top1.get(name, ()))),
            )
        },
    }


def _doubts(record: TransferRecord, model: str) -> list[str]:
    """What must be known of a linear probe before it is believed."""
    what = f"{model} on {record.request.dataset}, linear"
    found = []
    if record.details.get("converged") is False:
        found.append(f"{what}: did not converge in {record.request.constants.get('most_iterations')} iterations.")
    if record.details.get("at_edge"):
        found.append(f"{what}: the L2 chosen, {record.details['l2']:g}, is at the edge of the grid.")
    return found


def environments_of(records: Iterable[TransferRecord]) -> list[str]:
    """Device, machine, precision and torch that the features were computed with, each once, sorted."""
    found = (record.environment for record in records)
    return sorted({f"{one.device}, machine {one.machine}, {one.precision}, torch {one.torch}" for one in found})


def _environments(records: Iterable[TransferRecord]) -> tuple[str, ...]:
    """One sentence where all rows share an environment; else that they do not."""
    found = environments_of(records)
    if len(found) == 1:
        return (f"Computed on {found[0]}.",)
    return (f"Rows are of several environments, which the CSV names: {listed(found)}.",)


def _runs(store: RecordStore, run_ids: set[str]) -> dict[str, Record]:
    """run_id → its completed training record, of the first study that has it."""
    found: dict[str, Record] = {}
    for study in store.studies() if run_ids else ():
        for record in presentable(store.read(study)):
            if record.outcome is Outcome.COMPLETED and (record.run_id in run_ids or record.identity in run_ids):
                found.setdefault(record.run_id if record.run_id in run_ids else record.identity, record)
    return found
