"""Do words in a line go with their numbers?"""

from __future__ import annotations

import pytest

from vitbench.text import agreeing, counted, did_you_mean, duration, say


@pytest.mark.parametrize(("number", "line"), [(0, "0 runs are"), (1, "1 run is"), (2, "2 runs are")])
def test_words_agree_with_their_number(number, line):
    assert f"{counted(number, 'run')} {agreeing(number, 'is', 'are')}" == line


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (12.4, "12 s"),
        (59.6, "1 min 00 s"),
        (270, "4 min 30 s"),
        (3600, "1 h 00 min"),
        (3900, "1 h 05 min"),
    ],
)
def test_durations_are_told_in_whole_units(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("name", "hint"), [("poool", "did you mean pool?"), ("xyz", "give another")])
def test_the_nearest_name_is_proposed_where_one_is_near(name, hint):
    assert did_you_mean(name, ("pool", "position"), "give another") == hint


def test_what_is_said_beside_the_answer_is_one_line_and_moves_no_cursor(capsys):
    say("read\x1b[2J\n  again")
    assert capsys.readouterr().err == "vitbench: read\\x1b[2J again\n"
