"""Are records of frozen features kept whole, found again, and refused where they are damaged?"""

from __future__ import annotations

import json

import pytest

from tests.made_up_transfer import make_transfer
from vitbench.config import run_id
from vitbench.records.transfer import TransferRecord, TransferStore


def test_records_of_a_data_set_are_read_in_the_order_in_which_they_were_appended(tmp_path):
    store = TransferStore(tmp_path)
    assert store.read() == [] == store.read("digits")
    ours = [make_transfer("linear", {"linear": [0.5]}), make_transfer("knn", {"knn": [0.25]})]
    other = make_transfer("knn", {"knn": [0.75]}, dataset="torch/cifar10")
    for record in (ours[0], other, ours[1]):
        store.append(record)
    assert store.read("digits") == ours and store.read("torch/cifar10") == [other]
    assert store.read() == [*ours, other]
    assert store.path("torch/cifar10") == tmp_path / "transfer" / "torch-cifar10.jsonl"


def test_data_sets_that_share_a_file_are_told_apart(tmp_path):
    store = TransferStore(tmp_path)
    a, b = (make_transfer("knn", {"knn": [0.5]}, dataset=name) for name in ("torch/mnist", "torch-mnist"))
    assert store.append(a) == store.append(b)
    assert store.read("torch/mnist") == [a] and store.read("torch-mnist") == [b]


def test_a_line_is_the_documented_json(tmp_path):
    record = make_transfer("few-shot", {"1-shot": [0.1, 0.2, 0.3]})
    path = TransferStore(tmp_path).append(record)
    fields = json.loads(path.read_text())
    assert fields["schema"] == 1 and fields["probe_id"] == run_id(fields["request"])
    assert fields["accuracies"][1] == {"classifier": "1-shot", "draw": 1, "top1": 0.2}
    assert TransferRecord.model_validate(fields) == record


def test_whatever_is_asked_for_otherwise_is_another_request():
    ids = {
        make_transfer("linear", {"linear": [0.5]}, **changes).probe_id
        for changes in (
            {},
            {"dataset": "shapes"},
            {"weights_sha256": "1" * 64},
            {"data_sha256": "2" * 64},
            {"image_size": (16, 16)},
            {"mean": (0.4,)},
            {"precision": "bf16"},
            {"constants": {"k": 10}},
            {"transfer_version": 2},
        )
    }
    assert len(ids) == 9


def test_a_torn_last_line_is_left_out_and_does_not_spoil_the_next(tmp_path):
    store = TransferStore(tmp_path)
    first, second = make_transfer("linear", {"linear": [0.5]}), make_transfer("knn", {"knn": [0.5]})
    path = store.append(first)
    with path.open("a") as file:
        file.write(second.to_json()[:100])
    assert store.read() == [first]
    store.append(second)
    assert store.read() == [first, second]
    assert path.with_suffix(".torn").read_text() == second.to_json()[:100] + "\n"


def test_a_whole_line_without_its_break_is_kept(tmp_path):
    store = TransferStore(tmp_path)
    first, second = make_transfer("linear", {"linear": [0.5]}), make_transfer("knn", {"knn": [0.5]})
    path = store.append(first)
    path.write_text(path.read_text().rstrip("\n"))
    store.append(second)
    assert store.read() == [first, second]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda line: "nonsense", "line 1: not JSON; mend or remove that line"),
        (lambda line: line.replace('"schema":1', '"schema":7'), "line 1: schema 7 is not 1"),
        (lambda line: line.replace('"dataset":"digits"', '"dataset":"other"'), "line 1: probe_id"),
        (lambda line: line.replace('"top1":0.5', '"top1":"high"'), "line 1: accuracies.top1 'high'"),
    ],
)
def test_a_damaged_line_is_named(tmp_path, change, says):
    store = TransferStore(tmp_path)
    path = store.append(make_transfer("linear", {"linear": [0.5]}))
    path.write_text(change(path.read_text().rstrip("\n")) + "\n" + path.read_text())
    with pytest.raises(ValueError) as error:
        store.read()
    assert f"{path} {says}" in str(error.value)


def test_results_that_cannot_be_written_are_said_in_one_line(tmp_path):
    (tmp_path / "transfer").write_text("a file, not a folder")
    with pytest.raises(ValueError, match="cannot be written"):
        TransferStore(tmp_path).append(make_transfer("linear", {"linear": [0.5]}))
