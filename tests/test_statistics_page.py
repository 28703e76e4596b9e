"""Are the tables of docs/statistics-checked.md those of the simulations that are recorded beside it?"""

from __future__ import annotations

import re

import pytest

from benchmarks import statistics_page as page
from benchmarks.statistics_tables import FEW, TABLES


def test_every_table_is_on_the_page_and_was_simulated_as_it_is_now():
    assert re.findall(r"<!-- simulated: (.*?) -->", page.PAGE.read_text()) == [*TABLES] == [*page.recorded()]
    for name, result in page.recorded().items():
        assert result["rows"] == page.row_names(name)
        assert {len(row) for row in result["values"]} == {len(TABLES[name].columns)}
        assert result["studies"] >= FEW


def test_a_table_says_how_many_studies_and_rounds_what_is_recorded(monkeypatch):
    values = [[0.04786, 0.05012, 0.9512, 0.9, 26.14]] * len(TABLES["worlds"].rows)
    result = page.Result(studies=2000, seconds=1.0, rows=page.row_names("worlds"), values=values)
    monkeypatch.setattr(page, "recorded", lambda: {"worlds": result})
    lines = page.table("worlds").splitlines()
    assert lines[0] == "2,000 studies a row."
    assert lines[4] == "| one arm | 4.8 % | 5.0 % | 95.1 % | 90.0 % | 26.1 |"


def test_what_was_not_simulated_as_it_is_now_is_refused_with_the_command(monkeypatch):
    monkeypatch.setattr(page, "recorded", dict)
    with pytest.raises(
        ValueError, match=r"power was not simulated as it is now: python -m benchmarks\.statistics_page 'power'"
    ):
        page.table("power")


@pytest.mark.parametrize(
    ("arguments", "line"), [(["powers"], "'powers' is no table"), (["--studies", "0"], "studies 0 must be 1 or more")]
)
def test_a_table_or_number_that_makes_no_sense_is_refused(arguments, line, capsys):
    with pytest.raises(SystemExit, match="2"):
        page.main(arguments)
    assert line in capsys.readouterr().err


def test_a_simulation_is_recorded_with_its_number_and_gives_the_same_again(monkeypatch, tmp_path):
    monkeypatch.setattr(page, "RECORDED", tmp_path / "recorded.json")
    page.main(["printed intervals", "--studies", "3"])
    first = page.recorded()["printed intervals"]
    page.main(["printed intervals", "--studies", "3"])
    again = page.recorded()["printed intervals"]
    assert first["studies"] == 3
    assert first["values"] == again["values"]
