"""Is a setting chosen on the seeds that count, and on no other?"""

from __future__ import annotations

import pytest

from vitbench.studies.choice import choose, environment_key, grouped

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


def test_a_run_that_failed_before_its_data_was_read_joins_the_latest_group_that_agrees_in_all_else(made_up):
    first, second = (made_up(environment={"data_sha256": sha256 * 64}) for sha256 in "ab")
    early = made_up(outcome="failed", metrics={}, correct="", environment={"data_sha256": ""})
    elsewhere = early.model_copy(update={"environment": early.environment.model_copy(update={"torch": "1.0"})})
    groups = grouped([first, early, second, elsewhere], lambda record: environment_key(record, record.design))
    assert [*groups.values()] == [[first], [early, second], [elsewhere]]


def test_data_hashes_set_environments_apart_but_where_image_sizes_differ(made_up):
    record, other = (made_up(environment={"data_sha256": sha256 * 64}) for sha256 in "ab")
    of_sizes = record.design.model_copy(update={"starts": {"gap": "cls"}})
    assert environment_key(record, record.design) != environment_key(other, record.design)
    assert environment_key(record, of_sizes) == environment_key(other, of_sizes)
