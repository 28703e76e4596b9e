"""Is every record that was appended read back once, whatever happens to the writer, the disk or the file?"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import pytest

from vitbench.config import run_id
from vitbench.records import Outcome, RecordStore
from vitbench.records.faults import Faults

APPEND_200 = """
import sys
from pathlib import Path
from vitbench.config import RunConfig
from vitbench.records import Record, RecordStore
root, template, first = Path(sys.argv[1]), Record.model_validate_json(Path(sys.argv[2]).read_text()), int(sys.argv[3])
store = RecordStore(root)
print("ready", flush=True)
sys.stdin.readline()
for seed in range(first, first + 200):
    config = template.config.replace(seed=seed)
    store.append(template.model_copy(update={"config": config, "seed": seed, "run_id": config.run_id}))
"""

APPEND_ON_A_DISK_OF = """
import resource, signal, sys
from pathlib import Path
from vitbench.records import Record, RecordStore
root, record, room = Path(sys.argv[1]), Record.model_validate_json(Path(sys.argv[2]).read_text()), int(sys.argv[3])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that writing beyond the limit is an OSError, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
try:
    RecordStore(root).append(record)
except ValueError as error:
    print(error)
"""


@pytest.fixture
def store(tmp_path) -> RecordStore:
    return RecordStore(tmp_path / "results")


@pytest.fixture
def tolerant(tmp_path) -> RecordStore:
    """One that leaves out what is damaged, where `store` raises; what it left out is in `faults`."""
    return RecordStore(tmp_path / "results", Faults(say=lambda _: None))


def test_records_are_read_in_the_order_in_which_they_were_appended(store, made_up):
    records = [made_up(seed=seed, arm=arm) for seed, arm in ((3, "gap"), (1, "cls"), (2, "gap"))]
    for record in records:
        store.append(record)
    assert store.read("pooling") == records
    assert store.studies() == ["pooling"]


def test_a_run_is_done_by_what_completed_or_diverged_in_any_study_where_it_is_accepted(store, made_up):
    completed, failed = made_up(seed=0), made_up(seed=1, outcome="failed", metrics={}, correct="")
    diverged = made_up(seed=2, study="position", outcome="diverged", metrics={}, correct="")
    for record in (completed, failed, diverged):
        store.append(record)
    run_ids = [record.run_id for record in (completed, failed, diverged)]
    everywhere = {completed.run_id: [completed], diverged.run_id: [diverged]}
    assert store.done(run_ids, where=lambda _: True) == everywhere
    assert store.done(run_ids, where=lambda _: True, study="position") == {diverged.run_id: [diverged]}
    assert store.done(run_ids, where=lambda record: record.seed == 0) == {completed.run_id: [completed]}
    assert store.done([], where=lambda _: True) == {}


def test_every_outcome_and_every_field_survives_the_round_trip(store, made_up):
    records = [
        made_up(seed=0, reason="x\ny – ü", outcome=Outcome.FAILED, metrics={}, curve=(), correct=""),
        made_up(seed=1, outcome=Outcome.DIVERGED, cost={"train_seconds": 0.1 + 0.2, "peak_memory_bytes": 2**40}),
        made_up(seed=2, a_field_of_later="kept"),
    ]
    for record in records:
        store.append(record)
    assert [record.to_dict() for record in store.read("pooling")] == [record.to_dict() for record in records]
    assert len(store.path("pooling").read_bytes().splitlines()) == 3


def test_studies_have_files_of_their_own_and_an_unknown_one_has_no_records(store, made_up):
    store.append(made_up(study="pooling"))
    store.append(made_up(study="mine"))
    assert store.studies() == ["mine", "pooling"]
    assert [r.study for r in store.read("mine")] == ["mine"]
    assert store.read("hybrid") == []


def test_reading_creates_nothing(store):
    assert store.read("pooling") == [] and store.studies() == []
    assert not store.root.exists()


def test_two_processes_appending_at_once_lose_and_double_nothing(store, made_up, tmp_path):
    template = tmp_path / "template.json"
    template.write_text(made_up().to_json())
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", APPEND_200, store.root, template, str(first)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for first in (0, 200)
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    assert sorted(record.seed for record in store.read("pooling")) == list(range(400))


@pytest.mark.parametrize("kept", [1, 200, -1], ids=["first byte", "200 bytes", "all but the last byte"])
def test_a_torn_last_line_is_not_read_and_moves_aside_when_the_next_is_appended(store, made_up, kept):
    first, torn, last = (made_up(seed=seed) for seed in range(3))
    store.append(first)
    path = store.path("pooling")
    piece = torn.to_json().encode()[:kept]
    whole = path.read_bytes()
    path.write_bytes(whole + piece)

    assert store.read("pooling") == [first]
    assert path.read_bytes() == whole + piece  # reading never writes
    store.append(last)
    assert store.read("pooling") == [first, last]
    assert path.read_bytes().startswith(whole)
    assert path.with_suffix(".torn").read_bytes() == piece + b"\n"


def test_a_line_torn_within_a_character_is_a_torn_line(store, made_up):
    store.append(made_up())
    with store.path("pooling").open("ab") as file:
        file.write('{"reason": "ü'.encode()[:-1])
    assert len(store.read("pooling")) == 1


def test_side_files_gather_every_torn_line(store, made_up):
    for seed in range(2):
        store.append(made_up(seed=seed))
        with store.path("pooling").open("ab") as file:
            file.write(b'{"torn": %d' % seed)
    store.append(made_up(seed=2))
    assert store.path("pooling").with_suffix(".torn").read_bytes() == b'{"torn": 0\n{"torn": 1\n'
    assert [record.seed for record in store.read("pooling")] == [0, 1, 2]


def test_a_whole_last_line_without_its_line_break_is_kept(store, made_up):
    first, second = made_up(seed=0), made_up(seed=1)
    store.append(first)
    path = store.path("pooling")
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert store.read("pooling") == [first]
    store.append(second)
    assert store.read("pooling") == [first, second]
    assert not path.with_suffix(".torn").exists()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{broken", "not JSON"),
        ('"a text"', "schema None"),
        ('{"schema": 99}', "schema 99"),
        ('{"schema": 1}', "run_id|Field required"),
    ],
)
def test_a_broken_line_in_the_middle_is_refused_with_file_and_line(store, made_up, line, complaint):
    store.append(made_up(seed=0))
    with store.path("pooling").open("a") as file:
        file.write(line + "\n")
    store.append(made_up(seed=1))
    with pytest.raises(ValueError, match=complaint) as error:
        store.read("pooling")
    assert f"{store.path('pooling')} line 2:" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_foreign_schema_is_refused_in_the_last_line_too_even_without_its_line_break(store, made_up):
    store.append(made_up(seed=0))
    with store.path("pooling").open("a") as file:
        file.write(json.dumps({**made_up(seed=1).to_dict(), "schema": 2}))
    with pytest.raises(ValueError, match=r"line 2: schema 2 is not 1"):
        store.read("pooling")


def test_a_run_id_that_is_not_that_of_the_config_is_refused(store, made_up):
    fields = made_up().to_dict()
    fields["config"]["train"]["epochs"] += 1
    store.append(made_up())
    with store.path("pooling").open("a") as file:
        file.write(json.dumps(fields) + "\n")
    with pytest.raises(ValueError, match=r"line 2: .*is not that of its config") as error:
        store.read("pooling")
    assert run_id(fields["config"]) in str(error.value)


def test_records_written_before_a_field_came_are_read_and_mean_the_same_run(store, made_up):
    today = made_up()
    fields = today.to_dict()
    for part, name in (("model", "qk_norm"), ("data", "cutmix"), ("train", "compile")):
        del fields["config"][part][name]
    fields["run_id"] = run_id(fields["config"])
    assert fields["run_id"] != today.run_id
    store.directory.mkdir(parents=True)
    store.path("pooling").write_text(json.dumps(fields) + "\n")
    (read,) = store.read("pooling")
    assert read.config == today.config
    assert read.run_id == fields["run_id"]
    assert read.identity == today.run_id


def test_a_disk_that_is_full_leaves_the_file_as_it_was(store, made_up, monkeypatch):
    store.append(made_up(seed=0))
    before = store.path("pooling").read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ValueError, match="No space left on device") as error:
            store.append(made_up(seed=1))
    assert "\n" not in str(error.value) and "--results" in str(error.value)
    assert store.path("pooling").read_bytes() == before
    store.append(made_up(seed=1))
    assert [record.seed for record in store.read("pooling")] == [0, 1]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no RLIMIT_FSIZE to stand for a full disk")
def test_a_disk_that_fills_within_a_line_leaves_the_file_as_it_was(store, made_up, tmp_path):
    store.append(made_up(seed=0))
    before = store.path("pooling").read_bytes()
    record = tmp_path / "record.json"
    record.write_text(made_up(seed=1).to_json())
    said = subprocess.run(
        [sys.executable, "-c", APPEND_ON_A_DISK_OF, store.root, record, str(len(before) + 100)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.count("\n") == 1 and "cannot be written (File too large)" in said.stdout
    assert said.stderr == ""
    assert store.path("pooling").read_bytes() == before


def test_results_that_cannot_be_written_are_refused_before_anything_runs(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="cannot be written"):
        RecordStore(tmp_path / "file" / "results").prepare()


def test_preparing_leaves_nothing_behind_in_the_folder(store):
    store.prepare()
    assert list(store.directory.iterdir()) == []


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
def test_two_lines_of_one_run_with_other_numbers_are_a_conflict_and_the_first_counts(tolerant, made_up, second):
    first, other = made_up(weights_sha256="a" * 64), made_up(**second)
    for record in (first, made_up(seed=1), other):
        tolerant.append(record)
    assert tolerant.read("pooling") == [first, made_up(seed=1)]
    (fault,) = tolerant.faults
    assert fault.kind == "conflict" and fault.line == 3 and "in line 1 with other" in str(fault)
    with pytest.raises(ValueError, match="in line 1 with other"):
        RecordStore(tolerant.root).read("pooling")


def test_a_retry_a_repetition_and_another_environment_are_no_conflict(tolerant, made_up):
    lines = [
        made_up(outcome=Outcome.FAILED, metrics={}, correct="", reason="out of memory"),
        made_up(),
        made_up(cost={"train_seconds": 3.0}, started="2027-01-01T00:00:00Z"),
        made_up(metrics={**made_up().metrics, "test_brier": 0.5}),  # a metric that came later
        made_up(environment={"machine": "89abcdef"}, metrics={"test_top1": 2 / 3, "val_top1": 0.1}, correct=""),
        made_up(outcome=Outcome.FAILED, metrics={}, correct="", reason="out of memory"),
    ]
    for record in lines:
        tolerant.append(record)
    assert tolerant.read("pooling") == lines and not tolerant.faults


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
def test_what_may_change_a_bit_makes_other_numbers_no_conflict(tolerant, made_up, environment):
    lines = [
        made_up(),
        made_up(environment=environment, weights_sha256="b" * 64, metrics={"test_top1": 0.9}, correct=""),
    ]
    for record in lines:
        tolerant.append(record)
    assert tolerant.read("pooling") == lines and not tolerant.faults


def test_on_a_gpu_no_numbers_conflict_as_not_all_kernels_are_deterministic(tolerant, made_up):
    lines = [made_up(environment={"device": "cuda: H100"}, weights_sha256=digit * 64) for digit in "ab"]
    for record in lines:
        tolerant.append(record)
    assert tolerant.read("pooling") == lines and not tolerant.faults


def test_what_went_on_from_another_run_has_no_conflict_as_that_may_have_been_trained_elsewhere(tolerant, made_up):
    before = made_up().config
    config = before.replace(pretraining=before, seed=before.seed)
    lines = [made_up(config=config, weights_sha256=digit * 64) for digit in "ab"]
    for record in lines:
        tolerant.append(record)
    assert tolerant.read("pooling") == lines and not tolerant.faults


@pytest.mark.parametrize(
    "study", ["../../x", "/tmp/x", "a/b", "..", ".", "", "a\0b", "x" * 300, "nul", "COM1", "-x", "ü"]
)
def test_a_study_that_could_name_another_file_is_neither_written_nor_read(tolerant, made_up, study):
    with pytest.raises(ValueError, match="cannot name a file"):
        tolerant.append(made_up(study=study))
    assert tolerant.read(study) == []
    assert [fault.kind for fault in tolerant.faults] == ["unreadable"]
    assert not tolerant.root.exists()


def test_the_folder_of_records_is_no_results_folder(tolerant, made_up):
    tolerant.append(made_up())
    with pytest.raises(ValueError, match="is the folder of the records themselves; give"):
        RecordStore(tolerant.directory)
