"""Does the table of frozen features hold the records' numbers, one row for a model, and say what is doubtful?"""

from __future__ import annotations

import csv
import io

from tests.made_up_transfer import make_transfer
from vitbench.analysis.pages import print_tables, write_tables
from vitbench.analysis.transfer.tables import table_of, transfer_rows, write_transfer
from vitbench.analysis.writing.table import csv_text
from vitbench.records import RecordStore
from vitbench.records.transfer import TransferStore


def store_with_transfer(root, *records):
    store = TransferStore(root)
    for record in records:
        store.append(record)
    return root


def transfer_table(records, runs):
    return table_of(transfer_rows(records, runs))


def cells(table, index=0):
    return table.rows[index]


ALL_METHODS = (
    make_transfer("knn", {"knn": [0.7], "knn-majority": [0.6]}),
    make_transfer("few-shot", {"10-shot": [0.5, 0.6, 0.7], "5-shot": [0.1, 0.1, 0.4]}),
    make_transfer("linear", {"linear": [0.8125]}, details={"l2": 0.01, "at_edge": False, "converged": True}),
)


def test_a_model_s_methods_stand_in_one_row_with_mean_and_deviation_over_draws():
    table = transfer_table(ALL_METHODS, {})
    # By hand: the mean of .1, .1, .4 is .2, their deviation √(.06 / 2) = .1732; of .5, .6, .7 it is .1.
    assert cells(table) == {
        "model": "timm:vit@01234567",
        "seed": "–",
        "data": "digits",
        "its own test top-1": "–",
        "linear": "81.25",
        "5-shot": "20.00 ± 17.32",
        "10-shot": "60.00 ± 10.00",
        "kNN": "70.00",
        "kNN, majority": "60.00",
    }
    assert len(table.rows) == 1 and table.notes == [
        "Computed on cpu: Example CPU, machine 0123abcd, fp32, torch 2.14.0."
    ]
    (raw,) = csv.DictReader(io.StringIO(csv_text(table.raw)))
    assert float(raw["linear_top1"]) == 0.8125 and raw["linear_sd"] == "" and raw["5-shot_draws"] == "3"


def test_what_was_measured_again_counts_once_and_the_last_one_counts():
    again = make_transfer("linear", {"linear": [0.5]})
    table = transfer_table([*ALL_METHODS, again], {})
    assert len(table.rows) == 2 - 1 and cells(table)["linear"] == "50.00"


def test_other_weights_data_sizes_and_environments_have_rows_of_their_own():
    changes = (
        {},
        {"weights_sha256": "1" * 64},
        {"dataset": "shapes"},
        {"image_size": (16, 16)},
        {"precision": "bf16"},
        {"environment": {"torch": "2.15.0"}},
        {"environment": {"machine": "ffff0000"}},
    )
    table = transfer_table([make_transfer("linear", {"linear": [0.5]}, **change) for change in changes], {})
    assert len(table.rows) == len(changes)
    assert "several environments" in table.notes[-1] and "torch 2.15.0" in table.notes[-1]


def test_doubtful_linear_probes_are_noted():
    doubtful = make_transfer(
        "linear",
        {"linear": [0.5]},
        constants={"most_iterations": 5000},
        details={"l2": 1e-6, "at_edge": True, "converged": False},
    )
    notes = transfer_table([doubtful], {}).notes
    assert "timm:vit@01234567 on digits, linear: did not converge in 5000 iterations." in notes
    assert "timm:vit@01234567 on digits, linear: the L2 chosen, 1e-06, is at the edge of the grid." in notes


def test_the_row_of_a_single_run_says_how_long_it_was(tmp_path, made_up):
    trained = made_up(study="train", arm="Nano/2", metrics={"test_top1": 0.875}, correct="")
    RecordStore(tmp_path).append(trained)
    store_with_transfer(tmp_path, make_transfer("linear", {"linear": [0.5]}, run_id=trained.run_id))
    assert f"| Nano/2, 1 epoch (run:{trained.run_id}@00000000) |" in write_transfer(tmp_path)[0].read_text()


def test_the_run_that_left_the_weights_names_the_row(tmp_path, made_up):
    trained = made_up(study="pooling", arm="gap", seed=3, metrics={"test_top1": 0.875, "val_top1": 0.5}, correct="")
    RecordStore(tmp_path).append(trained)
    store_with_transfer(tmp_path, make_transfer("linear", {"linear": [0.5]}, run_id=trained.run_id, dataset="shapes"))
    markdown, csv_file = write_transfer(tmp_path)
    assert (
        f"| Pooling of tokens: gap (run:{trained.run_id}@00000000) | 3 | shapes | 87.50 (digits) | 50.00 |"
        in markdown.read_text()
    )
    (row,) = csv.DictReader(io.StringIO(csv_file.read_text()))
    assert (row["study"], row["arm"], row["own_test_top1"], row["trained_on"]) == ("pooling", "gap", "0.875", "digits")


def test_tables_are_written_from_these_records_alone_and_equally_each_time(tmp_path, capsys):
    assert write_transfer(tmp_path) == []
    store_with_transfer(tmp_path, *ALL_METHODS)
    paths = write_tables(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == ["tables/transfer.md", "tables/transfer.csv"]
    before = [path.read_bytes() for path in paths]
    print_tables(tmp_path)
    assert [path.read_bytes() for path in write_tables(tmp_path)] == before


def test_the_index_links_to_it_where_it_is(tmp_path, made_up):
    RecordStore(tmp_path).append(made_up())
    write_tables(tmp_path)
    index = tmp_path / "tables" / "README.md"
    assert "transfer.md" not in index.read_text()
    store_with_transfer(tmp_path, *ALL_METHODS)
    assert tmp_path / "tables" / "transfer.md" in write_tables(tmp_path)
    assert "](transfer.md)" in index.read_text()
