"""Where the analysis's tests keep their records: a results folder for each test.

The records themselves come from `made_up_records`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vitbench.records import Record, RecordStore


@pytest.fixture
def store_with(tmp_path: Path) -> Callable[..., Path]:
    """Appends records to the store under a folder of this test and gives that folder."""

    def fill(*records: Record) -> Path:
        store = RecordStore(tmp_path)
        for record in records:
            store.append(record)
        return tmp_path

    return fill
