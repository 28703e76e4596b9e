"""How fast are records appended, each safe on disk, and how fast are 10,000 of them read?"""

from __future__ import annotations

from functools import partial

from tests.analysis.made_up_records import make_record
from vitbench.records import RecordStore, pack_correct

RECORDS = 10_000
CURVE = [i / 20 for i in range(20)]
CORRECT = pack_correct([True, False] * 360)
"""Of as many test images as digits has."""


def test_appending_a_record(timed, tmp_path):
    store = RecordStore(tmp_path)
    store.prepare()
    append = partial(store.append, make_record(study="many", curve=CURVE, correct=CORRECT))
    timed(append, group="record store", label="append", unit="records")


def test_reading_many_records(timed, tmp_path):
    store = RecordStore(tmp_path)
    store.prepare()
    lines = [make_record(study="many", seed=i, curve=CURVE, correct=CORRECT).to_json() for i in range(RECORDS)]
    store.path("many").write_text("\n".join(lines) + "\n", encoding="utf-8")
    read = partial(store.read, "many")
    assert len(read()) == RECORDS
    timed(read, group="record store", label=f"read {RECORDS:,}", items=RECORDS, unit="records", min_rounds=5)
