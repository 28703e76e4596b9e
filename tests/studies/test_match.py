"""Do arms of equal training FLOPs or time train for as many epochs as a division by hand says?"""

from __future__ import annotations

import pytest

from vitbench.config import TrainConfig
from vitbench.costs import count
from vitbench.data import describe
from vitbench.studies import BUDGETS, Arm, Overrides, Study, load_study, make_plan
from vitbench.studies.match import matched_epochs, training_images
from vitbench.variants import variant

DIGITS = describe("digits")
SMALL, LARGE = variant("Nano/4", image_size=8), variant("Nano/2", image_size=8)


def test_equal_flops_are_epochs_in_inverse_proportion_to_macs():
    epochs = matched_epochs({"small": SMALL, "large": LARGE}, baseline="large", epochs=10, match="flops")
    ratio = count(LARGE).macs / count(SMALL).macs
    assert ratio > 2 and epochs["large"] == 10
    assert epochs["small"] == pytest.approx(10 * ratio, rel=5e-4)
    assert epochs["small"] == float(f"{epochs['small']:.4g}")


def test_equal_time_is_epochs_in_proportion_to_images_per_second_whatever_the_macs():
    models = {"large": LARGE, "small": SMALL, "twin": LARGE.replace(pool="gap")}
    speeds = {"large": 1000.0, "small": 3000.0, "twin": 1234.5678}
    epochs = matched_epochs(models, baseline="large", epochs=2, match="time", images_per_second=speeds)
    assert epochs == {"large": 2, "small": 6, "twin": 2.469}
    assert isinstance(epochs["small"], int)


def test_equal_epochs_are_just_that_and_time_not_yet_measured_is_estimated_by_flops():
    models = {"small": SMALL, "large": LARGE}
    assert matched_epochs(models, baseline="small", epochs=3, match="epochs") == {"small": 3, "large": 3}
    estimates = matched_epochs(models, baseline="small", epochs=3, match="time")
    assert estimates == matched_epochs(models, baseline="small", epochs=3, match="flops")


@pytest.mark.parametrize(
    ("epochs", "images"),
    [
        (7, 7 * 96),  # six whole batches of 16 in 100 images
        (0.5, 48),
        (2.5, 240),
        (0.1, 16),  # 0.6 of a step is one
        (0.01, 16),  # and there is always one
    ],
)
def test_images_are_counted_in_whole_batches_of_whole_steps(epochs, images):
    assert training_images(TrainConfig(epochs=epochs, batch_size=16), train_images=100) == images


def test_a_plan_of_equal_flops_has_equal_flops_within_a_step_and_says_so():
    made = make_plan(load_study("patch_size"), BUDGETS["quick"], DIGITS, Overrides(seeds=1, match="flops"))
    baseline = next(run for run in made.runs if run.arm == run.design.baseline)
    assert baseline.config.train.epochs == 5
    for run in made.runs:
        one_step = run.training_flops / (run.config.train.epochs * (run.train_images // 64))
        assert abs(run.training_flops - baseline.training_flops) <= one_step / 2 + 5e-4 * baseline.training_flops
        assert (run.design.match, run.design.epochs[run.arm]) == ("flops", run.config.train.epochs)
    assert len({run.config.train.epochs for run in made.runs}) > 1


def test_the_baseline_of_a_matched_plan_is_the_very_run_of_a_plan_of_equal_epochs():
    plain, flops = (
        make_plan(load_study("patch_size"), BUDGETS["quick"], DIGITS, Overrides(seeds=1, match=match)).runs
        for match in ("epochs", "flops")
    )
    shared = {run.arm for run in plain} & {run.arm for run in flops if run.run_id in {other.run_id for other in plain}}
    assert shared == {plain[0].design.baseline}


def test_time_is_by_what_was_measured_and_is_an_estimate_until_then():
    study = Study(question="?", source="", baseline=Arm("cls"), arms=[Arm("gap", pool="gap")], name="s")
    asked = Overrides(seeds=1, learning_rates=(1e-3,), match="time", train={"epochs": 4})
    estimated = make_plan(study, BUDGETS["smoke"], DIGITS, asked)
    measured = make_plan(study, BUDGETS["smoke"], DIGITS, asked, images_per_second={"cls": 100.0, "gap": 150.0})
    assert estimated.epochs_are_estimates and not measured.epochs_are_estimates
    assert [run.config.train.epochs for run in measured.runs] == [4, 6]
