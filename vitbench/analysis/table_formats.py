"""How a comparison's table is written: as Markdown, CSV and LaTeX. Equal records give equal bytes."""

from __future__ import annotations

import re

from vitbench.analysis import verdict_cells
from vitbench.analysis.comparison import Comparison
from vitbench.analysis.going_on import going_on
from vitbench.analysis.markup import escape_latex, escape_markdown
from vitbench.analysis.output import MARK
from vitbench.analysis.rendering import csv_table
from vitbench.analysis.table_cells import columns, raw_rows, rows
from vitbench.analysis.table_text import conventions, facts


def markdown(comparison: Comparison, *, level: int = 1) -> str:
    """Title, facts, table, notes and conventions; `level` is that of its heading."""
    escape = escape_markdown
    headings = columns(comparison)
    lines = [f"{'#' * level} {escape(comparison.title)}", "", f"<!-- {MARK}; do not edit -->", ""]
    lines += [f"- **{label}:** {escape(text)}" for label, text in facts(comparison).items()]
    lines += ["", *markdown_table([dict(zip(headings, row, strict=True)) for row in rows(comparison)])]
    for title, table in further_tables(comparison).items():
        lines += ["", f"{'#' * (level + 1)} {title}", "", *markdown_table(table)]
    if comparison.notes:
        lines += ["", "Notes:", "", *(f"- {escape(note)}" for note in comparison.notes)]
    lines += ["", "Conventions:", "", *(f"- {escape(sentence)}" for sentence in conventions(comparison))]
    return "\n".join(lines) + "\n"


def further_tables(comparison: Comparison) -> dict[str, verdict_cells.Table]:
    """Title to rows: verdicts, interactions, power laws, and what the literature claims, where there are any."""
    tables = {
        "Verdicts": verdict_cells.verdicts(comparison),
        "Interactions": verdict_cells.interactions(comparison),
        "What training on is worth": going_on(comparison),
        "Power laws": verdict_cells.power_laws(comparison),
        "What the literature says": verdict_cells.claims(comparison),
    }
    return {title: table for title, table in tables.items() if table}


def markdown_table(table: verdict_cells.Table) -> list[str]:
    """Numbers to the right, words to the left."""
    headings = list(table[0])
    aligned = ["---" if name in verdict_cells.WORDS else "---:" for name in headings]
    return [
        f"| {' | '.join(map(escape_markdown, headings))} |",
        f"|{'|'.join(aligned)}|",
        *(f"| {' | '.join(map(escape_markdown, row.values()))} |" for row in table),
    ]


def csv_text(comparison: Comparison) -> str:
    """One line per arm; full precision; empty where there is no number."""
    return csv_table(raw_rows(comparison))


def latex(comparison: Comparison) -> str:
    """`table` environments in booktabs style: the comparison's, then the further ones."""
    headings = columns(comparison)
    caption = " ".join([f"{comparison.title}.", comparison.question, *conventions(comparison)]).replace("  ", " ")
    main = [dict(zip(headings, row, strict=True)) for row in rows(comparison)]
    label = f"tab:{re.sub(r'[^A-Za-z0-9.-]+', '-', comparison.study)}-{comparison.slug}"
    lines = [f"% {MARK}; do not edit. Needs \\usepackage{{booktabs}} and \\usepackage{{graphicx}}."]
    lines += _latex_table(main, caption=caption, label=label)
    for title, table in further_tables(comparison).items():
        word = title.split()[-1].lower()
        lines += _latex_table(table, caption=f"{comparison.title}. {title}.", label=f"{label}-{word}")
    return "\n".join([*lines, ""])


def _latex_table(table: verdict_cells.Table, *, caption: str, label: str) -> list[str]:
    escape = escape_latex
    headings = list(table[0])
    return [
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{{escape(caption)}}}",
        f"  \\label{{{label}}}",
        r"  \resizebox{\linewidth}{!}{%",
        f"  \\begin{{tabular}}{{{''.join('l' if name in verdict_cells.WORDS else 'r' for name in headings)}}}",
        r"    \toprule",
        f"    {' & '.join(map(escape, headings))} \\\\",
        r"    \midrule",
        *(f"    {' & '.join(map(escape, row.values()))} \\\\" for row in table),
        r"    \bottomrule",
        r"  \end{tabular}}",
        r"\end{table}",
    ]
