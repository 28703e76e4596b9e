"""What are frozen features worth? One record for each method on each data set, never edited. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from vitbench.config import run_id
from vitbench.records.curve import Share
from vitbench.records.environment import Environment
from vitbench.records.faults import Faults
from vitbench.records.lines import Entry, append_line, files_in, parse, read_entries, sound
from vitbench.records.schema import Measured, with_id_checked
from vitbench.records.stored import Stored

SCHEMA = 1
TRANSFER_VERSION = 1
"""Raised whenever a method measures something else under the same constants; it is part of every request."""


class TransferRequest(Stored):
    """All that the accuracies depend on, up to the environment."""

    weights: str
    """Whose features: a name, or `run:` and a run_id; then `@` and 8 hex digits of the weights' SHA-256."""
    weights_sha256: str
    dataset: str
    data_sha256: str
    """Of the decoded images and labels, at `image_size`."""
    image_size: tuple[int, int]
    """(height, width) in pixels: the model's."""
    mean: tuple[float, ...]
    """Per channel, of pixels in [0, 1]: what images were normalised with."""
    std: tuple[float, ...]
    precision: str
    """In which features were computed: `fp32` or `bf16`."""
    method: str
    """`linear`, `few-shot` or `knn`."""
    constants: dict[str, Any]
    """Of the method, as JSON has them."""
    transfer_version: int = TRANSFER_VERSION


class TransferAccuracy(Stored):
    """Test accuracy, a fraction in [0, 1], of one classifier of the method."""

    classifier: str
    """`linear`; `1-shot`, `5-shot`, …; `knn` (weighted) and `knn-majority`."""
    draw: int | None = None
    """Which draw of training images, from 0; None where all are used."""
    top1: Share


class TransferRecord(Stored):
    """One method on the features of one model, as measured."""

    schema_: int = Field(default=SCHEMA, alias="schema")
    probe_id: str
    """First 16 hex digits of the SHA-256 of the request's canonical JSON."""
    run_id: str
    """Of the run that trained the weights; empty for weights from elsewhere."""
    request: TransferRequest
    width: int
    """Features of an image."""
    num_classes: int
    train_images: int
    test_images: int
    accuracies: tuple[TransferAccuracy, ...]
    details: dict[str, Any] = Field(default_factory=dict)
    """Further results of the method: of `linear` the chosen `l2`, `validation_top1` by l2, `iterations`, `converged`."""
    seconds: Measured
    """Of the method, with the features at hand."""
    environment: Environment
    started: str
    """UTC, ISO 8601."""
    finished: str

    @model_validator(mode="before")
    @classmethod
    def _agrees_with_its_request(cls, values: Any) -> Any:
        return with_id_checked(values, "probe_id", of="request")

    @property
    def identity(self) -> str:
        """The probe_id that today's version gives to the same request."""
        return probe_id(self.request)


def probe_id(request: TransferRequest) -> str:
    """First 16 hex digits of the SHA-256 of the canonical JSON."""
    return run_id(request.model_dump(mode="json"))


_NAMES = frozenset(field.alias or name for name, field in TransferRecord.model_fields.items())


class TransferStore:
    """The records under `root/transfer/`: one file for each data set. Reading never writes; appending never rewrites.

    `faults` are told what is wrong, as of `RecordStore`.
    """

    def __init__(self, root: str | Path, faults: Faults | None = None) -> None:
        self.directory = Path(root) / "transfer"
        self.faults = faults

    def path(self, dataset: str) -> Path:
        """`torch/cifar10` is in `torch-cifar10.jsonl`."""
        return self.directory / f"{re.sub(r'[^a-z0-9.]+', '-', dataset.lower()).strip('-.')[:100] or 'data'}.jsonl"

    def append(self, record: TransferRecord) -> Path:
        """Adds one whole line to its data set's file, or raises ValueError and leaves it as it was; returns the file."""
        path = self.path(record.request.dataset)
        append_line(path, record.to_json())
        return path

    def read(self, dataset: str | None = None) -> list[TransferRecord]:
        """All records, of one data set or of all, in the order in which they were appended.

        Damaged lines are left out; raises ValueError, naming file and line, where no `faults` are told of them.
        """
        paths = [path for path in self.files() if dataset is None or path == self.path(dataset)]
        records = [record for path in paths for record in sound(self.entries(path), self.faults)]
        return [record for record in records if dataset in (None, record.request.dataset)]

    def files(self) -> list[Path]:
        """Its record files, by name."""
        return files_in(self.directory, self.faults)

    def entries(self, path: Path) -> Iterator[Entry[TransferRecord]]:
        """Every line of one of the files, with its record or its fault."""
        return read_entries(path, _record)


def _record(line: bytes) -> TransferRecord:
    return TransferRecord.model_validate(parse(line, schema=SCHEMA, names=_NAMES))
