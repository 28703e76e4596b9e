"""Are all tables written, come out the same from the same records, and go with them?"""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.analysis.two_arms import two_arms
from tests.made_up_records import make_record
from vitbench.analysis.pages import print_tables, write_tables
from vitbench.analysis.plots import write_plots
from vitbench.records import Faults, Outcome, RecordStore


def test_one_arm_alone_has_a_table(store_with):
    paths = write_tables(store_with(make_record("cls", seed=0), make_record("cls", seed=1)))
    assert "| cls (baseline) |" in paths[0].read_text(encoding="utf-8")


def test_the_index_holds_every_table(store_with):
    root = store_with(make_record(study="pool"), make_record(study="pool", budget="smoke"), make_record(study="stem"))
    paths = write_tables(root)
    index = root / "tables" / "README.md"
    assert paths[-1] == index
    text = index.read_text(encoding="utf-8")
    for study, slug in (("pool", "quick-digits"), ("pool", "smoke-digits"), ("stem", "quick-digits")):
        assert f"({study}/{slug}.md)" in text
        assert all((root / "tables" / study / f"{slug}.{suffix}").exists() for suffix in ("md", "csv", "tex"))
    assert text.count("| cls (baseline) |") == 3


def test_equal_records_give_equal_bytes(store_with):
    root = store_with(*two_arms())
    first = {path: path.read_bytes() for path in write_tables(root)}
    shutil.rmtree(root / "tables")
    assert {path: path.read_bytes() for path in write_tables(root)} == first


def test_tables_of_comparisons_that_are_gone_are_removed_and_what_is_not_ours_stays(store_with):
    root = store_with(make_record(study="pool"), make_record(study="stem"))
    write_tables(root)
    ours = root / "tables" / "pool" / "notes.md"
    ours.write_text("mine\n", encoding="utf-8")
    (root / "records" / "pool.jsonl").unlink()
    (root / "records" / "stem.jsonl").unlink()
    write_tables(store_with(make_record(study="stem", budget="smoke")))
    left = sorted(path.relative_to(root / "tables").as_posix() for path in (root / "tables").rglob("*.*"))
    assert left == [
        "README.md",
        "pool/notes.md",
        "stem/smoke-digits.csv",
        "stem/smoke-digits.md",
        "stem/smoke-digits.tex",
    ]


def of_no_file(path):
    path.unlink()
    path.mkdir()


def of_damaged_lines(path):
    path.write_bytes(path.read_bytes().replace(b'"digest":"', b'"digest":"0'))


@pytest.mark.parametrize("damage", [of_no_file, of_damaged_lines])
def test_tables_and_plots_of_records_that_cannot_be_read_now_stay_and_are_named(store_with, damage):
    root = store_with(*two_arms(), make_record(study="stem"))
    written = [*write_tables(root), *write_plots(root)]
    damage(root / "records" / "pool.jsonl")
    said = Faults(say=lambda _: None)
    again = [*write_tables(root, faults=said), *write_plots(root, faults=said)]
    (kept,) = {path.parent.name for path in written if path not in again and path.parent.name != "tables"}
    assert kept == "pool" and all(path.exists() for path in written)
    assert "cannot be read now: pool/" in (root / "tables" / "README.md").read_text()


def test_an_empty_store_is_refused_in_one_line_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError, match="run `vitbench run` first") as error:
        write_tables(tmp_path)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_the_terminal_shows_main_columns_and_notes(store_with):
    root = store_with(
        make_record("[bold]cls", seed=0), make_record(study="stem", outcome=Outcome.FAILED, reason="no [memory]")
    )
    console = Console(file=io.StringIO(), width=100)
    print_tables(root, console=console)
    text = console.file.getvalue()
    assert "[bold]cls (baseline)" in text
    assert "no [memory]" in text


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no /dev/full")
def test_an_output_that_cannot_be_written_is_no_fault_of_the_records(tmp_path):
    store = RecordStore(tmp_path)
    for record in two_arms():
        store.append(record)
    faults = Faults()
    with contextlib.suppress(OSError), Path("/dev/full").open("w", buffering=1) as full:  # of closing it
        console = Console(file=full, width=140)
        with pytest.raises(OSError, match="No space left"):
            print_tables(tmp_path, console=console, faults=faults)
    assert not list(faults)
