"""Is a decision written with its sign, its interval and what its runs leave out?"""

from __future__ import annotations

from vitbench.analysis.comparison.wording import caveats_text, points, settle_text, with_interval
from vitbench.analysis.statistics.pairing import PairedDifference
from vitbench.analysis.statistics.power import SeedsToSettle
from vitbench.analysis.statistics.verdicts import Caveats


def test_points_have_a_sign_and_zero_has_none():
    assert [points(value) for value in (0.0056, -0.012, -0.00001, 0.0)] == ["+0.56", "−1.20", "0.00", "0.00"]


def test_a_difference_stands_beside_its_interval_or_its_number_of_pairs():
    difference = PairedDifference({0: 0.00, 1: 0.01, 2: 0.02})
    assert with_interval(difference, difference.interval()) == "+1.00 [−1.48, +3.48]"  # 4.303 / √3 = 2.48
    assert with_interval(difference, None) == "+1.00 (n=3)"


def test_caveats_are_told_in_turn():
    caveats = Caveats(diverged=2, baseline_diverged=1, at_edge=True)
    assert caveats_text(caveats) == "2 runs diverged; 1 run of the baseline diverged; at the edge of the grid"
    assert caveats_text(Caveats()) == ""


def test_seeds_to_settle_say_what_they_would_show():
    needed = SeedsToSettle(num_seeds=12, shows="equivalence")
    assert settle_text(needed) == "about 12 seeds, by showing equivalence within 0.5 points"
    assert settle_text(SeedsToSettle(None, "a difference")) == "more than 100 seeds"
