"""Does a fault in the records of one study leave the tables of all others as they are, whatever it is?"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.made_up_records import make_record
from vitbench.analysis.comparison.load import load_assessments
from vitbench.analysis.pages import write_tables
from vitbench.analysis.plots import write_plots
from vitbench.analysis.report import write_report
from vitbench.cli import main
from vitbench.config import run_id
from vitbench.records import Design, Faults, Record, RecordStore
from vitbench.records.lines import append_line

PLAIN = {"question": "", "source": "", "baseline": "cls", "arms": ("cls", "gap"), "learning_rates": (1e-3,)}
DESIGNS = {
    "of another recipe": {
        "changes": {"gap": {"label_smoothing": 0.1}},
        "base": {"label_smoothing": 0.0},
        "learning_rate_scales": {"gap": 2.0},
        "train_images": 1000,
    },
    "of two factors": {"factors": {"cls": {"a": "x", "b": "y"}, "gap": {"a": "x", "b": "z"}}, "within": ("a",)},
    "of starts": {"starts": {"gap": "cls"}, "epochs": {"cls": 20, "gap": 0}},
    "of fractions": {
        "fractions": {"cls": 1.0, "gap": 0.5},
        "factors": {"cls": {"model": "x", "images": "1"}, "gap": {"model": "x", "images": "2"}},
    },
}
NOT_HASHABLE = {**DESIGNS["of another recipe"], "base": {"label_smoothing": {"a": 1}}}
JUNK = (
    None,
    "x",
    -1,
    1e300,
    [],
    {},
    ["a"],
    {"gap": None},
    {"gap": "cls", "cls": "gap"},
    {"zzz": {"a": "b"}},
    {"gap": {"mixup": [{}]}},
)


def records(study: str, design: dict[str, Any]) -> list[Record]:
    made = []
    for seed in range(3):
        for arm, rate in (("cls", 1e-3), ("gap", 2e-3)):
            recipe = {"label_smoothing": 0.1} if arm == "gap" else {}
            plan = Design.model_validate({**PLAIN, **design})
            fields = {"study": study, "seed": seed, "learning_rate": rate, "train": recipe, "design": plan}
            made.append(make_record(arm, test=0.5 + seed / 100 + (arm == "gap") / 10, **fields))
    return made


def altered(lines: list[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Each field of the design, and each part of a record, in turn left out or something else, in all or the last."""
    places = [("design", name) for name in lines[0]["design"]] + [(name,) for name in lines[0] if name != "study"]
    for *above, name in places:
        for value in ("left out", *JUNK):
            for first in (0, len(lines) - 1):
                changed = copy.deepcopy(lines)
                for line in changed[first:]:
                    part = line[above[0]] if above else line
                    part[name] = value
                    if value == "left out":
                        del part[name]
                    if isinstance(line.get("config"), dict):
                        line["run_id"] = run_id(line["config"])
                yield f"{'.'.join([*above, name])} {value}", changed


def write_all(root: Path, faults: Faults) -> dict[Path, bytes]:
    """The tables of the sound study, made with all others'."""
    write_tables(root, load_assessments(root, needed=False, faults=faults), faults=faults)
    return {path.relative_to(root): path.read_bytes() for path in (root / "tables" / "sound").iterdir()}


@pytest.fixture
def sound(store_with) -> Path:
    return store_with(*records("sound", DESIGNS["of another recipe"]))


@pytest.mark.slow(reason="some hundred results folders")
@pytest.mark.parametrize("design", DESIGNS)
def test_no_field_of_a_record_keeps_another_studys_tables_from_being_made(sound, design):
    _check(sound, design, every=9)


@pytest.mark.parametrize("design", DESIGNS)
def test_no_field_of_a_design_keeps_another_studys_tables_from_being_made(sound, design):
    _check(sound, design, every=151)


def _check(sound: Path, design: str, *, every: int) -> None:
    alone = write_all(sound, Faults())
    lines = [json.loads(record.to_json()) for record in records("broken", DESIGNS[design])]
    for line in lines:  # their runs are other runs
        line["config"]["data"]["mixup"] = 0.5
    file = sound / "records" / "broken.jsonl"
    for what, changed in list(altered(lines))[::every]:
        file.unlink(missing_ok=True)
        for line in changed:
            append_line(file, json.dumps(line))
        said: list[str] = []
        assert write_all(sound, Faults(said.append)) == alone, what
        assert all("broken" in line and "\n" not in line for line in said), what


def test_the_broken_study_is_named_in_a_line_and_the_command_says_that_something_failed(sound, capsys, monkeypatch):
    RecordStore(sound).append(records("broken", NOT_HASHABLE)[1])
    for command in ("tables", "plots", "report"):
        monkeypatch.setattr(sys, "argv", ["vitbench", command, "--results", str(sound)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 1
        lines = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
        assert len(lines) == 1 and "broken.jsonl" in lines[0]
    assert (sound / "tables" / "sound").is_dir() and (sound / "plots" / "sound").is_dir()


def test_plots_and_report_leave_a_broken_study_out(sound):
    RecordStore(sound).append(records("broken", NOT_HASHABLE)[1])
    said: list[str] = []
    write_plots(sound, faults=Faults(said.append))
    report = write_report(sound, faults=Faults(said.append)).read_text(encoding="utf-8")
    assert "Sound on digits: quick budget" in report and len(said) == 2
    assert list((sound / "plots" / "sound").iterdir()) and not (sound / "plots" / "broken").exists()
