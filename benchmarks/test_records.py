"""How fast are records appended, each safe on disk, and how fast are 10,000 of them read?"""

from __future__ import annotations

from functools import partial

from tests.made_up_records import make_record
from vitbench.records import RecordStore, pack_correct
from vitbench.records.lines import with_digest

RECORDS = 10_000
CURVE = [i / 20 for i in range(20)]
CORRECT = pack_correct([True, False] * 360)
"""Of as many test images as digits has."""


def test_appending_a_record(timed, tmp_path):
    store = RecordStore(tmp_path)
    store.prepare()
    append = partial(store.append, make_record(study="many", test=0.5, curve=CURVE, correct=CORRECT))
    timed(append, group="record store", label="append", unit="records")


def test_reading_many_records(timed, tmp_path):
    store = RecordStore(tmp_path)
    store.prepare()
    records = [make_record(study="many", seed=i, test=0.5, curve=CURVE, correct=CORRECT) for i in range(RECORDS)]
    store.path("many").write_bytes(b"".join(with_digest(record.to_json().encode()) + b"\n" for record in records))
    read = partial(store.read, "many")
    assert len(read()) == RECORDS
    timed(read, group="record store", label=f"read {RECORDS:,}", items=RECORDS, unit="records", min_rounds=5)
