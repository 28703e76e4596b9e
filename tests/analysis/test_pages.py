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
from vitbench.records import Design, Faults, Outcome, RecordStore


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


def arms_with_much_to_say():
    """Of a long name, another cost and a change that the name does not tell."""
    design = Design(
        question="Which is best?",
        source="",
        baseline="cls",
        arms=("cls", "an arm with a rather long name"),
        learning_rates=(1e-3,),
        changes={"an arm with a rather long name": {"label_smoothing": 0.1}},
        base={"label_smoothing": 0.0},
    )
    fields = {
        "cls": {},
        "an arm with a rather long name": {"train": {"label_smoothing": 0.1}, "cost": {"macs": 5_000_000}},
    }
    return [
        make_record(name, seed=seed, test=0.8 + 0.01 * len(of_arm) + 0.001 * seed**2, design=design, **of_arm)
        for name, of_arm in fields.items()
        for seed in range(3)
    ]


def test_the_index_begins_with_the_picture_of_each_comparison_and_has_its_first_table(store_with):
    root = store_with(*arms_with_much_to_say(), make_record(study="alone"))
    write_tables(root)
    index = (root / "tables" / "README.md").read_text(encoding="utf-8")
    picture = "](../plots/pool/quick-digits-forest.png)"
    assert (
        index.index("### Pool on digits")
        < index.index(picture)
        < index.index("Which is best?")
        < index.rindex("| arm |")
    )
    assert index.count("![") == 1  # one arm alone has no picture
    assert "Costs and settings" not in index and "(pool/quick-digits.md)" in index
    page = (root / "tables" / "pool" / "quick-digits.md").read_text(encoding="utf-8")
    assert (
        page.index("../../plots/pool/quick-digits-forest.png")
        < page.index("| arm |")
        < page.index("## Costs and settings")
    )
    drawn = {path.relative_to(root).as_posix() for path in write_plots(root)}
    assert "plots/pool/quick-digits-forest.png" in drawn and not any(
        "alone" in name for name in drawn if "forest" in name
    )


@pytest.mark.parametrize(
    ("width", "shown", "below"),
    [
        (140, ["arm", "differs in", "top-1 (%)", "difference (points)", "verdict", "GMACs"], False),
        (88, ["arm", "top-1 (%)", "difference (points)", "verdict", "GMACs"], True),
        (80, ["arm", "top-1 (%)", "difference (points)", "verdict"], True),
    ],
)
def test_a_terminal_shows_the_columns_that_fit_each_arm_on_one_line(store_with, width, shown, below):
    console = Console(file=io.StringIO(), width=width)
    print_tables(store_with(*arms_with_much_to_say()), console=console)
    lines = console.file.getvalue().splitlines()
    (heading,) = (line for line in lines if "top-1 (%)" in line)
    assert heading.split() == " ".join(shown).split()
    (row,) = (line for line in lines if line.startswith(" an arm with"))
    assert "an arm with a rather long name" in row and "82.17 ± 0.21" in row and "]" in row and len(row) <= width
    text = " ".join(" ".join(lines).split())
    assert ("long name: differs in label_smoothing 0.1" in text) == below
    assert "n = 3 everywhere." in text and "(n=3)" not in text


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
