"""What frozen features were worth: one record for each method on each data set, never edited. Imports no torch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vitbench.config import run_id
from vitbench.records.environment import Environment
from vitbench.records.lines import append_line, damaged, read_lines

SCHEMA = 1
TRANSFER_VERSION = 1
"""Raised whenever a method measures something else under the same constants; it is part of every request."""


class TransferRequest(BaseModel):
    """All that the accuracies depend on, up to the environment."""

    model_config = ConfigDict(frozen=True, extra="allow")

    weights: str
    """Whose features: name, `run:` and a run_id where they are a run's, `@` and 8 hex digits of the weights' SHA-256."""
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


class TransferAccuracy(BaseModel):
    """Test accuracy, a fraction in [0, 1], of one classifier of the method."""

    model_config = ConfigDict(frozen=True, extra="allow")

    classifier: str
    """`linear`; `1-shot`, `5-shot`, …; `knn` (weighted) and `knn-majority`."""
    draw: int | None = None
    """Which draw of training images, from 0; None where all are used."""
    top1: float


class TransferRecord(BaseModel):
    """One method on the features of one model, as measured."""

    model_config = ConfigDict(frozen=True, extra="allow")

    schema_: int = Field(default=SCHEMA, alias="schema")
    probe_id: str
    """First 16 hex digits of the SHA-256 of the request's canonical JSON."""
    run_id: str
    """Of the run that left the weights; empty where they are of elsewhere."""
    request: TransferRequest
    width: int
    """Features of an image."""
    num_classes: int
    train_images: int
    test_images: int
    accuracies: tuple[TransferAccuracy, ...]
    details: dict[str, Any] = {}
    """What the method found besides: of `linear` the chosen `l2`, `validation_top1` by l2, `iterations`, `converged`."""
    seconds: float
    """Of the method, with the features at hand."""
    environment: Environment
    started: str
    """UTC, ISO 8601."""
    finished: str

    @model_validator(mode="before")
    @classmethod
    def _agrees_with_its_request(cls, values: Any) -> Any:
        """Held against the request as it was written, so that later fields do not disown old records."""
        request = values.get("request") if isinstance(values, dict) else None
        if isinstance(request, dict) and (expected := run_id(request)) != values.get("probe_id"):
            raise ValueError(f"probe_id {values.get('probe_id')!r} is not that of its request, {expected!r}")
        return values

    @property
    def identity(self) -> str:
        """The probe_id that this version gives to the same request."""
        return probe_id(self.request)

    def to_json(self) -> str:
        """One line, without the line break."""
        return self.model_dump_json(by_alias=True)

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True)


def probe_id(request: TransferRequest) -> str:
    """First 16 hex digits of the SHA-256 of the canonical JSON."""
    return run_id(request.model_dump(mode="json"))


class TransferStore:
    """The records under `root/transfer/`: one file for each data set. Reading never writes; appending never rewrites."""

    def __init__(self, root: str | Path) -> None:
        self.directory = Path(root) / "transfer"

    def path(self, dataset: str) -> Path:
        """`torch/cifar10` is in `torch-cifar10.jsonl`."""
        return self.directory / f"{re.sub(r'[^a-z0-9.]+', '-', dataset.lower()).strip('-.') or 'data'}.jsonl"

    def append(self, record: TransferRecord) -> Path:
        """Adds one whole line to its data set's file, or raises ValueError and leaves it as it was; returns the file."""
        path = self.path(record.request.dataset)
        append_line(path, record.to_json())
        return path

    def read(self, dataset: str | None = None) -> list[TransferRecord]:
        """All records, of one data set or of all, in the order in which they were appended.

        Raises ValueError, naming file and line, for what is not a record of this schema.
        """
        paths = sorted(self.directory.glob("*.jsonl")) if dataset is None else [self.path(dataset)]
        records = [record for path in paths if path.exists() for record in _parse(path)]
        return [record for record in records if dataset in (None, record.request.dataset)]


def _parse(path: Path) -> list[TransferRecord]:
    records = []
    for where, fields in read_lines(path, schema=SCHEMA):
        try:
            records.append(TransferRecord.model_validate(fields))
        except ValueError as error:
            raise damaged(where, error) from error
    return records
