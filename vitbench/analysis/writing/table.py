"""How a table becomes Markdown, CSV and LaTeX, whatever it holds."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitbench.analysis.writing.files import MARK
from vitbench.analysis.writing.markup import escape_csv, escape_latex, escape_markdown


@dataclass(frozen=True)
class Table:
    """`rows` are cells for people; `raw` the same at full precision, units in their names."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: list[list[str]]
    raw: list[dict[str, Any]]
    texts: int
    """So many columns at the left hold text; the others are aligned at the right."""
    conventions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def markdown(table: Table, *, where: str, remarks: Sequence[str] = (), level: int = 1) -> str:
    """Title, where it was measured, table, notes with `remarks` and conventions; `level` is that of its heading."""
    escape = escape_markdown
    lines = [f"{'#' * level} {escape(table.title)}", "", f"<!-- {MARK}; do not edit -->", ""]
    lines += [f"{escape(where)}.", "", *markdown_rows(table)]
    notes = [*table.notes, *remarks]
    if notes:
        lines += ["", "Notes:", "", *(f"- {escape(note)}" for note in notes)]
    if table.conventions:
        lines += ["", "Conventions:", "", *(f"- {escape(sentence)}" for sentence in table.conventions)]
    return "\n".join(lines) + "\n"


def markdown_rows(table: Table) -> list[str]:
    """The bare table."""
    escape = escape_markdown
    rule = "|".join("---" if index < table.texts else "---:" for index in range(len(table.columns)))
    return [
        f"| {' | '.join(map(escape, table.columns))} |",
        f"|{rule}|",
        *(f"| {' | '.join(map(escape, row))} |" for row in table.rows),
    ]


def csv_text(table: Table) -> str:
    """One line a row; full precision; empty where there is no number."""
    return csv_table(table.raw)


def csv_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of equal keys, at least one."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([escape_csv(name) for name in rows[0]])
    writer.writerows([escape_csv(value) for value in row.values()] for row in rows)
    return buffer.getvalue()


def latex(table: Table, *, where: str, label: str) -> str:
    """A `table` environment in booktabs style."""
    escape = escape_latex
    lines = latex_table(
        caption=" ".join([f"{table.title}: {where}.", *table.conventions]),
        label=f"tab:{label}",
        kinds="l" * table.texts + "r" * (len(table.columns) - table.texts),
        headings=[escape(name) for name in table.columns],
        rows=[[escape(cell) for cell in row] for row in table.rows],
    )
    return "\n".join([f"% {MARK}; do not edit. {LATEX_NEEDS}", *lines, ""])


LATEX_NEEDS = r"Needs \usepackage{booktabs,adjustbox}."


def latex_table(
    *, caption: str, label: str, kinds: str, headings: Sequence[str], rows: Sequence[Sequence[str]]
) -> list[str]:
    """The lines of a `table` environment, no wider than a line of text; headings and cells are LaTeX already."""
    return [
        r"\begin{table}",
        r"  \centering",
        r"  \small",
        f"  \\caption{{{escape_latex(caption)}}}",
        f"  \\label{{{label}}}",
        r"  \begin{adjustbox}{max width=\linewidth}",
        f"  \\begin{{tabular}}{{{kinds}}}",
        r"    \toprule",
        f"    {' & '.join(headings)} \\\\",
        r"    \midrule",
        *(f"    {' & '.join(row)} \\\\" for row in rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"  \end{adjustbox}",
        r"\end{table}",
    ]
