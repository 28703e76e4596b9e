"""Where is each table written, and what of it is printed? Everything from the records alone."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from vitbench.analysis.comparison.across import across_studies
from vitbench.analysis.comparison.assessment import Assessment
from vitbench.analysis.comparison.changes import NOTHING
from vitbench.analysis.comparison.claims import Judgement
from vitbench.analysis.comparison.findings import Findings
from vitbench.analysis.comparison.load import load_assessments, no_records
from vitbench.analysis.comparison.metrics import by_both
from vitbench.analysis.comparison.naming import study_words, title_on_data
from vitbench.analysis.comparison.wording import settle_text
from vitbench.analysis.profile.tables import write_profiles
from vitbench.analysis.tables import page
from vitbench.analysis.tables.across import across_table, summary
from vitbench.analysis.tables.captions import judged_by_sentence
from vitbench.analysis.tables.cells import DIFFERS_IN, arm_tables, needed_columns
from vitbench.analysis.tables.further import CLAIM_HEADINGS
from vitbench.analysis.tables.further import claims as claims_table
from vitbench.analysis.tables.secondary import loss_and_top1_summary, loss_and_top1_table
from vitbench.analysis.transfer.tables import write_transfer
from vitbench.analysis.writing.files import is_marked, remove_stale, write, write_each
from vitbench.analysis.writing.markup import escape_markdown
from vitbench.analysis.writing.table import (
    Table,
    csv_text,
    markdown_head,
    markdown_list,
    markdown_rows,
    with_count_once,
)
from vitbench.analysis.writing.words import listed
from vitbench.records import Faults, RecordStore

LEFT_OUT = "Left out, as something is wrong with the records:"
JUDGING = (
    "Agrees: the verdict is the one that the claim expects. Where it expects equivalence, the difference was shown to lie "
    "within the margin; where it expects no gain, that, or worse. Disagrees: any other verdict. Open: the evidence does not "
    "decide, or a learning rate is at the edge of the grid, beyond which the verdict could turn. Published numbers are of "
    "other data, larger models and other recipes (ours stands above each table): only the direction is compared."
)


def write_tables(
    store_root: str | Path, assessments: Sequence[Assessment] | None = None, *, faults: Faults | None = None
) -> list[Path]:
    """Writes `tables/<study>/<slug>.{md,csv,tex}`, the index `tables/README.md`, and the tables of every device's profile
    and of frozen features.

    `assessments` are those of the records there, loaded where not given. Returns the paths. `faults` (else stderr) are told of
    what is damaged; it is left out. Raises ValueError where there is nothing to write, or the folder cannot be written.
    """
    faults = Faults() if faults is None else faults
    store = RecordStore(store_root, faults)
    transfer = write_transfer(store_root, faults)
    others = [*write_profiles(store_root, faults), *transfer]
    directory = Path(store_root) / "tables"
    written: list[Path] = []
    assessed: list[Assessment] = []
    if assessments is None:
        assessments = load_assessments(store_root, needed=False, faults=faults)
    if not (assessments or others or faults):
        raise no_records(store_root)
    for assessment in assessments:
        comparison = assessment.comparison
        texts: dict[str, str] = {}
        with faults.leaving_out(store.path(comparison.study)):
            texts = page.texts_of(assessment)
            assessed.append(assessment)
        written += write_each(directory / comparison.study / comparison.slug, texts)
    if not assessed and not faults:
        return others
    arms = across_studies(assessed, store, faults)
    claims = _all_claims(assessed)
    written += _write_page(directory, claims)
    written += _write_page(directory, across_table(arms), summary(arms))
    metrics = by_both(assessment.comparison for assessment in assessed)
    written += _write_page(directory, loss_and_top1_table(metrics), *loss_and_top1_summary(metrics))
    left_out = [*faults.remarks(), *_earlier(directory, written, faults)]
    links = {
        "[What the literature says, and what was found here](claims.md).": claims,
        "[Does it hold on other data?](across.md)": arms,
        "[Do loss and top-1 judge alike?](metrics.md)": metrics,
        "[Frozen features: linear probe, few-shot, nearest neighbours](transfer.md).": transfer,
    }
    index = _index(assessed, [link for link, is_there in links.items() if is_there], left_out)
    written += [write(directory / "README.md", index), *others]
    remove_stale(directory, written=written, suffixes=(".csv", ".tex", ".md"), unread=faults.unread)
    return written


def _all_claims(assessments: Sequence[Assessment]) -> Table:
    """What the literature says beside what was found here, over all comparisons."""
    claims = [(each.comparison, row) for each in assessments for row in claims_table(each).rows]
    rows = [
        {"study": study_words(comparison.study), "comparison": title_on_data(comparison), **row}
        for comparison, row in claims
    ]
    return Table(
        name="claims",
        title="What the literature says, and what was found here",
        rows=rows,
        raw=[{"study": comparison.study, "comparison": comparison.slug, **row} for comparison, row in claims],
        texts=("study", "comparison", *CLAIM_HEADINGS),
        conventions=(JUDGING,),
    )


def _write_page(directory: Path, table: Table, *above: str) -> list[Path]:
    """The Markdown and CSV files of a table over all comparisons; none where it is empty."""
    if not table:
        return []
    paragraphs = [*(line for text in above for line in (text, "")), *markdown_rows(table)]
    paragraphs += [line for text in table.conventions for line in ("", text)]
    text = "\n".join([*markdown_head(table.title), *paragraphs, ""])
    return write_each(directory / table.name, {"md": text, "csv": csv_text(table.raw)})


def print_tables(
    store_root: str | Path,
    assessments: Sequence[Assessment] | None = None,
    *,
    console: Console | None = None,
    faults: Faults | None = None,
) -> None:
    """Prints the main columns of every comparison, its notes, what would settle it, and claims."""
    # A pipe has no width of its own; 80 columns would fold every cell.
    console = console or Console(width=None if sys.stdout.isatty() else 140)
    faults = Faults() if faults is None else faults
    store = RecordStore(store_root, faults)
    if assessments is None:
        assessments = load_assessments(store_root, needed=False, faults=faults)
    for assessment in assessments:
        parts: list[RenderableType] = []
        with faults.leaving_out(store.path(assessment.comparison.study)):
            parts = _terminal_parts(assessment, console)
        for part in parts:  # out of the block: that nothing can be written is no fault of the records
            console.print(part)


def _terminal_parts(assessment: Assessment, console: Console) -> list[RenderableType]:
    """Its first table and the lines below it; where the terminal is narrow, what does not fit stands below or is left out."""
    table, count = with_count_once(arm_tables(assessment)[0])
    columns, needed = list(table.columns), needed_columns(assessment.comparison.metric)
    lines = [*judged_by_sentence(assessment.comparison), *([count] if count else [])]
    printed = _printed(table, columns)
    if DIFFERS_IN in columns and not _fits(printed, console):
        columns.remove(DIFFERS_IN)
        lines += [f"{row['arm']}: differs in {row[DIFFERS_IN]}" for row in table.rows if row[DIFFERS_IN] != NOTHING]
        printed = _printed(table, columns)
    while columns[-1] not in needed and not _fits(printed, console):
        printed = _printed(table, columns := columns[:-1])
    lines += [*assessment.notes, *_beyond_the_table(assessment.findings)]
    return [printed, *(Text(f"- {line}") for line in lines), ""]


def _printed(table: Table, columns: Sequence[str]) -> RichTable:
    printed = RichTable(title=Text(table.title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in columns:
        printed.add_column(name, justify="left" if name in table.texts else "right", overflow="fold")
    for row in table.rows:
        printed.add_row(*(Text(row[name]) for name in columns))
    return printed


def _fits(table: RichTable, console: Console) -> bool:
    """Whether every row has a line of its own."""
    return Measurement.get(console, console.options.update_width(10_000), table).maximum <= console.width


def _beyond_the_table(findings: Findings) -> Iterator[str]:
    """What would settle the open arms, and which claims of the literature the others agree with."""
    open_arms = [
        f"{label} {settle_text(arm.to_settle, arm.metric)}" for label, arm in findings.arms.items() if arm.to_settle
    ]
    if open_arms:
        yield f"To settle at the mean and spread seen: {'; '.join(open_arms)}."
    for row in findings.claims:
        if row.judgement is not Judgement.NOT_COMPARABLE:
            yield f"Claim: {row.claim} (paper: {row.paper}). Here {row.ours}: {row.judgement}."


def _earlier(directory: Path, written: Sequence[Path], faults: Faults) -> list[str]:
    """Which tables stay as they were written before, as their records cannot be read now."""
    pages = {page for name in faults.unread for page in (directory / name).glob("*.md") if is_marked(page)}
    names = sorted(page.relative_to(directory).as_posix() for page in pages - {*written})
    return [f"Written earlier, as their records cannot be read now: {listed(names)}."] if names else []


def _index(assessments: Sequence[Assessment], above: Sequence[str], left_out: Sequence[str]) -> str:
    """The picture and the first table of every comparison on one page, with links to the rest."""
    by_study: dict[str, list[Assessment]] = defaultdict(list)
    for assessment in assessments:
        by_study[assessment.comparison.study].append(assessment)
    lines = [*markdown_head("Tables"), *(line for link in above for line in (link, ""))]
    if left_out:
        lines += [LEFT_OUT, *markdown_list(left_out), ""]
    for study, of_study in by_study.items():
        links = [
            f"[{escape_markdown(title_on_data(each.comparison))}]({study}/{each.comparison.slug}.md)"
            for each in of_study
        ]
        lines.append(f"- {escape_markdown(study_words(study))}: {'; '.join(links)}")
    for study, of_study in by_study.items():
        lines += ["", f"## {escape_markdown(study_words(study))}"]
        for assessment in of_study:
            lines += ["", *page.summary(assessment)]
    return "\n".join(lines) + "\n"
