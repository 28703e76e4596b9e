"""Is a grid every combination, does it grow at its own ratio, and is what a user types read as it is meant?"""

from __future__ import annotations

import math

import pytest

from vitbench.config import RunConfig, TrainConfig
from vitbench.studies.settings import Grid, setting_of, setting_text, value_text, with_setting, without
from vitbench.studies.tunable import parse_tune, part_of

FIELDS = ("learning_rate", "weight_decay", "drop_path", "mixup")


def anything(grid):
    return True


@pytest.mark.parametrize(
    ("values", "side", "step"),
    [
        ((1e-3, 2e-3, 4e-3), "highest", 8e-3),
        ((1e-3, 2e-3, 4e-3), "lowest", 5e-4),
        ((1.0, 3.0), "highest", 9.0),
        ((1e-3, 3e-3), "lowest", 3.333e-4),
        ((0.01, 0.05, 0.2), "highest", 0.8),  # the ratio of the last two, not of the first
        ((0.01, 0.05, 0.2), "lowest", 0.002),
        ((0.0, 0.1, 0.2), "highest", 0.4),
        ((0.0, 0.1), "highest", None),  # from 0 there is no ratio
        ((0.0, 0.1), "lowest", None),
    ],
)
def test_a_grid_grows_by_one_geometric_step(values, side, step):
    grid = Grid.of((1e-3,), {"weight_decay": values})
    wider = grid.extended("weight_decay", side, has_meaning=anything)
    if step is None:
        assert wider is None
    else:
        assert set(wider.values["weight_decay"]) - set(values) == {step}  # to the last bit: it goes into run_ids
        assert list(wider.values["weight_decay"]) == sorted(wider.values["weight_decay"])


def test_a_step_to_a_value_without_meaning_is_not_taken():
    grid = Grid.of((1e-3,), {"drop_path": (0.4, 0.8)})
    assert grid.extended("drop_path", "highest", has_meaning=lambda wider: max(wider.values["drop_path"]) < 1) is None


def test_edges_are_told_of_each_field_that_has_several_values():
    grid = Grid.of((1e-3, 2e-3, 4e-3), {"weight_decay": (0.1,), "drop_path": (0.0, 0.1)})
    assert grid.edges((2e-3, 0.1, 0.1)) == {("drop_path", "highest")}
    assert grid.edges((1e-3, 0.1, 0.0)) == {("learning_rate", "lowest"), ("drop_path", "lowest")}
    assert len(grid.settings) == 6 and grid.settings[0] == (1e-3, 0.1, 0.0)


def test_a_setting_goes_into_every_part_of_a_configuration_and_comes_back():
    config = with_setting(RunConfig(seed=3), FIELDS, (2e-3, 0.2, 0.1, 0.8))
    assert (config.train.weight_decay, config.model.drop_path, config.data.mixup, config.seed) == (0.2, 0.1, 0.8, 3)
    assert setting_of(config, FIELDS) == (2e-3, 0.2, 0.1, 0.8)
    rest = with_setting(config, FIELDS, (1e-3, 0.05, 0.0, 0.0))
    assert rest == RunConfig(seed=3) and rest.run_id == RunConfig(seed=3).run_id


def test_a_setting_without_meaning_in_the_whole_configuration_is_refused():
    with pytest.raises(ValueError, match="batch_size 63 is odd"):
        with_setting(RunConfig(train=TrainConfig(batch_size=63)), ("learning_rate", "mixup"), (1e-3, 0.2))


def test_a_field_that_is_off_is_in_no_grid():
    off = RunConfig(train=TrainConfig(clip_norm=None))
    assert math.isnan(setting_of(off, ("learning_rate", "clip_norm"))[1])


def test_configurations_are_equal_without_the_fields_in_which_they_differ():
    one, other = TrainConfig(weight_decay=0.1), TrainConfig(weight_decay=0.2)
    assert one != other and without(one, ("weight_decay",)) == without(other, ("weight_decay",))
    assert hash(without(one, ("weight_decay",))) == hash(without(other, ("weight_decay",)))
    assert without(one, ("drop_path",)) is one


@pytest.mark.parametrize(("value", "text"), [(0.002, "0.002"), (3e-5, "3e-5"), (0.0, "0"), (16.0, "16")])
def test_values_are_written_as_one_writes_them(value, text):
    assert value_text(value) == text
    assert setting_text(("learning_rate",), (value,)) == text
    assert setting_text(("learning_rate", "mixup"), (1e-3, value)) == f"lr 0.001, mixup {text}"


def test_what_is_typed_is_read_as_a_field_and_its_values():
    assert parse_tune(["weight_decay=0.01, 5e-2,0.2", "drop-path=0,0.1"]) == {
        "weight_decay": (0.01, 0.05, 0.2),
        "drop_path": (0.0, 0.1),
    }


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["weight_decay"], "tune 'weight_decay' names no field and values"),
        (["weight_decay="], "names no field and values"),
        (["=0.1"], "names no field and values"),
        (["weight_decay=0.1,a"], "tune 'weight_decay': 'a' is not a number"),
        (["weight_decay=0.1,"], "tune 'weight_decay': '' is not a number"),
        (["weight_decay=0.1", "weight-decay=0.2"], "tune 'weight_decay' is given twice"),
    ],
)
def test_what_is_typed_wrong_is_refused_with_an_example(typed, says):
    with pytest.raises(ValueError) as error:
        parse_tune(typed)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("field", "part"), [("weight_decay", "train"), ("drop_path", "model"), ("mixup", "data"), ("layer_scale", "model")]
)
def test_each_field_is_found_in_its_part(field, part):
    assert part_of(field) == part
