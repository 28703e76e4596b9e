"""Are the store's figures in docs/scale.md those that are recorded beside it?"""

from __future__ import annotations

import pytest

from benchmarks import scale

MEASURED = scale.Measured(cpu_seconds=8.6, seconds=20.0, peak_bytes=292_000_000)


def test_the_page_shows_what_is_recorded():
    page = scale.PAGE.read_text()
    assert scale.with_section(page, scale.page_section(scale.recorded())) == page


def test_a_row_has_each_number_of_records_and_an_empty_cell_where_nothing_was_measured():
    results = {"one_study": {"25000": {"load": MEASURED, "tables": MEASURED}, "200000": {"load": MEASURED}}}
    assert scale.page_section(results).splitlines()[2:] == [
        "| records | load | tables |",
        "|---:|---:|---:|",
        "| 25,000 | 9 s, 0.3 GB | 9 s, 0.3 GB |",
        "| 200,000 | 9 s, 0.3 GB | – |",
    ]


def test_what_is_measured_anew_replaces_what_was_and_sizes_stand_in_order():
    before = {"one_study": {"200000": {"load": MEASURED}, "25000": {"load": MEASURED, "plan": MEASURED}}}
    newer = scale.Measured(cpu_seconds=1.0, seconds=1.0, peak_bytes=1)
    merged = scale.merged(before, {"one_study": {"25000": {"load": newer}}})
    assert [*merged["one_study"]] == ["25000", "200000"]
    assert merged["one_study"]["25000"] == {"load": newer, "plan": MEASURED}


def test_a_page_without_the_marks_is_refused():
    with pytest.raises(ValueError, match=r"scale\.md lacks the lines <!-- store --> and <!-- /store -->"):
        scale.with_section("# A page\n", "")
