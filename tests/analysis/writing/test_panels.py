"""Are axes marked over all of their length, and names cut to two lines?"""

from __future__ import annotations

import pytest

from vitbench.analysis.writing.panels import round_ticks, wrapped


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.33, 40, [0.3, 1, 3, 10, 30]),
        (150, 22_000, [300, 1000, 3000, 10_000]),
        (2, 30, [2, 5, 10, 20]),
        (1, 1e6, [1, 10, 100, 1e3, 1e4, 1e5, 1e6]),
    ],
)
def test_a_logarithmic_axis_has_ticks_over_all_of_its_length(low, high, ticks):
    assert [tick for tick in round_ticks(low, high) if low / 1.1 <= tick <= high * 1.1] == pytest.approx(ticks)


def test_a_long_name_is_on_two_lines_and_cut_and_an_underscore_never_first():
    assert wrapped("a name of some words", 10) == "a name of\nsome words"
    assert wrapped("a name of some words and then some more of them", 12) == "a name of\nsome words…"
    assert wrapped("_hidden", 10) == " _hidden" and wrapped("", 10) == ""
