"""Are numbers written with the digits that people need?"""

from __future__ import annotations

import pytest

from vitbench.analysis.writing.words import count_text, significant


@pytest.mark.parametrize(
    ("value", "text"), [(17.58, "17.6"), (0.003124, "0.00312"), (1234.4, "1,234"), (None, "–"), (0.0, "0")]
)
def test_three_digits_are_shown_and_none_lost_before_the_point(value, text):
    assert significant(value) == text


@pytest.mark.parametrize(("count", "text"), [(86_567_656, "86.6M"), (201_000, "201k"), (950, "950")])
def test_counts_are_shown_with_their_unit(count, text):
    assert count_text(count) == text
