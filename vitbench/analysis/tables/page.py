"""How is the table of a comparison written, as Markdown, CSV and LaTeX? Equal records give equal bytes."""

from __future__ import annotations

import re
from dataclasses import replace

from vitbench.analysis.comparison.assessment import Assessment
from vitbench.analysis.tables.captions import conventions, facts, judged_by_sentence
from vitbench.analysis.tables.cells import DIFFERS_IN, main_table, raw_rows
from vitbench.analysis.tables.further import further_tables
from vitbench.analysis.writing.markup import escape_markdown
from vitbench.analysis.writing.table import TEX_HEAD, csv_text, latex_table, markdown_head, markdown_list, markdown_rows


def texts_of(assessment: Assessment) -> dict[str, str]:
    """The content of each file, by suffix."""
    return {"md": markdown(assessment), "csv": csv_text(raw_rows(assessment)), "tex": latex(assessment)}


def markdown(assessment: Assessment, *, level: int = 1) -> str:
    """Title, facts, table, notes and conventions; `level` is that of its heading."""
    comparison = assessment.comparison
    lines = markdown_head(comparison.title, level=level)
    lines += [f"- **{label}:** {escape_markdown(text)}" for label, text in facts(comparison).items()]
    lines += ["", *markdown_rows(main_table(assessment))]
    for table in further_tables(assessment):
        lines += ["", f"{'#' * (level + 1)} {table.title}", "", *markdown_rows(table)]
    lines += markdown_list(assessment.notes, heading="Notes:")
    lines += markdown_list(conventions(assessment), heading="Conventions:")
    return "\n".join(lines) + "\n"


LATEX_COLUMNS = ("arm", DIFFERS_IN, "params", "GMACs", "{heading}", "difference ({unit})", "verdict")
"""With the heading and the unit of the metric."""
_COUNT = re.compile(r" ?\(n=(\d+)\)")


def latex(assessment: Assessment) -> str:
    """`table` environments in booktabs style: the comparison's main columns, then the further tables' first ones.

    All columns are in the CSV file.
    """
    comparison, table = assessment.comparison, main_table(assessment)
    metric = comparison.metric
    columns = [name.format(heading=metric.heading, unit=metric.unit) for name in LATEX_COLUMNS]
    rows = [{name: row[name] for name in columns if name in row} for row in table.rows]
    sentences = [f"{comparison.title}.", comparison.design.question, *judged_by_sentence(comparison)]
    sentences += conventions(assessment)
    counts = {count for row in rows for cell in row.values() for count in _COUNT.findall(cell)}
    if len(counts) == 1:
        rows = [{name: _COUNT.sub("", cell) for name, cell in row.items()} for row in rows]
        sentences.append(f"n = {counts.pop()} everywhere.")
    caption = " ".join(filter(None, sentences))
    label = f"{re.sub(r'[^A-Za-z0-9.-]+', '-', comparison.study)}-{comparison.slug}"
    lines = [f"{TEX_HEAD} All columns are in the CSV file."]
    lines += latex_table(replace(table, rows=rows), caption=caption, label=label, narrow=True)
    for further in further_tables(assessment):
        word, title = further.title.split()[-1].lower(), f"{comparison.title}. {further.title}."
        lines += latex_table(further, caption=title, label=f"{label}-{word}", narrow=True)
    return "\n".join([*lines, ""])
