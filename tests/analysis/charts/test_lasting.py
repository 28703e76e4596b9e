"""Does the picture of short and long ablations show each arm once, where its differences are, by mark and by colour?"""

from __future__ import annotations

import math
from itertools import combinations

import pytest

from tests.analysis.comparison.test_lasting import LONG, SHORT, WIDE, lasting, records
from vitbench.analysis.charts.lasting import beside, lasting_figure
from vitbench.analysis.charts.verdict_looks import TOGETHER_LOOKS
from vitbench.analysis.comparison.together import Together
from vitbench.analysis.plots import write_plots

SHORT_OF, LONG_OF = {"a": 0.02, "b": 0.01, "c": -0.02, "d": 0.0}, {"a": 0.03, "b": 0.0, "c": 0.02, "d": 0.005}


def marks(axes):
    """(x, y) of every mark, by the shape of its marker."""
    lines = (line for line in axes.lines if line.get_marker() != "None")
    return {(round(float(line.get_xdata()[0]), 2), round(float(line.get_ydata()[0]), 2)): line for line in lines}


def drawn(short=SHORT_OF, long=LONG_OF, **fields):
    return lasting(*records(short, **SHORT), *records(long, **LONG, **fields))


def test_each_arm_stands_at_its_two_differences_in_points_with_the_look_of_both_verdicts():
    figure = lasting_figure(drawn())
    by_place = marks(figure.axes[0])
    assert set(by_place) == {(2.0, 3.0), (1.0, 0.0), (-2.0, 2.0), (0.0, 0.5)}
    for place, together in (((2.0, 3.0), "alike"), ((1.0, 0.0), "differs"), ((-2.0, 2.0), "opposed")):
        look = TOGETHER_LOOKS[Together(together)]
        assert (by_place[place].get_marker(), by_place[place].get_color()) == (look.marker, look.color)


def test_its_crosses_are_the_intervals_that_decided():
    (pair,) = drawn({"a": 0.02, "b": 0.01}, {"a": 0.03, "b": 0.0})
    axes = lasting_figure([pair]).axes[0]
    decision = pair.arms[0].short.decision
    bars = [sorted(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2]
    assert any(bar == pytest.approx([100 * bound for bound in decision.interval]) for bar in bars)


def test_an_open_arm_is_hollow():
    assert not TOGETHER_LOOKS[Together.OPEN].is_filled
    figure = lasting_figure(drawn(wobble=WIDE))
    assert any(line.get_markerfacecolor() == "white" for line in marks(figure.axes[0]).values())


def test_every_arm_has_its_number_in_the_panel_and_its_name_in_the_list():
    panel, listed = lasting_figure(drawn()).axes
    assert {text.get_text() for text in panel.texts} == {"1", "2", "3", "4"}
    names = [text.get_text() for text in listed.texts]
    assert [name for name in names if name.endswith("(Pool)")] == ["a (Pool)", "b (Pool)", "c (Pool)", "d (Pool)"]
    assert "opposed: better in one, worse in the other (1)" in names and "shaded: within ±0.5 points" in names


def test_no_arm_lies_beyond_the_picture_however_far_it_is_from_the_others():
    far = {letter: 0.001 * index for index, letter in enumerate("abcdefg")} | {"far": -0.45}
    axes = lasting_figure(drawn(far, far)).axes[0]
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert all(left < x < right and bottom < y < top for x, y in marks(axes))


def test_each_look_is_one_of_its_own_by_colour_and_the_settled_ones_by_shape():
    assert set(TOGETHER_LOOKS) == set(Together)
    assert len({look.color for look in TOGETHER_LOOKS.values()}) == 4
    assert len({look.marker for look in TOGETHER_LOOKS.values() if look.is_filled}) == 3


def test_one_arm_is_no_picture():
    assert lasting_figure(drawn({"a": 0.02}, {"a": 0.03})) is None and lasting_figure([]) is None


def test_plots_write_it_and_remove_it_once_one_of_the_two_is_left(store_with):
    root = store_with(*records(SHORT_OF, **SHORT), *records(LONG_OF, **LONG))
    written = {path.name for path in write_plots(root)}
    assert {"lasting.svg", "lasting.png"} <= written
    first = (root / "plots" / "lasting.svg").read_bytes()
    write_plots(root)
    assert (root / "plots" / "lasting.svg").read_bytes() == first
    (root / "records" / "pool.jsonl").unlink()
    write_plots(store_with(*records(SHORT_OF, **SHORT)))
    assert not (root / "plots" / "lasting.svg").exists()


def test_numbers_of_arms_that_lie_together_are_kept_apart():
    marks = [(100.0, 100.0), (101.0, 103.0), (96.0, 99.0), (100.0, 100.0), (300.0, 20.0)]
    places = [(x + dx, y + dy) for (x, y), (dx, dy) in zip(marks, beside(marks), strict=True)]
    assert min(math.dist(a, b) for a, b in combinations(places, 2)) >= 11
    assert beside([(0.0, 0.0)]) == [pytest.approx((11 / math.sqrt(2), 11 / math.sqrt(2)))]  # at the upper right
