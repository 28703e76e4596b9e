"""The tables and findings that README.md and the pages of docs/ quote: from records, profiles and simulations, never typed.

`python -m tests.readme` writes them anew; the test beside it fails where they differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from itertools import groupby
from pathlib import Path

from benchmarks import statistics_page
from tests import evidence
from vitbench.analysis.comparison.across import arms_across
from vitbench.analysis.comparison.assessment import Assessment
from vitbench.analysis.comparison.load import load_assessments
from vitbench.analysis.profile.contests import summary
from vitbench.analysis.profile.notes import left_out
from vitbench.analysis.profile.profile import load_profile
from vitbench.analysis.tables.across import summary as summary_across
from vitbench.analysis.tables.sentences import sentence
from vitbench.analysis.writing.markup import escape_markdown
from vitbench.analysis.writing.table import markdown_rows
from vitbench.profiling.profile_store import list_profiles
from vitbench.records import RecordStore

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").glob("*.md")))
REFERENCE = "results/reference"
_BLOCK = re.compile(
    r"(?P<start><!-- (?P<kind>table|found|across|going on|evidence|profiles|simulated)\b(?P<arguments>.*?) -->)\n.*?"
    r"<!-- end of (?P=kind) -->",
    re.DOTALL,
)
NO_PROFILE = "No device has been measured for this version yet: `nox -s profile -- --results results/reference` does."


def renewed(text: str, *, root: Path = ROOT) -> str:
    """`text` with what stands in each marked block written anew; profiles are those below `root`."""
    contents: dict[str, Callable[[str], str]] = {
        "table": _table,
        "found": _sentences,
        "across": lambda _: escape_markdown(summary_across(arms_across(_assessments()))),
        "going on": _fine_tuning,
        "evidence": lambda _: evidence.table(ROOT),
        "profiles": lambda _: _profiles(root),
        "simulated": lambda name: statistics_page.table(name.removeprefix(": ")),
    }

    def block(match: re.Match[str]) -> str:
        content = contents[match["kind"]](match["arguments"])
        return f"{match['start']}\n\n{content}\n\n<!-- end of {match['kind']} -->"

    return _BLOCK.sub(block, text)


@cache
def _assessments() -> list[Assessment]:
    return load_assessments(ROOT / REFERENCE)


def _profiles(root: Path) -> str:
    """For each device: what and when it is, ours against peers, and what to know of it."""
    sections = []
    for directory in list_profiles(root / REFERENCE):
        profile = load_profile(directory)
        table = summary(profile)
        if not table.rows:
            continue
        page = (directory / "README.md").relative_to(root).as_posix()
        lines = [f"[{escape_markdown(profile.where)}]({page}):", "", *markdown_rows(table)]
        notes = [*table.notes, *left_out(profile)]
        sections.append(
            "\n".join([*lines, *(["", *(f"- {escape_markdown(note)}" for note in notes)] if notes else [])])
        )
    return "\n\n".join(sections) or NO_PROFILE


def _sentences(arguments: str) -> str:
    """What each comparison showed, in a sentence: `: pooling/quick-digits position/quick-digits`."""
    assessments = {f"{each.comparison.study}/{each.comparison.slug}": each for each in _assessments()}
    return "\n".join(
        f"- **{escape_markdown(assessments[name].comparison.title)}.** {escape_markdown(sentence(assessments[name]))}"
        for name in arguments.removeprefix(":").split()
    )


def _fine_tuning(arguments: str) -> str:
    """The single runs that started from the weights of the named runs, a row each, seeds in columns: ` from: RUN RUN`."""
    starts = tuple(f"run:{run}" for run in arguments.removeprefix(" from:").split())
    rows: dict[tuple[str, ...], dict[int, str]] = {}
    for record in RecordStore(ROOT / REFERENCE).read("train"):
        config = record.config
        if (config.init or "").startswith(starts):
            train, size = config.train, " × ".join(map(str, config.model.image_hw))
            trained = (
                "nothing" if not train.epochs else "all" if train.trainable == "all" else f"{train.trainable}, head"
            )
            decay = "" if train.layer_decay is None else f"{train.layer_decay:g}"
            images = f"{config.data.train_images:,}" if config.data.train_images and train.epochs else ""
            key = size, trained, decay, f"{train.epochs:g}", images
            rows.setdefault(key, {})[record.seed] = f"{100 * record.metrics['test_top1']:.2f}"
    seeds = sorted({seed for top1 in rows.values() for seed in top1})
    heading = [
        "image size",
        "what is trained",
        "layer decay",
        "epochs",
        "images",
        *(f"seed {seed}: top-1 (%)" for seed in seeds),
    ]
    lines = [heading, ["---"] * 2 + ["---:"] * (len(heading) - 2)]
    lines += [[*key, *(top1.get(seed, "") for seed in seeds)] for key, top1 in rows.items()]
    return _lines(lines)


def _table(arguments: str) -> str:
    """The wanted columns of the first table that has them, or of a page's tables of the same arms together; of one file or of
    several, one beneath the other: `: PATH…`, and on a line of its own `columns: NAME; NAME`. The column `data` is what a file
    says of its data.
    """
    paths, _, columns = arguments.removeprefix(":").partition("columns:")
    wanted = [name.strip() for name in columns.split(";")]
    tables = [_read_table(path, wanted) for path in paths.split()]
    lines = [wanted, ["---:" if tables[0][0][name].endswith(":") else "---" for name in wanted]]
    lines += [[row[name] for name in wanted] for _, rows in tables for row in rows]
    return _lines(lines)


def _lines(cells: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _read_table(path: str, wanted: list[str]) -> tuple[dict[str, str], list[dict[str, str]]]:
    """(column to its alignment, rows by column) of the first table of a page of ours that has these columns, or else of
    all its tables with the same first column, together.
    """
    text = (ROOT / path).read_text()
    data = re.search(r"\*\*Data:\*\* (.*?):", text)
    of_the_page = {"data": data[1] if data else ""}
    of_arms: dict[tuple[str, ...], tuple[dict[str, str], list[dict[str, str]]]] = {}
    for is_table, lines in groupby(text.splitlines(), key=lambda line: line.startswith("|")):
        if not is_table:
            continue
        heading, alignment, *rows = (
            [cell.strip() for cell in line.strip("|").split("|" if i == 1 else " | ")] for i, line in enumerate(lines)
        )
        alignments = {"data": "---", **dict(zip(heading, alignment, strict=True))}
        cells = [{**of_the_page, **dict(zip(heading, row, strict=True))} for row in rows]
        if set(wanted) <= set(alignments):
            return alignments, cells
        names = heading[0], *(row[0] for row in rows)
        seen_alignments, seen = of_arms.get(names, ({}, [{} for _ in rows]))
        joined = {**alignments, **seen_alignments}, [row | before for row, before in zip(cells, seen, strict=True)]
        of_arms[names] = joined
        if set(wanted) <= set(joined[0]):
            return joined
    raise ValueError(f"no table of {path} has all columns of {wanted}; see how it names them")


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(renewed(page.read_text()))
