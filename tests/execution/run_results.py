"""What runs came to: the bits that must be equal, the same run with other bits, records by arm."""

from __future__ import annotations

from typing import Any

from vitbench.records import Record, RecordStore


def bits(record: Record) -> tuple[Any, ...]:
    """What must be equal; what it cost may differ."""
    assert len(record.weights_sha256) == 64
    return record.outcome, record.weights_sha256, record.metrics, record.curve, record.correct


def records_of(root):
    return {record.arm: record for record in RecordStore(root).read("sizes")}


def with_other_bits(record, **environment):
    """As the same run comes out in another environment."""
    other = record.environment.model_copy(update=environment)
    return record.model_copy(update={"environment": other, "weights_sha256": "0" * 64, "curve": ()})
