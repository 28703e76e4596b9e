"""Is one table the same in Markdown, CSV and LaTeX, words at the left and numbers at the right?"""

from __future__ import annotations

import csv
import io

import pytest

from vitbench.analysis.writing.table import Table, csv_text, latex_table, markdown, markdown_rows

ROWS = [{"arm": "a|b", "top-1 (%)": "90.0", "verdict": "open"}, {"arm": "c_d", "top-1 (%)": "–", "verdict": "–"}]
TABLE = Table("Title", ROWS, texts=("arm", "verdict"), raw=[{"arm": "=x", "top1": 0.9}], notes=["one"])


def test_markdown_aligns_words_left_and_numbers_right_and_escapes_cells():
    assert markdown_rows(TABLE) == [
        "| arm | top-1 (%) | verdict |",
        "|---|---:|---|",
        r"| a\|b | 90.0 | open |",
        r"| c\_d | – | – |",
    ]
    text = markdown(TABLE, where="somewhere", remarks=["two"], level=2)
    assert text.startswith("## Title\n") and "\nsomewhere.\n" in text and "Notes:\n\n- one\n- two\n" in text
    assert "Conventions" not in text


def test_the_csv_holds_the_raw_rows_and_no_formula():
    assert list(csv.DictReader(io.StringIO(csv_text(TABLE.raw)))) == [{"arm": "'=x", "top1": "0.9"}]


@pytest.mark.parametrize(("narrow", "columns"), [(False, "l" + 7 * "r"), (True, r"lrrrrp{0.15\linewidth}")])
def test_a_narrow_latex_table_has_six_columns_and_breaks_long_cells_and_headings(narrow, columns):
    row = {
        "arm": "a",
        **{f"n{i}": str(i) for i in range(4)},
        "a heading of some length": 41 * "x",
        "n5": "5",
        "n6": "6",
    }
    lines = latex_table(Table("", [row], texts=("arm",)), caption="What & why", label="mine", narrow=narrow)
    assert rf"  \begin{{tabular}}{{{columns}}}" in lines
    assert r"  \caption{What \& why}" in lines and r"  \label{tab:mine}" in lines
    assert any(r"\shortstack{a heading of some \\ length}" in line for line in lines) is narrow


def test_a_table_without_rows_is_empty():
    assert not Table("Title", [], texts=()) and Table("Title", [], texts=()).columns == ()
