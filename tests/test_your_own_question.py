"""Does the page from zero to a verdict work as it is written?"""

from __future__ import annotations

import json
import re

import pytest

from tests.your_own_question import AFTER_AN_EDIT, EDIT, PAGE, commands_of, printed_on, study_of, walk

TEXT = PAGE.read_text()
ARMS = ("as it is", "convolution", "smoothing", "moved")


@pytest.fixture
def call(vitbench, tmp_path, monkeypatch):
    """Commands, run in an empty folder; `call.budget` is added to those that take one."""
    monkeypatch.chdir(tmp_path)

    def run(arguments: list[str]) -> str:
        budget = ["--budget", run.budget] if run.budget and arguments[1:] else []
        said = vitbench(*arguments, *budget)
        assert said.status == 0, (arguments, said.err)
        return said.out

    run.budget = "smoke"
    return run


def heading(printed: str) -> list[str]:
    """The words above a table's columns."""
    return next(line for line in printed.splitlines() if "differs in" in line).split()


def test_its_study_has_at_most_30_lines_and_is_edited_in_one_place():
    assert study_of(TEXT).count("\n") <= 30
    assert study_of(TEXT).count(EDIT[0]) == 1


def test_it_goes_from_plan_over_run_to_tables_and_report():
    names = [command.split()[1] for command in commands_of(TEXT)]
    assert names == sorted(names, key=["check", "plan", "run", "tables", "report"].index)
    assert {"plan", "run", "tables", "report"} <= {*names}


def test_its_commands_run_and_print_what_it_says(call, tmp_path, in_this_process):
    printed = walk(TEXT, tmp_path, call)
    for what, on_page in printed_on(TEXT).items():
        assert heading(printed[what]) == heading(on_page), what
        assert all(arm in printed[what] and arm in on_page for arm in ARMS), what
    assert (tmp_path / "results/local/report.html").stat().st_size > 10_000


def test_its_check_and_its_plan_have_the_name_of_the_class_and_the_numbers_of_parameters_of_its_study(call, tmp_path):
    """At the page's budget, by `plan`, which builds no model and takes a second."""
    (tmp_path / "my_study.py").write_text(study_of(TEXT))
    call.budget = ""
    blocks = printed_on(TEXT)
    planned, *on_page = (
        re.findall(r"Convolution@\w{8}|\d+,\d{3}", text)
        for text in (
            call(["plan", "my_study.py", "--data", "digits"]),
            blocks["vitbench check my_study.py --data digits"],
            blocks["vitbench plan my_study.py --data digits"],
        )
    )
    assert len(planned) == len(ARMS) + 1 and on_page == [planned, planned]


def test_an_edited_line_makes_the_runs_of_that_arm_pending_and_a_comment_none(call, tmp_path, in_this_process):
    def pending() -> set[str]:
        plan = json.loads(call(["plan", "my_study.py", "--data", "digits", "--json"]))
        return {run["arm"] for run in plan["runs"] if not run["done"]}

    study = tmp_path / "my_study.py"
    study.write_text(study_of(TEXT))
    assert pending() == {*ARMS}
    call(["run", "my_study.py", "--data", "digits"])
    assert pending() == set()
    study.write_text(re.sub("  # .*", "  # another comment", study_of(TEXT)))
    assert study.read_text() != study_of(TEXT) and pending() == set()
    study.write_text(study_of(TEXT).replace(*EDIT))
    assert pending() == {"convolution"}


@pytest.mark.slow
def test_as_it_is_written_every_arm_gets_a_verdict(call, tmp_path, in_this_process):
    call.budget = ""
    printed = walk(TEXT, tmp_path, call)["vitbench tables"]
    verdict = "better|worse|equivalent|open|at the ceiling"
    assert all(re.search(rf"^ {arm} .*\b({verdict})\b", printed, re.MULTILINE) for arm in ARMS[1:])
    assert all(what in printed_on(TEXT) or not what.startswith(AFTER_AN_EDIT) for what in printed_on(TEXT))
