"""Does text of a record stay text, whatever it holds and wherever it is shown?

Every text field of a record is hostile here, one after the other; what comes out is read by parsers that are not ours.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.made_up_records import make_record
from tests.made_up_transfer import make_transfer
from vitbench.analysis.pages import print_tables, write_tables
from vitbench.analysis.plots import write_plots
from vitbench.analysis.report import write_report
from vitbench.analysis.writing.markup import escape_csv, escape_latex, escape_markdown
from vitbench.config import run_id
from vitbench.records import Design, Faults, Outcome, Record, RecordStore
from vitbench.records.transfer import TransferStore
from vitbench.text import printable

HTML = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>"
TERMINAL = "a\x1b[2J\x1b]0;title\x07\x9b31m\u202eb\u2066c\x00\r\n\td"
LATEX = "\\input{/etc/passwd}%$&#_^~{}"
MARKDOWN = "`x` [a](javascript:b) ![i](http://i) | *c* <b> &lt; www.x.org\n# d"
HOSTILE = {
    "everything": HTML + TERMINAL + LATEX + MARKDOWN + "../../../x/../y\\z",
    "formula": "=cmd|' /C calc'!A0",
    "long": "x" * 300,
    "underscore": "_hidden",
}
DESIGN = Design(question="why", source="somebody", baseline="cls", arms=("cls", "gap"), learning_rates=(1e-3,))
SKIPPED = ("study", "run_id", "config", "outcome", "schema", "started", "finished", "correct")
"""Names of files and of values of a fixed set, which are refused, and what is printed nowhere; of `config` see below."""
CONFIG = (("data", "dataset"), ("train", "optimizer"))


def paths(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in a record's JSON there is text."""
    if isinstance(value, str):
        yield where
    elif isinstance(value, dict):
        for name, own in value.items():
            yield from paths(own, (*where, name))
    elif isinstance(value, list):
        for index, own in enumerate(value):
            yield from paths(own, (*where, index))


def replaced(fields: dict[str, Any], where: tuple[Any, ...], text: str) -> dict[str, Any]:
    fields = json.loads(json.dumps(fields))
    part = fields
    for name in where[:-1]:
        part = part[name]
    part[where[-1]] = text
    fields["run_id"] = run_id(fields["config"])
    return fields


def records_with(where: tuple[Any, ...], text: str) -> list[Record]:
    """Two arms on two seeds and a run that failed, all with that text at one place."""
    plain = [make_record(arm, seed=seed, curve=[0.5], design=DESIGN) for arm in ("cls", "gap") for seed in range(2)]
    plain.append(make_record("gap", seed=2, outcome=Outcome.FAILED, reason="why not", design=DESIGN))
    return [Record.model_validate(replaced(record.to_dict(), where, text)) for record in plain]


def fields_of_a_record() -> list[tuple[Any, ...]]:
    fields = make_record(design=DESIGN, reason="r").to_dict()
    own = [where for where in paths(fields) if where[0] not in SKIPPED]
    return own + [("config", *where) for where in CONFIG]


def test_the_fuzz_knows_every_text_field_of_a_record():
    names = {where[0] for where in fields_of_a_record()}
    assert {"arm", "budget", "variant", "design", "environment", "reason", "taken_from", "weights_sha256"} <= names
    assert ("design", "arms", 1) in fields_of_a_record() and ("environment", "device") in fields_of_a_record()


