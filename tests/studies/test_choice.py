"""Is a setting chosen on the seeds that count, and on no other?"""

from __future__ import annotations

import pytest

from vitbench.studies.choice import choose

LOW, HIGH = (1e-3,), (2e-3,)


@pytest.mark.parametrize(
    ("scores", "setting", "seeds"),
    [
        ({LOW: {0: 0.5, 1: 0.0}, HIGH: {0: 0.4, 1: 0.9}}, LOW, (0,)),
        ({LOW: {1: 0.5}, HIGH: {1: 0.9}}, None, ()),  # seed 1 is no tuning seed
        ({LOW: {0: 0.5}, HIGH: {1: 0.9}}, LOW, ()),
        ({LOW: {0: None, 1: 0.5}, HIGH: {0: None, 1: 0.9}}, None, (0,)),  # nothing completed on a tuning seed
        ({LOW: {0: 0.0}, HIGH: {0: None, 1: 0.9}}, LOW, (0,)),
    ],
)
def test_final_seeds_choose_nothing(scores, setting, seeds):
    choice = choose(scores, (LOW, HIGH), tuning_seeds=1)
    assert (choice.setting, choice.seeds) == (setting, seeds)


def test_a_grid_of_one_setting_leaves_nothing_to_choose():
    assert choose({LOW: {3: 0.5}}, (LOW,), tuning_seeds=1).setting == LOW
