"""Does looking after record files lose, change or double nothing?"""

from __future__ import annotations

import shutil

import pytest

from tests.made_up_transfer import make_transfer
from vitbench.records import Faults, RecordStore
from vitbench.records.transfer import TransferStore
from vitbench.records.upkeep import check, merge, repair

OTHER = {"metrics": {"test_top1": 2 / 3, "val_top1": 0.1}, "correct": ""}


def quiet() -> Faults:
    return Faults(say=lambda _: None)


@pytest.fixture
def results(tmp_path, made_up):
    """A store of three lines of `pooling`, one of `mine` and one of frozen features."""
    store = RecordStore(tmp_path / "a")
    for seed in range(3):
        store.append(made_up(seed=seed))
    store.append(made_up(study="mine"))
    TransferStore(store.root).append(make_transfer("linear", {"linear": [0.5]}))
    return store.root


def damage(path, line: int) -> bytes:
    """Flips a bit in the middle of a line and returns what it is then."""
    lines = path.read_bytes().split(b"\n")
    changed = bytearray(lines[line - 1])
    changed[len(changed) // 2] ^= 1
    lines[line - 1] = bytes(changed)
    path.write_bytes(b"\n".join(lines))
    return bytes(changed)


def test_a_sound_store_has_no_fault(results):
    faults = quiet()
    assert check(results, faults) == (3, 5) and not faults
    assert repair(results, faults) == {} and not faults


def test_where_nothing_is_recorded_nothing_is_sound(tmp_path):
    for look in (check, repair):
        with pytest.raises(ValueError, match="no records under"):
            look(tmp_path, quiet())


def test_damaged_lines_are_set_aside_by_number_and_the_rest_stays_byte_by_byte(results):
    path, transfer = RecordStore(results).path("pooling"), next((results / "transfer").iterdir())
    lines = path.read_bytes().splitlines(keepends=True)
    wrong, other = damage(path, 2), damage(transfer, 1)
    faults = quiet()
    assert check(results, faults) == (3, 3)
    assert [(fault.path, fault.line) for fault in faults] == [(path, 2), (transfer, 1)]

    assert {file: [fault.line for fault in gone] for file, gone in repair(results, quiet()).items()} == {
        path: [2],
        transfer: [1],
    }
    assert path.read_bytes() == lines[0] + lines[2]
    assert path.with_suffix(".damaged").read_bytes() == b"2\t" + wrong + b"\n"
    assert transfer.with_suffix(".damaged").read_bytes() == b"1\t" + other + b"\n"
    assert transfer.read_bytes() == b""
    faults = quiet()
    assert check(results, faults) == (3, 3) and not faults


def test_repairing_twice_keeps_what_was_set_aside_before(results):
    path = RecordStore(results).path("pooling")
    wrong = [damage(path, 1)]
    repair(results, quiet())
    wrong.append(damage(path, 2))
    repair(results, quiet())
    assert path.with_suffix(".damaged").read_bytes() == b"1\t%s\n2\t%s\n" % (*wrong,)


def test_the_end_of_a_writer_that_was_killed_goes_where_it_always_went(results):
    path = RecordStore(results).path("pooling")
    damage(path, 1)
    with path.open("ab") as file:
        file.write(b'{"digest":"ab')
    repair(results, quiet())
    assert path.with_suffix(".torn").read_bytes() == b'{"digest":"ab\n'
    assert [record.seed for record in RecordStore(results).read("pooling")] == [1, 2]


def test_a_full_disk_leaves_the_file_and_its_damage(results, monkeypatch):
    path = RecordStore(results).path("pooling")
    damage(path, 1)
    before = path.read_bytes()

    def full(*_) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vitbench.records.upkeep.write_whole", full)
    with pytest.raises(ValueError, match="No space left on device"):
        repair(results, quiet())
    assert path.read_bytes() == before


def test_a_conflict_is_named_and_only_set_aside_if_asked_to(results, made_up):
    store = RecordStore(results)
    store.append(made_up(seed=1, **OTHER))
    path = store.path("pooling")
    before = path.read_bytes()
    faults = quiet()
    assert repair(results, faults) == {} and path.read_bytes() == before
    (fault,) = faults
    assert fault.kind == "conflict" and fault.line == 4 and "in line 2 with other metrics" in fault.what

    faults = quiet()
    repair(results, faults, conflicts=True)
    assert not faults and [record.seed for record in store.read("pooling")] == [0, 1, 2]
    assert path.with_suffix(".damaged").read_bytes().startswith(b"4\t")


def test_merging_adds_what_is_new_as_it_is_and_a_second_time_nothing(results, tmp_path, made_up):
    other = RecordStore(tmp_path / "b")
    other.append(made_up(seed=1))  # the same line
    other.append(made_up(seed=7))
    plain = made_up(seed=8).to_json().encode() + b"\n"
    with other.path("pooling").open("ab") as file:
        file.write(plain)  # of an older version, without a digest
    other.append(made_up(study="new"))
    source = other.path("pooling").read_bytes()
    pooling, new = RecordStore(results).path("pooling"), RecordStore(results).path("new")
    before = pooling.read_bytes()

    faults = quiet()
    assert merge(results, other.root, faults) == {new: 1, pooling: 2}
    assert pooling.read_bytes() == before + b"".join(source.splitlines(keepends=True)[1:])
    assert new.read_bytes() == other.path("new").read_bytes()
    assert other.path("pooling").read_bytes() == source
    after = pooling.read_bytes()
    assert merge(results, other.root, faults) == {new: 0, pooling: 0}
    assert pooling.read_bytes() == after and not faults


def test_merging_into_nothing_copies_and_into_itself_does_nothing(results, tmp_path):
    merge(tmp_path / "c", results, quiet())
    for file in results.glob("*/*.jsonl"):
        assert (tmp_path / "c" / file.relative_to(results)).read_bytes() == file.read_bytes()
    before = {file: file.read_bytes() for file in results.glob("*/*.jsonl")}
    merge(results, results, quiet())
    assert {file: file.read_bytes() for file in results.glob("*/*.jsonl")} == before


def test_a_line_with_and_one_without_digest_are_the_same_line(results, tmp_path):
    shutil.copytree(results, tmp_path / "old")
    for file in (tmp_path / "old" / "records").glob("*.jsonl"):
        file.write_text("".join(f"{record.to_json()}\n" for record in RecordStore(tmp_path / "old").read(file.stem)))
    assert set(merge(results, tmp_path / "old", quiet()).values()) == {0}
    assert set(merge(tmp_path / "old", results, quiet()).values()) == {0}


def test_conflicts_and_damage_are_named_and_not_taken_over(results, tmp_path, made_up):
    other = RecordStore(tmp_path / "b")
    other.append(made_up(seed=1, **OTHER))
    other.append(made_up(seed=5))
    other.append(made_up(seed=6))
    damage(other.path("pooling"), 2)
    for _ in range(2):
        faults = quiet()
        merge(results, other.root, faults)
        assert [(fault.kind, fault.line) for fault in faults] == [("not merged", 1), ("damage", 2)]
    assert [record.seed for record in RecordStore(results).read("pooling")] == [0, 1, 2, 6]


def test_a_line_that_was_cut_off_is_told_and_set_aside(results):
    path = RecordStore(results).path("pooling")
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    faults = quiet()
    check(results, faults)
    assert [(fault.path, fault.line, fault.kind) for fault in faults] == [(path, 3, "damage")]
    repair(results, quiet())
    assert path.read_bytes() == b"".join(whole.splitlines(keepends=True)[:2])
    check(results, after := quiet())
    assert not after


def test_a_later_line_without_bits_or_with_other_costs_is_a_conflict(results, made_up):
    store = RecordStore(results)
    metrics = {"test_top1": 0.125, "val_top1": 0.5}
    first = made_up(seed=9, metrics=metrics, correct="gA==")  # one of eight
    for later in ({}, {"correct": ""}, {"cost": first.cost.model_copy(update={"params": 1})}):
        store.append(first.model_copy(update=later))
    faults = quiet()
    check(results, faults)
    assert [(fault.line, fault.what.rpartition("with other ")[2]) for fault in faults] == [
        (5, "correct, which counts"),
        (6, "params, which counts"),
    ]


def test_no_damaged_file_goes_unnamed_beside_one_with_many_damaged_lines(results):
    faults = quiet()
    (results / "records" / "aaa.jsonl").write_bytes(b"junk\n" * 30)
    damage(RecordStore(results).path("pooling"), 2)
    check(results, faults)
    remarks = faults.remarks()
    assert len(remarks) == 12 and remarks[10] == "records/aaa.jsonl: and 20 more."
    assert remarks[11].startswith("records/pooling.jsonl line 2: ")
