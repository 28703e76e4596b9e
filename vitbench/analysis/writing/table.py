"""How does a table become Markdown, CSV and LaTeX, whatever it holds?"""

from __future__ import annotations

import csv
import io
import re
import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vitbench.analysis.writing.files import MARK
from vitbench.analysis.writing.markup import escape_csv, escape_latex, escape_markdown


@dataclass(frozen=True)
class Table:
    """Rows of equal headings: `rows` for people, `raw` the same at full precision, with units in the names."""

    title: str
    rows: Sequence[Mapping[str, str]]
    texts: Collection[str]
    """Headings of columns that are read; the others hold numbers and are aligned at the right."""
    raw: Sequence[Mapping[str, Any]] = ()
    name: str = ""
    """Of its files, where it has any."""
    conventions: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The headings; a table without rows has none."""
        return tuple(self.rows[0]) if self.rows else ()

    def __bool__(self) -> bool:
        return bool(self.rows)


def markdown(table: Table, *, where: str, remarks: Sequence[str] = (), level: int = 1) -> str:
    """Title, where it was measured, table, notes with `remarks` and conventions; `level` is that of its heading."""
    lines = [*markdown_head(table.title, level=level), f"{escape_markdown(where)}.", "", *markdown_rows(table)]
    lines += markdown_list([*table.notes, *remarks], heading="Notes:")
    lines += markdown_list(table.conventions, heading="Conventions:")
    return "\n".join(lines) + "\n"


def markdown_head(title: str, *, level: int = 1) -> list[str]:
    """The heading of a page, and the mark that says who wrote it."""
    return [f"{'#' * level} {escape_markdown(title)}", "", f"<!-- {MARK}; do not edit -->", ""]


def markdown_rows(table: Table) -> list[str]:
    """The table alone."""
    rule = "|".join("---" if name in table.texts else "---:" for name in table.columns)
    cells = [table.columns, *(row.values() for row in table.rows)]
    head, *rows = (f"| {' | '.join(map(escape_markdown, texts))} |" for texts in cells)
    return [head, f"|{rule}|", *rows]


def markdown_list(sentences: Sequence[str], *, heading: str = "") -> list[str]:
    """A line for each sentence, below the heading if there is one; nothing for none."""
    above = ["", heading, ""] if heading else [""]
    return [*above, *(f"- {escape_markdown(sentence)}" for sentence in sentences)] if sentences else []


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a row, of equal keys, at least one; full precision; empty where there is no number."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([escape_csv(name) for name in rows[0]])
    writer.writerows([escape_csv(value) for value in row.values()] for row in rows)
    return buffer.getvalue()


TEX_HEAD = rf"% {MARK}; do not edit. Needs \usepackage{{booktabs,adjustbox}}."
MOST_COLUMNS, LONGEST_CELL, LONGEST_HEADING = 6, 40, 18
"""What a page or a terminal is wide enough for; longer cells and headings are broken into lines."""


_COUNT = re.compile(r" \(n=(\d+)\)")


def with_count_once(table: Table) -> tuple[Table, str]:
    """Without `(n=5)` in the cells, and `n = 5 everywhere.`, where that is the same in all; else as it is, and nothing."""
    counts = {count for row in table.rows for cell in row.values() for count in _COUNT.findall(cell)}
    if len(counts) != 1:
        return table, ""
    rows = [{name: _COUNT.sub("", cell) for name, cell in row.items()} for row in table.rows]
    return replace(table, rows=rows), f"n = {counts.pop()} everywhere."


def latex(table: Table, *, where: str, label: str) -> str:
    """A file with all columns of the table."""
    caption = " ".join([f"{table.title}: {where}.", *table.conventions])
    return "\n".join([TEX_HEAD, *latex_table(table, caption=caption, label=label), ""])


def latex_table(table: Table, *, caption: str, label: str, narrow: bool = False) -> list[str]:
    """The lines of a `table` environment in booktabs style, no wider than a line of text.

    `narrow`: the first MOST_COLUMNS alone, with long cells and headings broken into lines.
    """
    names = table.columns[:MOST_COLUMNS] if narrow else table.columns
    kinds = ["l" if name in table.texts else "r" for name in names]
    if narrow:
        longest = [max(len(row[name]) for row in table.rows) for name in names]
        paragraph = f"p{{{0.9 / len(names):.2f}\\linewidth}}"
        kinds = [paragraph if n > LONGEST_CELL else kind for n, kind in zip(longest, kinds, strict=True)]
    rows = [
        [_latex_heading(name) if narrow else escape_latex(name) for name in names],
        *([escape_latex(row[name]) for name in names] for row in table.rows),
    ]
    head, *body = (f"    {' & '.join(cells)} \\\\" for cells in rows)
    return [
        r"\begin{table}",
        r"  \centering",
        r"  \small",
        f"  \\caption{{{escape_latex(caption)}}}",
        f"  \\label{{tab:{label}}}",
        r"  \begin{adjustbox}{max width=\linewidth}",
        f"  \\begin{{tabular}}{{{''.join(kinds)}}}",
        r"    \toprule",
        head,
        r"    \midrule",
        *body,
        r"    \bottomrule",
        r"  \end{tabular}",
        r"  \end{adjustbox}",
        r"\end{table}",
    ]


def _latex_heading(text: str) -> str:
    lines = [escape_latex(line) for line in textwrap.wrap(text, LONGEST_HEADING)]
    together = r" \\ ".join(lines)
    return together if len(lines) == 1 else f"\\shortstack{{{together}}}"
