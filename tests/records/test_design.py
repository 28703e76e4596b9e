"""What follows from what a design says of arms that differ in more than the model: for plans and tables alike."""

import pytest
from pydantic import ValidationError

from vitbench.records import Design


def design_of(**fields):
    values = {
        "question": "",
        "source": "",
        "baseline": "a",
        "arms": ("a", "b"),
        "learning_rates": (1e-3, 2e-3),
        **fields,
    }
    return Design.model_validate(values)


@pytest.mark.parametrize("scale", [50, 0.3, 0.1, 1 / 3, 7, 3.17])
def test_a_setting_of_the_grid_comes_back_from_what_an_arm_has(scale):
    rates = (1.234e-5, 9.999e-4, 1e-3, 3.333e-3, 0.00123456789, 0.25)
    design = design_of(learning_rates=rates, learning_rate_scales={"b": scale})
    for rate in rates:
        assert design.to_grid("b", design.to_arm("b", (rate, 0.1))) == (rate, 0.1)
        assert design.to_arm("b", (rate,))[0] == pytest.approx(rate * scale, rel=1e-5)
    step_beyond = (4.938e-5,)  # not of the grid as it was planned, but of four digits
    assert design.to_grid("b", design.to_arm("b", step_beyond)) == step_beyond
    assert design.to_grid("a", (0.1,)) == design.to_arm("a", (0.1,)) == (0.1,)


def test_settings_of_an_arm_are_the_grid_times_its_scale():
    design = design_of(tuned={"weight_decay": (0.0, 0.1)}, learning_rate_scales={"b": 50})
    assert design.settings_of("b") == ((0.05, 0.0), (0.05, 0.1), (0.1, 0.0), (0.1, 0.1))
    assert design.settings_of("a") == design.settings


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf"), "x"])
def test_a_scale_that_leaves_no_learning_rate_is_no_design(scale):
    with pytest.raises(ValidationError):
        design_of(learning_rate_scales={"b": scale})


def test_older_designs_which_tell_no_changes_are_of_the_kind_that_they_were():
    older, newer = design_of(), design_of(changes={"b": {"epochs": 8, "label_smoothing": 0.1}}, epochs={"a": 4, "b": 8})
    assert (older.changes, older.base, older.learning_rate_scales) == ({}, {}, {})
    assert older.kind == newer.kind
    assert (older.epochs_differ, newer.epochs_differ, newer.epochs_are_planned) == (False, True, False)


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({}, (False, False)),
        ({"pool": "gap"}, (False, False)),
        ({"image_size": 48}, (True, False)),
        ({"precision": "bf16"}, (False, True)),
        ({"compile": "on", "image_size": 48}, (True, True)),
    ],
)
def test_a_design_says_which_parts_of_an_environment_its_arms_change(changes, facts):
    design = design_of(changes={"b": changes})
    assert (design.image_sizes_differ, design.precisions_differ) == facts
