"""Is a record's line read as it was written or not at all, and is what is left out always told?"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re

import pytest

from vitbench.config import TrainConfig
from vitbench.records import RecordStore
from vitbench.records.faults import Faults


@pytest.fixture
def store(tmp_path) -> RecordStore:
    """One that leaves out what is damaged; what it left out is in `faults`."""
    return RecordStore(tmp_path / "results", Faults(say=lambda _: None))


def fresh(store: RecordStore) -> RecordStore:
    return RecordStore(store.root, Faults(say=lambda _: None))


def write(store: RecordStore, *lines: str | bytes) -> None:
    """Lines as an older version, or a text editor, left them: without digests."""
    store.directory.mkdir(parents=True, exist_ok=True)
    whole = [line if isinstance(line, bytes) else line.encode() for line in lines]
    store.path("pooling").write_bytes(b"".join(line + b"\n" for line in whole))


def test_a_line_carries_the_sha256_of_itself_without_it(store, made_up):
    store.append(made_up())
    line = store.path("pooling").read_text().rstrip("\n")
    digest = json.loads(line)["digest"]
    plain = re.sub(r'^\{"digest":"[0-9a-f]{64}",', "{", line)
    assert hashlib.sha256(plain.encode()).hexdigest() == digest
    assert plain == made_up().to_json()


def flips(size: int) -> list[int]:
    """Every bit around the digest and at the end, and of 20 bytes between, by number."""
    draw = random.Random(0)
    where = [*range(13), *range(73, 80), size - 2, size - 1, *(draw.randrange(80, size - 2) for _ in range(20))]
    return [8 * byte + bit for byte in where for bit in range(8)]


@pytest.mark.parametrize("which", [0, 1], ids=["first line", "last line"])
def test_no_single_flipped_bit_is_read_altered_or_left_out_in_silence(store, made_up, which):
    records = [made_up(seed=seed, reason="ü") for seed in range(2)]
    for record in records:
        store.append(record)
    path = store.path("pooling")
    lines = path.read_bytes().splitlines(keepends=True)
    before = b"".join(lines[:which])
    written = [record.to_json() for record in records]
    for number in flips(len(lines[which])):
        flipped = bytearray(lines[which])
        flipped[number // 8] ^= 1 << number % 8
        path.write_bytes(before + flipped + b"".join(lines[which + 1 :]))
        again = fresh(store)
        assert {record.to_json() for record in again.read("pooling")} <= set(written), number
        assert len(again.faults), number


def test_without_anyone_to_tell_a_damaged_line_is_an_error(store, made_up):
    store.append(made_up())
    path = store.path("pooling")
    path.write_bytes(path.read_bytes().replace(b'"arm":"cls"', b'"arm":"gap"'))
    with pytest.raises(ValueError, match=r"pooling.jsonl line 1: its digest is not that of its bytes"):
        RecordStore(store.root).read("pooling")


def test_lines_of_older_versions_have_no_digest_and_are_read(store, made_up):
    records = [made_up(seed=seed) for seed in range(2)]
    write(store, records[0].to_json(), json.dumps(records[1].to_dict(), sort_keys=True))
    assert store.read("pooling") == records
    assert not store.faults


def changed(fields: dict, **changes: object) -> str:
    return json.dumps({**fields, **changes})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"metrics": {"test_top1": 57.3, "val_top1": 0.1}}, "test_top1 57.3 is not in"),
        ({"metrics": {"test_top1": -0.1, "val_top1": 0.1}}, "test_top1 -0.1 is not in"),
        ({"metrics": {"test_top1": 1 / 3, "val_top1": 1.5}}, "val_top1 1.5 is not in"),
        ({"metrics": {"test_top1": 1 / 3, "val_top1": 0.1, "test_top5": 2}}, "test_top5 2.0 is not in"),
        ({"metrics": {"test_top1": 1 / 3, "val_top1": 0.1, "test_ece": 3}}, "test_ece 3.0 is not in"),
        ({"metrics": {"test_top1": 1 / 3, "val_top1": 0.1, "test_ece_mass": -0.1}}, "test_ece_mass -0.1 is not in"),
        ({"metrics": {"test_top1": 1 / 3, "val_top1": 0.1, "test_brier": 2.1}}, "test_brier 2.1 is not in"),
        (
            {"metrics": {"test_top1": 1 / 3, "val_top1": 0.1, "test_balanced_top1": 1.1}},
            "test_balanced_top1 1.1 is not in",
        ),
        ({"metrics": {"test_top1": 1 / 3, "val_top1": 0.1, "test_loss": -1}}, "test_loss -1.0 is not in"),
        ({"metrics": {"test_top1": float("nan"), "val_top1": 0.1}}, "NaN is no number"),
        ({"metrics": {"test_top1": 1 / 3, "val_top1": 0.1, "test_loss": float("inf")}}, "Infinity is no number"),
        ({"curve": [{"epoch": 1, "train_loss": -2.0}]}, "train_loss"),
        ({"curve": [{"epoch": 1, "train_loss": 2.0, "val_top1": 7}]}, "val_top1"),
        ({"cost": {"params": -1, "macs": 1}}, "params"),
        ({"cost": {"params": 1, "macs": 1, "train_seconds": -3}}, "train_seconds"),
        ({"seed": 5}, "seed 5 is not its config's, 0"),
        ({"learning_rate": 0.5}, "learning_rate 0.5 is not its config's, 0.001"),
        ({"study": "hybrid"}, "study 'hybrid' is not that of its file, 'pooling'"),
        ({"correct": "4A=="}, "which is no test_top1 of 0.333"),
        ({"correct": "gP8="}, "which is no test_top1 of 0.333"),
        ({"correct": "not base64!"}, "correct is not base64"),
    ],
)
def test_an_old_line_whose_numbers_cannot_be_is_left_out(store, made_up, change, says):
    good = made_up(seed=1)
    write(store, changed(made_up().to_dict(), **change), good.to_json())
    assert store.read("pooling") == [good]
    (fault,) = store.faults
    assert fault.line == 1 and says in str(fault) and "\n" not in str(fault)


@pytest.mark.parametrize("number", ["1e999", "-1e999"])
def test_a_number_beyond_all_floats_is_none(store, made_up, number):
    write(store, made_up().to_json().replace('"val_top1":0.1', f'"val_top1":{number}'))
    assert store.read("pooling") == [] and len(store.faults) == 1


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000,
        b'{"schema":1,"x":' + b'{"a":' * 100_000,
        b"\xff\xfe{}",
        b'{"schema":1',
        b"null",
        b"{}",
        b"0" * 5000,
    ],
    ids=["brackets", "braces", "no text", "half", "null", "empty", "a long number"],
)
def test_whatever_a_line_is_it_is_one_fault(store, made_up, line):
    good = made_up()
    write(store, line, good.to_json())
    assert store.read("pooling") == [good]
    (fault,) = store.faults
    assert fault.line == 1 and len(str(fault).splitlines()) == 1


def test_half_a_character_is_no_text_and_a_whole_one_is(store, made_up):
    whole, half = made_up(seed=0, a_field_of_later="\U0001f600"), made_up(seed=1).to_json()
    write(store, json.dumps(whole.to_dict()), half[:-1] + ',"a_field_of_later":"\\uD83D"}')
    assert store.read("pooling") == [whole]
    assert [fault.line for fault in store.faults] == [2]


def test_a_tail_that_is_more_than_a_line_is_damage_and_no_torn_line(store, made_up):
    store.append(made_up(seed=0))
    store.append(made_up(seed=1))
    path = store.path("pooling")
    path.write_bytes(path.read_bytes()[:-1] + b"J")  # a flipped bit of the line break
    assert len(store.read("pooling")) == 1 and [fault.line for fault in store.faults] == [2]
    store.append(made_up(seed=2))
    assert [record.seed for record in fresh(store).read("pooling")] == [0, 2]
    assert not path.with_suffix(".torn").exists()


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "nowhere"])
def test_what_is_no_file_is_one_fault_and_never_waited_for(store, made_up, kind):
    store.append(made_up())
    path = store.path("mine")
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "loop":
            path.symlink_to(path)
        case "nowhere":
            path.symlink_to(store.root / "not there")
    assert store.studies() == ["mine", "pooling"]
    assert store.read("mine") == [] and len(store.read("pooling")) == 1
    (fault,) = store.faults
    assert fault.line is None and str(path) in str(fault) and "cannot be read" in str(fault)
    if kind != "nowhere":
        with pytest.raises(ValueError, match="cannot be written"):
            store.append(made_up(study="mine"))


def test_a_file_that_may_not_be_read_is_one_fault(store, made_up, monkeypatch):
    store.append(made_up())
    if os.geteuid():
        store.path("pooling").chmod(0)
    else:  # root reads everything

        def refuse(path) -> bytes:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    assert store.read("pooling") == []
    assert "cannot be read (Permission denied)" in str(*store.faults)


def test_the_learning_rate_of_old_lines_is_compared_as_a_number(store, made_up):
    record = made_up()
    config = record.config.replace(train=TrainConfig(learning_rate=1))
    fields = {**record.to_dict(), "config": config.model_dump(mode="json"), "run_id": config.run_id, "learning_rate": 1}
    write(store, json.dumps(fields))
    assert len(store.read("pooling")) == 1
