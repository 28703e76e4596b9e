"""Arms whose learning rates are the grid's times a factor: plans from a made-up history. Nothing is trained here."""

import pytest

from tests.studies.test_stages import World
from vitbench.analysis.comparison.load import compare
from vitbench.studies import Arm, Study

SCALED = Study(
    question="?",
    source="",
    baseline=Arm("cls"),
    arms=[Arm("sgd", optimizer="sgd", learning_rate_scale=50)],
    name="scaled",
)


def rates_of(made, arm):
    return sorted({run.config.train.learning_rate for run in made.runs if run.arm == arm})


def final_rates(made, arm):
    return sorted({run.config.train.learning_rate for run in made.runs if run.arm == arm and run.config.seed >= 2})


def test_an_arm_has_the_grid_times_its_scale_and_as_many_trials(made_up):
    made = World(made_up, {}).plan(study=SCALED)
    assert rates_of(made, "cls") == [1e-3, 2e-3, 4e-3]
    assert rates_of(made, "sgd") == [0.05, 0.1, 0.2]
    assert made.runs[0].design.settings_of("sgd") == ((0.05,), (0.1,), (0.2,))
    assert {run.design.learning_rates for run in made.runs} == {(1e-3, 2e-3, 4e-3)}
    assert len(made.runs) == 2 * 3 * 2


def test_final_seeds_run_at_the_arm_s_own_rate_and_at_the_baseline_s_as_the_arm_has_it(made_up):
    sizes, made = World(made_up, {"cls": 2e-3, "sgd": 0.2}).rounds(study=SCALED, extend=0)
    assert sizes == [12, 3 * (1 + 2)]
    assert (final_rates(made, "cls"), final_rates(made, "sgd")) == ([2e-3], [0.1, 0.2])


@pytest.mark.parametrize(
    ("best", "grid"),
    [
        ({"cls": 2e-3, "sgd": 0.4}, (1e-3, 2e-3, 4e-3, 8e-3)),  # at the edge for the scaled arm alone
        ({"cls": 8e-3, "sgd": 0.1}, (1e-3, 2e-3, 4e-3, 8e-3)),  # at the edge for the baseline alone
        ({"cls": 2e-3, "sgd": 0.025}, (5e-4, 1e-3, 2e-3, 4e-3)),
    ],
)
def test_the_grid_grows_for_all_arms_where_it_is_too_narrow_for_one(made_up, best, grid):
    sizes, made = World(made_up, best).rounds(study=SCALED)
    assert sizes[:2] == [12, 4]
    assert rates_of(made, "cls") == list(grid)
    assert rates_of(made, "sgd") == pytest.approx([50 * rate for rate in grid], rel=1e-12)
    assert made.runs[0].design.learning_rates == grid and made.later is None


def test_a_baseline_may_be_scaled_too_and_settings_meet_in_the_grid(made_up):
    study = Study(
        question="?",
        source="",
        baseline=Arm("sgd", optimizer="sgd", learning_rate_scale=50),
        arms=[Arm("lion", optimizer="lion", learning_rate_scale=0.3)],
        name="scaled",
    )
    _, made = World(made_up, {"sgd": 0.2, "lion": 3e-4}).rounds(study=study, extend=0)
    assert final_rates(made, "lion") == [3e-4, 1.2e-3]  # its own best, and four thousandths as it has them


def test_other_tuned_fields_are_not_scaled(made_up):
    made = World(made_up, {}).plan(study=SCALED, learning_rates=(1e-3,), tune={"weight_decay": (0.0, 0.1)})
    settings = {(run.arm, run.config.train.learning_rate, run.config.train.weight_decay) for run in made.runs}
    assert settings == {(arm, rate, decay) for arm, rate in (("cls", 1e-3), ("sgd", 0.05)) for decay in (0.0, 0.1)}


@pytest.mark.parametrize(
    ("scale", "train", "says"),
    [
        (1e-3, {"min_learning_rate": 1e-5}, "arm 'sgd': min_learning_rate 1e-05 is more than learning_rate 1e-06"),
        (1e6, {}, "arm 'sgd': learning_rate 2000000.0: Input should be less than or equal to 1000000"),
    ],
)
def test_rates_without_a_meaning_for_the_arm_that_scales_them_are_refused_by_its_name(made_up, scale, train, says):
    study = Study("?", "", Arm("cls"), [Arm("sgd", optimizer="sgd", learning_rate_scale=scale)], name="scaled")
    rates = (1e-3,) if train else (2.0,)
    with pytest.raises(ValueError, match=says):
        World(made_up, {}).plan(study=study, train=train, learning_rates=rates)


def test_an_arm_that_trains_nothing_has_the_scale_and_so_the_setting_of_what_it_goes_on_from(made_up):
    larger = Arm("sgd, larger", start="sgd", epochs=0, image_size=12)
    study = Study("?", "", Arm("cls"), [*SCALED.arms, larger], name="scaled")
    made = World(made_up, {}).plan(study=study)
    assert rates_of(made, "sgd, larger") == rates_of(made, "sgd") == [0.05, 0.1, 0.2]
    (design, *_) = (run.design for run in made.runs)
    assert design.settings_of("sgd, larger") == ((0.05,), (0.1,), (0.2,))
    assert design.to_grid("sgd, larger", (0.1,)) == (2e-3,)


def test_tables_choose_for_each_arm_the_setting_that_plans_ran_final_seeds_at(made_up):
    world = World(made_up, {"cls": 2e-3, "sgd": 0.4})
    _, made = world.rounds(study=SCALED)
    (comparison,) = compare(world.records)
    chosen = {arm.name: arm.setting for arm in comparison.arms}
    assert chosen == {"cls": (2e-3,), "sgd": (0.4,)}
    assert final_rates(made, "sgd") == [0.1, 0.4]
