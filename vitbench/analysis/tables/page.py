"""How a comparison's table is written: as Markdown, CSV and LaTeX. Equal records give equal bytes."""

from __future__ import annotations

import re

from vitbench.analysis.comparison.assessment import Assessment
from vitbench.analysis.tables import verdicts
from vitbench.analysis.tables.captions import conventions, facts
from vitbench.analysis.tables.cells import columns, raw_rows, rows
from vitbench.analysis.writing.files import MARK
from vitbench.analysis.writing.markup import escape_markdown
from vitbench.analysis.writing.table import LATEX_NEEDS, Table, latex_table
from vitbench.analysis.writing.table import csv_text as csv_table


def markdown(assessment: Assessment, *, level: int = 1) -> str:
    """Title, facts, table, notes and conventions; `level` is that of its heading."""
    escape, comparison = escape_markdown, assessment.comparison
    headings = columns(assessment)
    lines = [f"{'#' * level} {escape(comparison.title)}", "", f"<!-- {MARK}; do not edit -->", ""]
    lines += [f"- **{label}:** {escape(text)}" for label, text in facts(comparison).items()]
    lines += ["", *markdown_table([dict(zip(headings, row, strict=True)) for row in rows(assessment)])]
    for title, table in further_tables(assessment).items():
        lines += ["", f"{'#' * (level + 1)} {title}", "", *markdown_table(table)]
    if assessment.notes:
        lines += ["", "Notes:", "", *(f"- {escape(note)}" for note in assessment.notes)]
    lines += ["", "Conventions:", "", *(f"- {escape(sentence)}" for sentence in conventions(assessment))]
    return "\n".join(lines) + "\n"


def further_tables(assessment: Assessment) -> dict[str, verdicts.Table]:
    """Title to rows: verdicts, interactions, power laws, and what the literature claims, where there are any."""
    tables = {
        "Verdicts": verdicts.verdicts(assessment),
        "Interactions": verdicts.interactions(assessment),
        "Gain from fine-tuning": verdicts.fine_tuning(assessment.comparison),
        "Power laws": verdicts.power_laws(assessment.comparison),
        "What the literature says": verdicts.claims(assessment),
    }
    return {title: table for title, table in tables.items() if table}


def markdown_table(table: verdicts.Table) -> list[str]:
    """Numbers to the right, words to the left."""
    headings = list(table[0])
    aligned = ["---" if name in verdicts.WORDS else "---:" for name in headings]
    return [
        f"| {' | '.join(map(escape_markdown, headings))} |",
        f"|{'|'.join(aligned)}|",
        *(f"| {' | '.join(map(escape_markdown, row.values()))} |" for row in table),
    ]


def csv_text(assessment: Assessment) -> str:
    """One line per arm; full precision; empty where there is no number."""
    return csv_table(raw_rows(assessment))


LATEX_COLUMNS = {
    "arm": "arm",
    "params": "params",
    "GMACs": "GMACs",
    "top-1 (%)": "top-1 (%)",
    "difference (points)": "difference (points)",
    "verdict": "verdict",
}
"""The main columns, and under which heading."""


def latex(assessment: Assessment) -> str:
    """`table` environments in booktabs style: the comparison's main columns, then the further tables' first ones.

    All columns are in the CSV file.
    """
    comparison, headings = assessment.comparison, columns(assessment)
    whole = [dict(zip(headings, row, strict=True)) for row in rows(assessment)]
    main = [{heading: row[name] for name, heading in LATEX_COLUMNS.items() if name in row} for row in whole]
    counted = {count for row in main for cell in row.values() for count in _COUNT.findall(cell)}
    sentences = [f"{comparison.title}.", comparison.design.question, *conventions(assessment)]
    if len(counted) == 1:
        main = [{name: _COUNT.sub("", cell) for name, cell in row.items()} for row in main]
        sentences.append(f"n = {counted.pop()} everywhere.")
    caption = " ".join(filter(None, sentences))
    label = f"{re.sub(r'[^A-Za-z0-9.-]+', '-', comparison.study)}-{comparison.slug}"
    lines = [f"% {MARK}; do not edit. {LATEX_NEEDS} All columns are in the CSV file."]
    lines += _latex_table(main, caption=caption, label=label)
    for title, table in further_tables(assessment).items():
        word = title.split()[-1].lower()
        lines += _latex_table(table, caption=f"{comparison.title}. {title}.", label=f"{label}-{word}")
    return "\n".join([*lines, ""])


_COUNT = re.compile(r" ?\(n=(\d+)\)")


def _latex_table(table: verdicts.Table, *, caption: str, label: str) -> list[str]:
    return latex_table(Table("", table, verdicts.WORDS), caption=caption, label=label, narrow=True)
