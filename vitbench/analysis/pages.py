"""Every comparison's table, from the records alone: where it is written, and what of it is printed."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vitbench.analysis.comparison.across import arms_across
from vitbench.analysis.comparison.assessment import Assessment
from vitbench.analysis.comparison.claims import Judgement
from vitbench.analysis.comparison.findings import Findings
from vitbench.analysis.comparison.load import load_assessments, no_records
from vitbench.analysis.comparison.wording import settle_text
from vitbench.analysis.profile.tables import write_profiles
from vitbench.analysis.tables import across, verdicts
from vitbench.analysis.tables.cells import TERMINAL_COLUMNS, columns, rows
from vitbench.analysis.tables.page import csv_text, latex, markdown, markdown_table
from vitbench.analysis.transfer.tables import write_transfer
from vitbench.analysis.writing.files import MARK, is_marked, remove_stale, write
from vitbench.analysis.writing.markup import escape_markdown
from vitbench.analysis.writing.table import csv_text as csv_table
from vitbench.records import Faults, RecordStore

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


JUDGING = (
    "Agrees: the verdict is what the claim expects; where equivalence is expected, it was shown within the margin, and where "
    "no gain is, that or worse. Disagrees: another verdict. Open: the verdict claims nothing, or a "
    "learning rate at the edge of the grid, beyond which the verdict could turn. Published numbers are of other data, "
    "larger models and other recipes (ours stands above each table): compared is the direction."
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
    shown: list[Assessment] = []
    if assessments is None:
        assessments = load_assessments(store_root, needed=False, faults=faults)
    if not (assessments or others or faults):
        raise no_records(store_root)
    for assessment in assessments:
        comparison = assessment.comparison
        stem, texts = directory / comparison.study / comparison.slug, {}
        with faults.leaving_out(store.path(comparison.study)):
            texts = {"md": markdown(assessment), "csv": csv_text(assessment), "tex": latex(assessment)}
            shown.append(assessment)
        written += [write(stem.parent / f"{stem.name}.{suffix}", text) for suffix, text in texts.items()]
    if not shown and not faults:
        return others
    written += _write_claims(directory, shown)
    written += _write_across(directory, shown)
    left_out = [*faults.remarks(), *_earlier(directory, written, faults)]
    index = _index(shown, transfer=bool(transfer), left_out=left_out)
    written += [write(directory / "README.md", index), *others]
    remove_stale(directory, written=written, suffixes=(".csv", ".tex", ".md"), unread=faults.unread)
    return written


def _write_claims(directory: Path, assessments: Sequence[Assessment]) -> list[Path]:
    """What the literature says beside what was found here, over all comparisons: `tables/claims.{md,csv}`."""
    rows = [
        {"study": assessment.comparison.study, "comparison": assessment.comparison.slug, **row}
        for assessment in assessments
        for row in verdicts.claims(assessment)
    ]
    if not rows:
        return []
    lines = ["# What the literature says, and what was found here", "", f"<!-- {MARK}; do not edit -->", ""]
    lines += [*markdown_table(rows), "", JUDGING, ""]
    return [
        write(directory / "claims.md", "\n".join(lines)),
        write(directory / "claims.csv", csv_table(rows)),
    ]


def _write_across(directory: Path, assessments: Sequence[Assessment]) -> list[Path]:
    """What each arm came to on every data set, side by side: `tables/across.{md,csv}`."""
    arms = arms_across(assessments)
    if not arms:
        return []
    lines = ["# Does it hold on other data?", "", f"<!-- {MARK}; do not edit -->", "", across.summary(arms), ""]
    lines += [*markdown_table(across.across_table(arms)), "", across.RULE, ""]
    return [
        write(directory / "across.md", "\n".join(lines)),
        write(directory / "across.csv", csv_table(across.raw(arms))),
    ]


def print_tables(
    store_root: str | Path,
    assessments: Sequence[Assessment] | None = None,
    *,
    console: Console | None = None,
    faults: Faults | None = None,
) -> None:
    """Prints the main columns of every comparison, its notes, what would settle it, and claims."""
    from rich.console import Console

    # A pipe has no width of its own; 80 columns would fold every cell.
    console = console or Console(width=None if sys.stdout.isatty() else 140)
    faults = Faults() if faults is None else faults
    store = RecordStore(store_root, faults)
    if assessments is None:
        assessments = load_assessments(store_root, needed=False, faults=faults)
    for assessment in assessments:
        parts: list[RenderableType] = []
        with faults.leaving_out(store.path(assessment.comparison.study)):
            parts = _terminal_parts(assessment)
        for part in parts:  # out of the block: that nothing can be written is no fault of the records
            console.print(part)


def _terminal_parts(assessment: Assessment) -> list[RenderableType]:
    """Its table and the lines below it, for a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    headings = columns(assessment)
    shown = [(headings.index(name), heading) for name, heading in TERMINAL_COLUMNS.items() if name in headings]
    table = Table(title=Text(assessment.comparison.title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, heading in shown:
        table.add_column(heading, justify="right" if index else "left", overflow="fold")
    for row in rows(assessment):
        table.add_row(*(Text(row[index]) for index, _ in shown))
    lines = (*assessment.notes, *_beyond_the_table(assessment.findings))
    return [table, *(Text(f"- {line}") for line in lines), ""]


def _beyond_the_table(findings: Findings) -> Iterator[str]:
    """What would settle the open arms, and what the literature says of those that are in."""
    open_arms = [f"{label} {settle_text(arm.to_settle)}" for label, arm in findings.arms.items() if arm.to_settle]
    if open_arms:
        yield f"To settle at the mean and spread seen: {'; '.join(open_arms)}."
    for row in findings.claims:
        if row.judgement is not Judgement.NOT_COMPARABLE:
            yield f"Claim: {row.claim} (paper: {row.paper}). Here {row.ours}: {row.judgement}."


def _earlier(directory: Path, written: Sequence[Path], faults: Faults) -> list[str]:
    """Which tables stay as they were written before, as their records cannot be read now."""
    pages = {page for name in faults.unread for page in (directory / name).glob("*.md") if is_marked(page)}
    names = sorted(page.relative_to(directory).as_posix() for page in pages - {*written})
    return [f"Of an earlier time, as their records cannot be read now: {', '.join(names)}."] if names else []


def _index(assessments: Sequence[Assessment], *, transfer: bool, left_out: Sequence[str]) -> str:
    """All Markdown tables on one page, with links to their files."""
    by_study: dict[str, list[Assessment]] = defaultdict(list)
    for assessment in assessments:
        by_study[assessment.comparison.study].append(assessment)
    lines = ["# Tables", "", f"<!-- {MARK}; do not edit -->", ""]
    if any(assessment.findings.claims for assessment in assessments):
        lines += ["[What the literature says, and what was found here](claims.md).", ""]
    if arms_across(assessments):
        lines += ["[Does it hold on other data?](across.md)", ""]
    if transfer:
        lines += ["[Frozen features: linear probe, few-shot, nearest neighbours](transfer.md).", ""]
    if left_out:
        lines += ["Left out, as something is wrong with the records:", ""]
        lines += [*(f"- {escape_markdown(remark)}" for remark in left_out), ""]
    for study, of_study in by_study.items():
        slugs = [assessment.comparison.slug for assessment in of_study]
        links = ", ".join(f"[{slug}]({study}/{slug}.md)" for slug in slugs)
        lines.append(f"- {escape_markdown(study)}: {links}")
    for study, of_study in by_study.items():
        lines += ["", f"## {escape_markdown(study)}"]
        for assessment in of_study:
            slug = assessment.comparison.slug
            files = " · ".join(f"[{suffix}]({study}/{slug}.{suffix})" for suffix in ("md", "csv", "tex"))
            lines += ["", markdown(assessment, level=3), files]
    return "\n".join(lines) + "\n"
