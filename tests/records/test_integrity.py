"""Is a record read as it was written or not at all, and is what is left out always said?"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import re

import numpy as np
import pytest

from vitbench.config import TrainConfig
from vitbench.records import Outcome, RecordStore, pack_correct
from vitbench.records.faults import Faults


@pytest.fixture
def store(tmp_path) -> RecordStore:
    """One that says nothing; what it would say is in `store.faults`."""
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


@pytest.mark.parametrize("num_images", [1, 7, 8, 9, 100, 599, 10_000])
def test_packed_bits_of_any_number_of_images_agree_with_their_share(made_up, num_images):
    draw = np.random.default_rng(num_images)
    for share in (0.0, 0.3, 1.0):
        bits = draw.random(num_images) < share
        record = made_up(metrics={"test_top1": float(bits.mean()), "val_top1": 0.1}, correct=pack_correct(bits))
        assert record.objection() == ""
        flipped = bits.copy()
        flipped[0] ^= True
        if num_images > 8:  # of fewer, another number of images may have that share
            other = made_up(metrics=record.metrics, correct=pack_correct(flipped))
            assert "test_top1" in other.objection()


def test_a_bit_behind_the_last_image_is_a_contradiction(made_up):
    bits = np.zeros(10, dtype=bool)
    bits[:5] = True
    packed = bytearray(np.packbits(bits).tobytes())
    packed[-1] |= 1  # the sixth bit of padding
    record = made_up(metrics={"test_top1": 0.5, "val_top1": 0.1}, correct=base64.b64encode(packed).decode())
    assert record.objection()


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


def two_lines(made_up, **second: object):
    return made_up(), made_up(**second)


@pytest.mark.parametrize(
    "second",
    [
        {"metrics": {"test_top1": 2 / 3, "val_top1": 0.1}, "correct": ""},
        {"correct": "QA=="},
        {"outcome": Outcome.DIVERGED, "metrics": {}, "correct": ""},
        {"weights_sha256": "b" * 64},
    ],
    ids=["metrics", "correct", "outcome", "weights"],
)
def test_two_lines_of_one_run_with_other_numbers_are_a_conflict_and_the_first_counts(store, made_up, second):
    first, other = made_up(weights_sha256="a" * 64), made_up(**second)
    for record in (first, made_up(seed=1), other):
        store.append(record)
    assert store.read("pooling") == [first, made_up(seed=1)]
    (fault,) = store.faults
    assert fault.kind == "conflict" and fault.line == 3 and "in line 1 with other" in str(fault)
    with pytest.raises(ValueError, match="in line 1 with other"):
        RecordStore(store.root).read("pooling")


def test_a_retry_a_repetition_and_another_environment_are_no_conflict(store, made_up):
    lines = [
        made_up(outcome=Outcome.FAILED, metrics={}, correct="", reason="out of memory"),
        made_up(),
        made_up(cost={"train_seconds": 3.0}, started="2027-01-01T00:00:00Z"),
        made_up(environment={"machine": "89abcdef"}, metrics={"test_top1": 2 / 3, "val_top1": 0.1}, correct=""),
        made_up(outcome=Outcome.FAILED, metrics={}, correct="", reason="out of memory"),
    ]
    for record in lines:
        store.append(record)
    assert store.read("pooling") == lines and not store.faults


@pytest.mark.parametrize(
    "environment",
    [
        {"threads": 4},
        {"numpy": "1.0.0"},
        {"python": "3.9.0"},
        {"torch": "1.0"},
        {"precision": "bf16"},
        {"compiled": True},
    ],
    ids=str,
)
def test_what_may_change_a_bit_makes_other_numbers_no_conflict(store, made_up, environment):
    lines = [
        made_up(),
        made_up(environment=environment, weights_sha256="b" * 64, metrics={"test_top1": 0.9}, correct=""),
    ]
    for record in lines:
        store.append(record)
    assert store.read("pooling") == lines and not store.faults


def test_on_a_gpu_no_numbers_conflict_as_not_all_kernels_are_deterministic(store, made_up):
    lines = [made_up(environment={"device": "cuda: H100"}, weights_sha256=digit * 64) for digit in "ab"]
    for record in lines:
        store.append(record)
    assert store.read("pooling") == lines and not store.faults


def test_what_went_on_from_another_run_has_no_conflict_as_that_may_have_been_trained_elsewhere(store, made_up):
    before = made_up().config
    config = before.replace(pretraining=before, seed=before.seed)
    lines = [made_up(config=config, weights_sha256=digit * 64) for digit in "ab"]
    for record in lines:
        store.append(record)
    assert store.read("pooling") == lines and not store.faults


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


@pytest.mark.parametrize(
    "study", ["../../x", "/tmp/x", "a/b", "..", ".", "", "a\0b", "x" * 300, "nul", "COM1", "-x", "ü"]
)
def test_a_study_that_could_name_another_file_is_neither_written_nor_read(store, made_up, study):
    with pytest.raises(ValueError, match="cannot name a file"):
        store.append(made_up(study=study))
    assert store.read(study) == []
    assert [fault.kind for fault in store.faults] == ["unreadable"]
    assert not store.root.exists()


def left_out(error: BaseException, path) -> Faults:
    faults = Faults(say=lambda _: None)
    with faults.leaving_out(path):
        raise error
    return faults


def test_what_fails_for_want_of_memory_is_no_fault_of_the_records(tmp_path):
    with pytest.raises(MemoryError):
        left_out(MemoryError(), tmp_path)


def test_what_fails_is_said_with_the_switch_that_shows_its_traceback(tmp_path, monkeypatch):
    (fault,) = left_out(KeyError("arm"), tmp_path)
    assert "KeyError: 'arm'" in str(fault) and "VITBENCH_TRACEBACK=1 shows where" in str(fault)
    monkeypatch.setenv("VITBENCH_TRACEBACK", "1")
    with pytest.raises(KeyError):
        left_out(KeyError("arm"), tmp_path)


def test_the_folder_of_records_is_no_results_folder(store, made_up):
    store.append(made_up())
    with pytest.raises(ValueError, match="is the folder of the records themselves; give"):
        RecordStore(store.directory)


def test_the_learning_rate_of_old_lines_is_compared_as_a_number(store, made_up):
    record = made_up()
    config = record.config.replace(train=TrainConfig(learning_rate=1))
    fields = {**record.to_dict(), "config": config.model_dump(mode="json"), "run_id": config.run_id, "learning_rate": 1}
    write(store, json.dumps(fields))
    assert len(store.read("pooling")) == 1
