"""Are the files of a comparison's table complete, escaped and narrow enough for a page?"""

from __future__ import annotations

import csv
import io

from tests.made_up_records import make_record
from vitbench.analysis.comparison.assessment import assess
from vitbench.analysis.comparison.load import compare
from vitbench.analysis.tables import cells as table_cells
from vitbench.analysis.tables import page
from vitbench.analysis.tables.further import further_tables
from vitbench.analysis.writing.markup import escape_markdown

NASTY = r"50% & $x_1$ #2 {a} ~^ \cmd | [b] <c> *d*"


def test_the_csv_has_full_precision_and_units_in_its_names():
    (comparison,) = compare([make_record("cls", test=1 / 3), make_record("gap", test=2 / 3)])
    first, second = csv.DictReader(io.StringIO(page.texts_of(assess(comparison))["csv"]))
    assert float(first["test_top1_mean_percent"]) == 100 * (1 / 3)
    assert float(second["difference_mean_points"]) == 100 * (2 / 3 - 1 / 3)
    assert second["difference_ci95_low_points"] == ""
    assert (first["is_baseline"], second["is_baseline"]) == ("True", "False")
    assert second["peak_memory_bytes_max"] == str(100 * 2**20)


def test_the_latex_table_has_booktabs_rules_and_the_main_columns_alone():
    (comparison,) = compare([make_record(NASTY), make_record("gap")])
    text = page.latex(assess(comparison))
    rules = [text.index(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")]
    assert rules == sorted(rules)
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert [line.replace(r"\&", "").count("&") for line in rows] == [4, 4, 4, 5, 5, 5]
    assert rows[0].strip() == r"arm & top-1 (\%) & \shortstack{difference \\ (points)} & verdict & learning rate \\"
    assert "rrlr}" in text and "resizebox" not in text
    assert len(table_cells.raw_rows(assess(comparison))[0]) > 30  # all are in the CSV


def test_no_latex_table_has_more_columns_than_a_page_is_wide():
    records = [make_record(arm, seed=seed, test=0.8 + 0.01 * seed) for arm in ("cls", "gap") for seed in range(3)]
    (comparison,) = compare(records)
    assert "Verdicts" in [table.title for table in further_tables(assess(comparison))]
    rows = [line for line in page.latex(assess(comparison)).splitlines() if line.endswith(r"\\")]
    assert len(rows) > 4 and max(line.count("&") for line in rows) == 5


def test_the_number_of_seeds_is_said_once_where_it_is_the_same_for_all_and_in_every_cell_where_not():
    even = [make_record(arm, seed=seed, test=0.8 + 0.01 * seed) for arm in ("cls", "gap") for seed in range(3)]
    (comparison,) = compare(even)
    table = page.latex(assess(comparison)).partition(r"\end{table}")[0]
    assert "n = 3 everywhere." in table and "(n=" not in table and r"81.00 $\pm$ 1.00 &" in table
    (comparison,) = compare(even[:-1])
    table = page.latex(assess(comparison)).partition(r"\end{table}")[0]
    assert "everywhere" not in table and "(n=3)" in table and "(n=2)" in table


def test_markdown_cells_stay_in_their_row():
    assert escape_markdown("a|b\nc") == r"a\|b c"
    (comparison,) = compare([make_record(NASTY)])
    main, details = table_cells.arm_tables(assess(comparison))
    row, of_details = [line for line in page.markdown(assess(comparison)).splitlines() if line.startswith("| 50%")]
    assert row.replace(r"\|", "").count("|") == len(main.columns) + 1
    assert of_details.replace(r"\|", "").count("|") == len(details.columns) + 1
