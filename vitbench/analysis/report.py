"""What do all records show? One HTML file with tables, plots and notes, which fetches nothing from the net.

The plots are those of `plots.py`, inlined as SVG; the page follows the reader's light or dark setting.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vitbench.analysis.comparison.across import across_studies
from vitbench.analysis.comparison.assessment import Assessment
from vitbench.analysis.comparison.load import load_assessments
from vitbench.analysis.comparison.naming import study_words, title_on_data
from vitbench.analysis.plots import KINDS, render
from vitbench.analysis.tables.across import across_table, summary
from vitbench.analysis.tables.captions import conventions, facts
from vitbench.analysis.tables.page import tables_of
from vitbench.analysis.transfer.chart import transfer_figure as transfer_chart
from vitbench.analysis.transfer.tables import WHERE, load_rows, table_of
from vitbench.analysis.writing.drawing import rendered
from vitbench.analysis.writing.files import MARK, write
from vitbench.analysis.writing.markup import html_id
from vitbench.analysis.writing.table import Table
from vitbench.records import Faults, RecordStore
from vitbench.records.transfer import TransferStore
from vitbench.text import printable

TEMPLATES = Environment(
    loader=PackageLoader("vitbench.analysis"),
    autoescape=True,
    finalize=lambda value: printable(value) if type(value) is str else value,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
"""In which all that is put in is escaped."""
TEMPLATES.filters |= {"study_words": study_words, "title_on_data": title_on_data}


@dataclass(frozen=True)
class Article:
    """A comparison as the page shows it."""

    assessment: Assessment
    anchor: str
    facts: dict[str, str]
    tables: list[Table]
    figures: dict[str, Markup]
    """By kind."""
    conventions: list[str]


def write_report(store_root: str | Path, *, metric: str | None = None, faults: Faults | None = None) -> Path:
    """Writes `report.html` from the records alone; returns its path.

    `faults` (else stderr) are told of what is damaged; it is left out, and the page says so. Raises ValueError where there
    are no records or the file cannot be written.
    """
    faults = Faults() if faults is None else faults
    store = RecordStore(store_root, faults)
    studies: dict[str, list[Article]] = defaultdict(list)
    for assessment in load_assessments(store_root, metric=metric, faults=faults):
        comparison = assessment.comparison
        with faults.leaving_out(store.path(comparison.study)):
            name = (comparison.study, comparison.slug)
            figures = {
                kind: _inline(svg, prefix=html_id(*name, kind, ""), label=f"{KINDS[kind].heading}: {comparison.title}")
                for kind in KINDS
                for svg in render(comparison, kind).values()
            }
            article = Article(
                assessment,
                html_id(*name),
                facts(comparison),
                tables_of(assessment),
                figures,
                conventions(assessment),
            )
            studies[comparison.study].append(article)
    assessed = [article.assessment for articles in studies.values() for article in articles]
    arms = across_studies(assessed, store, faults)
    transfer, transfer_figure = None, Markup()
    with faults.leaving_out(TransferStore(store_root).directory):
        features = load_rows(store_root, faults)
        label = "Accuracy of classifiers on frozen features"
        for svg in rendered(lambda: transfer_chart(features), ("svg",)).values():
            transfer_figure = _inline(svg, prefix="transfer-", label=label)
        transfer = table_of(features) if features else None
    html = TEMPLATES.get_template("report.html.j2").render(
        mark=MARK,
        studies=studies,
        across=across_table(arms),
        across_summary=summary(arms),
        left_out=faults.remarks(),
        transfer=transfer,
        transfer_figure=transfer_figure,
        where_transfer=WHERE,
    )
    return write(Path(store_root) / "report.html", html)


def _inline(picture: bytes, *, prefix: str, label: str) -> Markup:
    """The `<svg>` element alone. Ids get a prefix, of `html_id`, because those of one page share a name space."""
    svg = picture.decode()
    element = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    element = re.sub(r'\bid="', f'id="{prefix}', element)
    element = element.replace('href="#', f'href="#{prefix}').replace("url(#", f"url(#{prefix}")
    # Chosen by whoever names arms and studies, so escaped like any other text.
    described = Markup('<svg role="img" aria-label="{}"').format(printable(label))
    return described + Markup(element.removeprefix("<svg"))