class Tags(HTMLParser):
    """Tags, attributes and ids of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.images: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name.endswith("href")]
        self.images += [value or "" for name, value in attrs if tag == "img" and name == "src"]


def unprintable(text: str) -> set[str]:
    return {one for one in text if unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp") and one not in "\n"}


def check_html(text: str) -> None:
    page = Tags()
    page.feed(text)
    assert not page.tags & {"script", "img", "b", "iframe", "object"}
    assert not {name for name in page.attributes if name.startswith("on")} and "src" not in page.attributes
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", one) for one in page.ids)
    assert all(re.fullmatch(r"#[A-Za-z0-9_.-]+", one) for one in page.links)


def check_csv(text: str) -> None:
    header, *rows = csv.reader(io.StringIO(text))
    assert rows and all(len(row) == len(header) for row in rows)
    for cell in (cell for row in (header, *rows) for cell in row):
        if cell.startswith(("=", "+", "-", "@", "\t", "\r")):
            float(cell)


def check_latex(text: str) -> None:
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    commands = set(re.findall(r"\\([A-Za-z]+)", body))
    assert commands <= {
        *(
            "begin",
            "end",
            "centering",
            "caption",
            "label",
            "linewidth",
            "toprule",
            "midrule",
            "bottomrule",
        ),
        *("textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar", "textquotedbl"),
        *("pm", "times", "to", "small", "shortstack"),
    }
    unescaped = re.sub(r"\\[&%$#_{}\\]", "", body)
    assert "%" not in unescaped and "#" not in unescaped
    assert "^" not in unescaped and "~" not in unescaped and "_" not in unescaped
    assert unescaped.count("{") == unescaped.count("}")


def check_markdown(text: str) -> None:
    markdown_it = pytest.importorskip("markdown_it")
    html = markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    page = Tags()
    page.feed(html)
    assert not page.tags & {"script", "b", "em", "code"}
    # The pictures are ours: of a study's name in letters, digits, - and _, and a slug.
    assert all(re.fullmatch(r"(\.\./)+plots/[A-Za-z0-9_-]+/[a-z0-9.-]+-forest\.png", image) for image in page.images)
    assert all(re.fullmatch(r"[A-Za-z0-9_./-]+\.(md|csv|tex)", link) for link in page.links)


def check_svg(text: str) -> None:
    ids = [value for element in ElementTree.fromstring(text).iter() for name, value in element.items() if name == "id"]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", one) for one in ids)


CHECKS = {".html": check_html, ".csv": check_csv, ".tex": check_latex, ".md": check_markdown, ".svg": check_svg}


def check_results(root: Path, outside: set[Path]) -> None:
    """Reads all that was written below `root`, and nothing was written elsewhere."""
    assert set(root.parent.iterdir()) == outside
    written = [path for path in root.rglob("*") if path.is_file() and path.suffix in CHECKS]
    assert {path.suffix for path in written} == set(CHECKS)
    for path in written:
        assert re.fullmatch(r"[A-Za-z0-9_./-]+", path.relative_to(root).as_posix())
        text = path.read_text(encoding="utf-8")
        assert not unprintable(text), path
        CHECKS[path.suffix](text)


def written_from(root: Path, capsys: pytest.CaptureFixture[str], *, plots: bool) -> str:
    """Everything that can be made of the records; what was said and printed."""
    faults = Faults()
    write_tables(root, faults=faults)
    print_tables(root, faults=faults)
    if plots:
        write_plots(root, faults=faults)
    write_report(root, faults=faults)
    said = capsys.readouterr()
    return said.out + said.err


@pytest.mark.parametrize("kind", HOSTILE)
def test_every_text_field_of_a_record_stays_text(tmp_path, capsys, kind):
    """All fields at once: what one lets through is seen as well."""
    root = tmp_path / "results"
    store = RecordStore(root)
    records = records_with(("reason",), HOSTILE[kind])
    for where in fields_of_a_record():
        records = [Record.model_validate(replaced(one.to_dict(), where, HOSTILE[kind])) for one in records]
    # Arms of one name would be one arm.
    names = {name: HOSTILE[kind] + name for name in ("cls", "gap")}
    for record, arm in zip(records, ("cls", "cls", "gap", "gap", "gap"), strict=True):
        design = record.design.model_copy(
            update={"baseline": names["cls"], "arms": tuple(names.values()), "match": "epochs", "metric": "top1"}
        )
        store.append(record.model_copy(update={"arm": names[arm], "design": design}))
    transfer = make_transfer("linear", {"linear": [0.5]}, dataset=HOSTILE[kind])
    TransferStore(root).append(transfer)
    said = written_from(root, capsys, plots=True)
    assert not unprintable(said)
    assert not faults_in(said)
    check_results(root, {root})
    assert len(list((root / "tables" / "pool").glob("*.md"))) == 1


def faults_in(said: str) -> list[str]:
    return [line for line in said.splitlines() if "left out" in line]


@pytest.mark.parametrize("where", fields_of_a_record(), ids=lambda where: ".".join(map(str, where)))
def test_no_field_by_itself_breaks_what_is_made(tmp_path, capsys, where):
    """Where a value cannot be what it is, as a `match` that is none, that is said, and no more than this study is lost."""
    root = tmp_path / "results"
    store = RecordStore(root)
    for record in records_with(where, HTML + TERMINAL):
        store.append(record)
    for arm in ("cls", "gap"):
        store.append(make_record(arm, study="other", curve=[0.5], design=DESIGN))
    said = written_from(root, capsys, plots=False)
    assert not unprintable(said) and "Traceback" not in said
    assert bool(faults_in(said)) == (where in (("design", "match"), ("design", "metric")))
    assert list((root / "tables" / "other").glob("*.md"))
    check_html((root / "report.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize("study", ["../../x", 'x"><script>', "a b", ".."])
def test_a_record_file_of_any_other_name_is_said_and_left(tmp_path, capsys, study):
    root = tmp_path / "results"
    store = RecordStore(root)
    store.append(make_record(study="good", design=DESIGN, curve=[0.5]))
    line = make_record(study=study).to_json() + "\n"
    (store.directory / f"{study.replace('/', ':')}.jsonl").write_text(line)
    store.path("lies").write_text(line)
    said = written_from(root, capsys, plots=False)
    assert len(faults_in(said)) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"results"}
    assert {path.name for path in (root / "tables").iterdir() if path.is_dir()} == {"good"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain – ü 漢字 ‌", "plain – ü 漢字 ‌"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("\u202eabc", "\\u202eabc"),
        ("a\nb\tc\rd", "a b c d"),
        ("\x7f\x9b", "\\x7f\\x9b"),
        ("\udcff", "\\udcff"),
        ("\u2028", "\\u2028"),
    ],
)
def test_what_is_printed_moves_no_cursor(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (-3.86, -3.86),
        ("-3.86", "-3.86"),
        ("+1e-3", "+1e-3"),
        ("−3.86", "−3.86"),
        (None, None),
        (True, True),
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-1+cmd|' /C calc'!A0", "'-1+cmd|' /C calc'!A0"),
        ("\t=1", "'=1"),
        ("\r=1", "'=1"),
        ("＝1", "'＝1"),
        ("a=1", "a=1"),
    ],
)
def test_a_cell_of_text_is_no_formula_and_numbers_stay_numbers(value, cell):
    assert escape_csv(value) == cell


@pytest.mark.parametrize(
    "text", ["- a", "+ a", "1. a", "12) a", "# a", "> a", "---", "===", "* a", "a\n- b", "=", "1."]
)
def test_text_at_the_beginning_of_a_line_opens_nothing(text):
    markdown_it = pytest.importorskip("markdown_it")
    for before in ("", "- "):
        html = markdown_it.MarkdownIt("commonmark").render(f"{before}{escape_markdown(text)}")
        page = Tags()
        page.feed(html)
        assert page.tags == ({"ul", "li"} if before else {"p"})


def test_no_address_in_a_text_becomes_a_link():
    assert escape_markdown("www.x.org http://x.org") == r"www\.x.org http\://x.org"


def test_latex_has_no_character_that_types_nothing():
    assert escape_latex("a\x1b\u202eb") == r"a\textbackslash{}x1b\textbackslash{}u202eb"
