"""What do all records show? One HTML file with tables, plots and notes, which fetches nothing from the net.

The plots are those of `plots.py`, inlined as SVG; the page follows the reader's light or dark setting.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vitbench.analysis.charts.lasting import lasting_figure
from vitbench.analysis.comparison.across import arms_across, study_by_study
from vitbench.analysis.comparison.assessment import Assessment
from vitbench.analysis.comparison.lasting import TITLE, joined, of_each_study
from vitbench.analysis.comparison.load import load_assessments
from vitbench.analysis.comparison.naming import study_words, title_on_data
from vitbench.analysis.plots import KINDS, figure_of
from vitbench.analysis.tables import lasting
from vitbench.analysis.tables.across import across_table, summary
from vitbench.analysis.tables.captions import conventions, facts
from vitbench.analysis.tables.page import tables_of
from vitbench.analysis.transfer.chart import transfer_figure as transfer_chart
from vitbench.analysis.transfer.tables import WHERE, load_rows, table_of
from vitbench.analysis.writing.drawing import rendered
from vitbench.analysis.writing.files import MARK, write
from vitbench.analysis.writing.markup import html_id
from vitbench.analysis.writing.rendering import Files, render_each
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


def write_report(
    store_root: str | Path, *, metric: str | None = None, faults: Faults | None = None, workers: int = 1
) -> Path:
    """Writes `report.html` from the records alone; returns its path.

    `faults` (else stderr) are told of what is damaged; it is left out, and the page says so. `workers`: processes that save
    figures, as of `render_each`. Raises ValueError where there are no records or the file cannot be written.
    """
    faults = Faults() if faults is None else faults
    store = RecordStore(store_root, faults)
    studies: dict[str, list[Article]] = defaultdict(list)
    assessments = load_assessments(store_root, metric=metric, faults=faults)
    drawn = (
        ((assessment, kind), figure_of(assessment.comparison, kind)) for assessment in assessments for kind in KINDS
    )
    rendered_figures = render_each(drawn, ("svg",), workers=workers)
    for assessment, of_one in groupby(rendered_figures, lambda figure: figure[0][0]):
        comparison, figures = assessment.comparison, [(kind, files) for (_, kind), files in of_one]
        with faults.leaving_out(store.path(comparison.study)):
            studies[comparison.study].append(_article(assessment, figures))
    assessed = [article.assessment for articles in studies.values() for article in articles]
    arms = study_by_study(arms_across, assessed, store, faults)
    lastings = joined(study_by_study(of_each_study, assessed, store, faults))
    lasting_svg = rendered(lambda: lasting_figure(lastings), ("svg",)).values()
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
        lasting=TITLE,
        lasting_tables=list(zip(lasting.tables(lastings), map(lasting.sentences, lastings), strict=True)),
        lasting_figure=Markup("").join(_inline(svg, prefix="lasting-", label=TITLE) for svg in lasting_svg),
        lasting_rules=lasting.RULES,
        left_out=faults.remarks(),
        transfer=transfer,
        transfer_figure=transfer_figure,
        where_transfer=WHERE,
    )
    return write(Path(store_root) / "report.html", html)


def _article(assessment: Assessment, figures: Iterable[tuple[str, Files]]) -> Article:
    """`figures`: of each kind."""
    comparison = assessment.comparison
    name = (comparison.study, comparison.slug)
    inlined = {
        kind: _inline(svg, prefix=html_id(*name, kind, ""), label=f"{KINDS[kind].heading}: {comparison.title}")
        for kind, files in figures
        for svg in files().values()
    }
    return Article(
        assessment, html_id(*name), facts(comparison), tables_of(assessment), inlined, conventions(assessment)
    )


def _inline(picture: bytes, *, prefix: str, label: str) -> Markup:
    """The `<svg>` element alone. Ids get a prefix, of `html_id`, because those of one page share a name space."""
    svg = picture.decode()
    element = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    element = re.sub(r'\bid="', f'id="{prefix}', element)
    element = element.replace('href="#', f'href="#{prefix}').replace("url(#", f"url(#{prefix}")
    # Chosen by whoever names arms and studies, so escaped like any other text.
    described = Markup('<svg role="img" aria-label="{}"').format(printable(label))
    return described + Markup(element.removeprefix("<svg"))
