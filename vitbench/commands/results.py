"""`vitbench tables`, `plots` and `report`: everything again from the records."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from vitbench.commands.arguments import DONE, FAILED, LOCAL_RESULTS, Results
from vitbench.files import shown
from vitbench.records import Faults

Metric = Annotated[
    str | None,
    typer.Option(help="Judge arms by it: top1, top5, balanced, loss, brier, ece; default: what each study declared."),
]


def tables(results: Results = LOCAL_RESULTS, metric: Metric = None) -> None:
    """Every table again, as Markdown, CSV and LaTeX, from the records in --results alone."""
    from vitbench.analysis.comparison.load import load_assessments
    from vitbench.analysis.pages import print_tables, write_tables

    faults = Faults()
    assessments = load_assessments(results, metric=metric, needed=False, faults=faults)
    paths = write_tables(results, assessments, faults=faults)
    print_tables(results, assessments, faults=faults)
    _end(paths, faults)


def plots(results: Results = LOCAL_RESULTS, metric: Metric = None) -> None:
    """Every plot again, as SVG and PNG, from the records in --results alone."""
    from vitbench.analysis.plots import write_plots

    faults = Faults()
    _end(write_plots(results, metric=metric, faults=faults), faults)


def report(results: Results = LOCAL_RESULTS, metric: Metric = None) -> None:
    """One HTML page with all tables and plots, from the records in --results alone."""
    from vitbench.analysis.report import write_report

    faults = Faults()
    _end([write_report(results, metric=metric, faults=faults)], faults)


def _end(paths: Iterable[Path], faults: Faults) -> NoReturn:
    for path in paths:
        print(shown(path))
    raise typer.Exit(FAILED if faults else DONE)
