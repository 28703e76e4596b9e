"""The tables and findings that README.md and the pages of docs/ quote: from the reference records and profiles, never typed.

`python -m tests.readme` writes them anew; the test beside it fails where they differ.
"""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

from tests import evidence
from vitbench.analysis.comparison.across import arms_across
from vitbench.analysis.comparison.load import load_assessments
from vitbench.analysis.profile.contests import summary
from vitbench.analysis.profile.profile import load_profile
from vitbench.analysis.profile.rows import left_out
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
    r"<!-- table: (?P<paths>\S+(?:\n\S+)*)\ncolumns: (?P<columns>.*?) -->\n.*?<!-- end of table -->", re.DOTALL
)
_FOUND = re.compile(r"<!-- found: (?P<comparisons>.*?) -->\n.*?<!-- end of found -->", re.DOTALL)
_ACROSS = re.compile(r"<!-- across -->\n.*?<!-- end of across -->", re.DOTALL)
_GOING_ON = re.compile(r"<!-- going on from: (?P<runs>.*?) -->\n.*?<!-- end of going on -->", re.DOTALL)
_EVIDENCE = re.compile(r"<!-- evidence -->\n.*?<!-- end of evidence -->", re.DOTALL)
_PROFILES = re.compile(r"<!-- profiles -->\n.*?<!-- end of profiles -->", re.DOTALL)
NO_PROFILE = "No device has been measured for this version yet: `nox -s profile -- --results results/reference` does."


def renewed(text: str, *, root: Path = ROOT) -> str:
    """`text` with each marked block filled from the file that its marker names, or from all profiles."""
    text = _BLOCK.sub(_fill, text)
    text = _FOUND.sub(_found, text)
    text = _ACROSS.sub(lambda _: f"<!-- across -->\n\n{_across()}\n\n<!-- end of across -->", text)
    text = _GOING_ON.sub(_going_on, text)
    text = _EVIDENCE.sub(lambda _: f"<!-- evidence -->\n\n{evidence.table(ROOT)}\n\n<!-- end of evidence -->", text)
    return _PROFILES.sub(lambda _: f"<!-- profiles -->\n\n{_profiles(root)}\n\n<!-- end of profiles -->", text)


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


def _found(match: re.Match[str]) -> str:
    """A sentence for each comparison that the marker names: `pooling/quick-digits position/quick-digits`."""
    assessments = {
        f"{assessment.comparison.study}/{assessment.comparison.slug}": assessment
        for assessment in load_assessments(ROOT / REFERENCE)
    }
    lines = [
        f"- **{escape_markdown(assessments[name].comparison.title)}.** {escape_markdown(sentence(assessments[name]))}"
        for name in match["comparisons"].split()
    ]
    return "\n".join([f"<!-- found: {match['comparisons']} -->", "", *lines, "", "<!-- end of found -->"])


def _across() -> str:
    """How many arms came to the same on several data sets."""
    return escape_markdown(summary_across(arms_across(load_assessments(ROOT / REFERENCE))))


def _going_on(match: re.Match[str]) -> str:
    """The single runs that started from the weights of the named ones, a row each, seeds in columns."""
    rows: dict[tuple[str, ...], dict[int, str]] = {}
    for record in RecordStore(ROOT / REFERENCE).read("train"):
        config = record.config
        if (config.init or "").startswith(tuple(f"run:{run}" for run in match["runs"].split())):
            train, size = config.train, " × ".join(map(str, config.model.image_hw))
            trained = (
                "nothing" if not train.epochs else "all" if train.trainable == "all" else f"{train.trainable}, head"
            )
            decay = "" if train.layer_decay is None else f"{train.layer_decay:g}"
            images = f"{config.data.train_images:,}" if config.data.train_images and train.epochs else ""
            key = size, trained, decay, f"{train.epochs:g}", images
            rows.setdefault(key, {})[record.seed] = f"{100 * record.metrics['test_top1']:.2f}"
    seeds = sorted({seed for found in rows.values() for seed in found})
    heading = [
        "image size",
        "what is trained",
        "layer decay",
        "epochs",
        "images",
        *(f"seed {seed}: top-1 (%)" for seed in seeds),
    ]
    lines = [heading, ["---"] * 2 + ["---:"] * (len(heading) - 2)]
    lines += [[*key, *(found.get(seed, "") for seed in seeds)] for key, found in rows.items()]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"<!-- going on from: {match['runs']} -->\n\n{table}\n\n<!-- end of going on -->"


def _fill(match: re.Match[str]) -> str:
    """The wanted columns of the first table of a file that has them, or of several files, one beneath the other; `data` is
    what a file says.
    """
    wanted = [name.strip() for name in match["columns"].split(";")]
    tables = [_table(path, wanted) for path in match["paths"].split()]
    lines = [wanted, ["---:" if tables[0][0][name].endswith(":") else "---" for name in wanted]]
    lines += [[row[name] for name in wanted] for _, rows in tables for row in rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"<!-- table: {match['paths']}\ncolumns: {match['columns']} -->\n\n{table}\n\n<!-- end of table -->"


def _table(path: str, wanted: list[str]) -> tuple[dict[str, str], list[dict[str, str]]]:
    """(column to its alignment, rows by column) of the first table of a page of ours that has these columns."""
    text = (ROOT / path).read_text()
    data = re.search(r"\*\*Data:\*\* (.*?):", text)
    said = {"data": data[1] if data else ""}
    for is_table, lines in groupby(text.splitlines(), key=lambda line: line.startswith("|")):
        if not is_table:
            continue
        heading, alignment, *rows = (
            [cell.strip() for cell in line.strip("|").split("|" if i == 1 else " | ")] for i, line in enumerate(lines)
        )
        alignments = {"data": "---", **dict(zip(heading, alignment, strict=True))}
        if set(wanted) <= set(alignments):
            return alignments, [{**said, **dict(zip(heading, row, strict=True))} for row in rows]
    raise ValueError(f"no table of {path} has all columns of {wanted}; see how it names them")


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(renewed(page.read_text()))
