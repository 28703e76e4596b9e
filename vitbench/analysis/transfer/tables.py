"""How good are a model's frozen features? A table with a row for each model on each data set, from the records alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from vitbench.analysis.comparison.naming import study_words
from vitbench.analysis.writing.files import write_each
from vitbench.analysis.writing.presentable import presentable
from vitbench.analysis.writing.table import Table, csv_text, markdown
from vitbench.analysis.writing.words import ABSENT, listed
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
        if rows := load_rows(store_root, faults):
            table = table_of(rows)
            texts = {"md": markdown(table, where=WHERE), "csv": csv_text(table.raw)}
    return write_each(Path(store_root) / "tables" / "transfer", texts)


@dataclass(frozen=True)
class TransferRow:
    """How accurate classifiers on the features of one model are, on one data set, in one environment."""

    records: Sequence[TransferRecord]
    """They agree in weights, data and environment."""
    trained: Record | None
    """The run that trained the weights, where it is recorded."""

    @property
    def record(self) -> TransferRecord:
        """The last, for what all agree in."""
        return self.records[-1]

    @cached_property
    def top1(self) -> dict[str, list[float]]:
        """By classifier; several are draws of training images."""
        return {
            classifier: [accuracy.top1 for accuracy in record.accuracies if accuracy.classifier == classifier]
            for record in self.records
            for classifier in dict.fromkeys(accuracy.classifier for accuracy in record.accuracies)
        }

    @property
    def model(self) -> str:
        """Study and arm of the run that trained it, of a single run its epochs; without a record, the name of the weights."""
        if self.trained is None:
            return self.record.request.weights
        epochs = self.trained.config.train.epochs
        single = f"{self.trained.arm}, {'1 epoch' if epochs == 1 else f'{epochs:g} epochs'}"
        return single if self.trained.study == "train" else f"{study_words(self.trained.study)}: {self.trained.arm}"


def load_rows(store_root: str | Path, faults: Faults | None = None) -> list[TransferRow]:
    """The rows of all that is recorded of frozen features, in the table's order. `faults` as of `RecordStore`."""
    records = presentable(TransferStore(store_root, faults).read())
    return transfer_rows(records, _runs(RecordStore(store_root, faults), {record.run_id for record in records} - {""}))


def transfer_rows(records: Iterable[TransferRecord], runs: Mapping[str, Record]) -> list[TransferRow]:
    """A row for each model, data set and environment; of what was measured again, the last.

    `runs` are the training records of weights, by run_id, as far as they are known.
    """
    groups: dict[tuple[Any, ...], list[TransferRecord]] = defaultdict(list)
    latest = {(record.identity, record.environment.comparison_key): record for record in records}
    for record in latest.values():
        request = record.request
        features = (request.weights_sha256, request.image_size, request.mean, request.std, request.transfer_version)
        groups[request.dataset, request.weights, *features, record.environment.comparison_key].append(record)
    return [TransferRow(groups[key], runs.get(groups[key][-1].run_id)) for key in sorted(groups)]


def table_of(rows: Sequence[TransferRow]) -> Table:
    """Accuracies in per cent, classifiers in columns."""
    environments = environments_of(rows)
    where = f"Rows are of several environments, which the CSV names: {listed(environments)}."
    if len(environments) == 1:
        where = f"Computed on {environments[0]}."
    classifiers = sorted({name for row in rows for name in row.top1}, key=order_of)
    return Table(
        name="transfer",
        title="Frozen features",
        rows=[
            {**_identity(row), **{HEADINGS.get(name, name): _percent(row.top1.get(name, [])) for name in classifiers}}
            for row in rows
        ],
        raw=[_raw(row, classifiers) for row in rows],
        texts=("model", "seed", "data"),
        conventions=(
            "Features are pre-logits of the frozen model; images are resized to its size, without augmentation.",
            "linear: logistic regression to convergence, L2 chosen on validation images cut from train. n-shot: ridge "
            "regression in closed form on n training images of each class, mean ± standard deviation over draws. kNN: "
            "cosine, weighted by exp(similarity / temperature), or one vote each.",
            "Its own test top-1 is that of the head that it was trained with, on the data set of its training.",
        ),
        notes=[*(doubt for row in rows for doubt in dict.fromkeys(_doubts(row))), where],
    )


def order_of(classifier: str) -> tuple[int, int, str]:
    """linear, then few-shot by shots, then neighbours."""
    if classifier == "linear":
        return 0, 0, ""
    shots, _, kind = classifier.partition("-")
    return (1, int(shots), "") if kind == "shot" else (2, 0, classifier)


def _identity(row: TransferRow) -> dict[str, str]:
    """The cells that say which model this is, on which data, and how accurate the head is that it was trained with."""
    request, trained = row.record.request, row.trained
    model, seed, head = request.weights, ABSENT, ABSENT
    if trained is not None:
        model, seed = f"{row.model} ({request.weights})", str(trained.seed)
        head = f"{_percent([trained.metrics['test_top1']])} ({trained.config.data.dataset})"
    return {"model": model, "seed": seed, "data": request.dataset, "its own test top-1": head}


def _percent(top1: Sequence[float]) -> str:
    if not top1:
        return ABSENT
    spread = f" ± {100 * stdev(top1):.2f}" if len(top1) > 1 else ""
    return f"{100 * mean(top1):.2f}{spread}"


def _raw(row: TransferRow, classifiers: Sequence[str]) -> dict[str, Any]:
    request, environment, trained = row.record.request, row.record.environment, row.trained
    raw: dict[str, Any] = {
        "weights": request.weights,
        "study": trained.study if trained else "",
        "arm": trained.arm if trained else "",
        "seed": trained.seed if trained else None,
        "trained_on": trained.config.data.dataset if trained else "",
        "own_test_top1": trained.metrics["test_top1"] if trained else None,
        "dataset": request.dataset,
        "image_height": request.image_size[0],
        "image_width": request.image_size[1],
        "features": row.record.width,
        **{name: getattr(environment, name) for name in ("device", "machine", "precision", "torch")},
    }
    for name in classifiers:
        draws = row.top1.get(name, ())
        raw[f"{name}_top1"] = mean(draws) if draws else None
        raw[f"{name}_sd"] = stdev(draws) if len(draws) > 1 else None
        raw[f"{name}_draws"] = len(draws)
    return raw


def _doubts(row: TransferRow) -> Iterator[str]:
    """Why a linear probe's accuracy may be too low."""
    what = f"{_identity(row)['model']} on {row.record.request.dataset}, linear"
    for record in row.records:
        if record.details.get("converged") is False:
            yield f"{what}: did not converge in {record.request.constants.get('most_iterations')} iterations."
        if record.details.get("at_edge"):
            yield f"{what}: the L2 chosen, {record.details['l2']:g}, is at the edge of the grid."


def environments_of(rows: Iterable[TransferRow]) -> list[str]:
    """Device, machine, precision and torch that the features were computed with, each once, sorted."""
    environments = (row.record.environment for row in rows)
    return sorted({f"{e.device}, machine {e.machine}, {e.precision}, torch {e.torch}" for e in environments})


def _runs(store: RecordStore, run_ids: set[str]) -> dict[str, Record]:
    """run_id → its completed training record, of the first study that has it."""
    runs: dict[str, Record] = {}
    for study in store.studies() if run_ids else ():
        for record in presentable(store.read(study)):
            run_id = record.run_id if record.run_id in run_ids else record.identity
            if record.outcome is Outcome.COMPLETED and run_id in run_ids:
                runs.setdefault(run_id, record)
    return runs
