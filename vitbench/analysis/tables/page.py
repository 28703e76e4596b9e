"""How is the table of a comparison written, as Markdown, CSV and LaTeX? Equal records give equal bytes."""

from __future__ import annotations

import re

from vitbench.analysis.comparison.assessment import Assessment
from vitbench.analysis.tables.captions import conventions, facts, judged_by_sentence
from vitbench.analysis.tables.cells import arm_tables, raw_rows
from vitbench.analysis.tables.further import further_tables
from vitbench.analysis.writing.markup import escape_markdown
from vitbench.analysis.writing.table import (
    TEX_HEAD,
    Table,
    csv_text,
    latex_table,
    markdown_head,
    markdown_list,
    markdown_rows,
    with_count_once,
)


def texts_of(assessment: Assessment) -> dict[str, str]:
    """The content of each file, by suffix."""
    return {"md": markdown(assessment), "csv": csv_text(raw_rows(assessment)), "tex": latex(assessment)}


def tables_of(assessment: Assessment) -> list[Table]:
    """All tables of a comparison: that of the arms, with the fewest columns; verdicts and what else was found; costs."""
    main, details = arm_tables(assessment)
    return [main, *further_tables(assessment), details]


def markdown(assessment: Assessment) -> str:
    """A page: title, picture, facts, tables, notes and conventions."""
    comparison = assessment.comparison
    lines = [*markdown_head(comparison.title), *_picture(assessment, plots="../../plots")]
    lines += [f"- **{label}:** {escape_markdown(text)}" for label, text in facts(comparison).items()]
    main, *others = tables_of(assessment)
    lines += ["", *markdown_rows(main)]
    for table in others:
        lines += ["", f"## {table.title}", "", *markdown_rows(table)]
    lines += markdown_list(assessment.notes, heading="Notes:")
    lines += markdown_list(conventions(assessment), heading="Conventions:")
    return "\n".join(lines) + "\n"


def summary(assessment: Assessment) -> list[str]:
    """Lines of the index: title, picture, question, the table of the arms, notes, and links to all the rest."""
    comparison = assessment.comparison
    study, slug = comparison.study, comparison.slug
    lines = [f"### {escape_markdown(comparison.title)}", "", *_picture(assessment, plots="../plots")]
    above = (comparison.design.question, *judged_by_sentence(comparison))
    lines += [line for text in above if text for line in (escape_markdown(text), "")]
    lines += markdown_rows(arm_tables(assessment)[0])
    lines += markdown_list(assessment.notes, heading="Notes:")
    files = " · ".join(f"[{suffix}]({study}/{slug}.{suffix})" for suffix in ("csv", "tex"))
    return [*lines, "", f"[Verdicts, costs, settings, and how to read them]({study}/{slug}.md) · {files}"]


def _picture(assessment: Assessment, *, plots: str) -> list[str]:
    """The forest plot, which `vitbench plots` draws below `plots`, where an arm has a difference."""
    comparison = assessment.comparison
    if not any(finding.decision.difference for finding in assessment.findings.arms.values()):
        return []
    text = escape_markdown(f"{comparison.title}: difference and verdict of each arm, drawn by vitbench plots")
    return [f"![{text}]({plots}/{comparison.study}/{comparison.slug}-forest.png)", ""]


def latex(assessment: Assessment) -> str:
    """`table` environments in booktabs style: the first columns of each of the comparison's tables.

    All columns are in the CSV file.
    """
    comparison = assessment.comparison
    main, *others = tables_of(assessment)
    main, count = with_count_once(main)
    sentences = [f"{main.title}.", comparison.design.question, *judged_by_sentence(comparison)]
    caption = " ".join(filter(None, (*sentences, *conventions(assessment), count)))
    label = f"{re.sub(r'[^A-Za-z0-9.-]+', '-', comparison.study)}-{comparison.slug}"
    lines = [f"{TEX_HEAD} All columns are in the CSV file."]
    lines += latex_table(main, caption=caption, label=label, narrow=True)
    for table in others:
        word, title = table.title.split()[-1].lower(), f"{main.title}. {table.title}."
        lines += latex_table(table, caption=title, label=f"{label}-{word}", narrow=True)
    return "\n".join([*lines, ""])
