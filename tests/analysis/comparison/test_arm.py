"""Is the setting of an arm chosen as promised where more than the learning rate is tuned, and where final seeds follow?"""

from __future__ import annotations

import pytest

from tests.made_up_records import make_record
from vitbench.analysis.comparison.assessment import assess
from vitbench.analysis.comparison.load import compare
from vitbench.records import Design, Outcome


def design(**fields):
    values = {"question": "", "source": "", "baseline": "cls", "arms": ("cls", "gap"), "learning_rates": (1e-3, 2e-3)}
    return Design(**{**values, **fields})


WEIGHT_DECAYS = (0.01, 0.05, 0.2)
TUNED = design(tuned={"weight_decay": WEIGHT_DECAYS})


def trials(arm, accuracies, *, of=TUNED, seeds=(0, 1), **fields):
    """Records from {(learning rate, weight decay): validation accuracy}; test accuracy is 0.01 below."""
    return [
        make_record(
            arm,
            seed=seed,
            learning_rate=rate,
            val=value,
            test=value - 0.01,
            train={"weight_decay": weight_decay},
            design=of,
            **fields,
        )
        for (rate, weight_decay), value in accuracies.items()
        for seed in seeds
    ]


def grid(best, *, top=0.9):
    """Every combination; the best has `top`, each step away from it costs 0.1."""
    return {
        (rate, wd): top - 0.1 * (rate != best[0]) - 0.1 * abs(WEIGHT_DECAYS.index(wd) - WEIGHT_DECAYS.index(best[1]))
        for rate in (1e-3, 2e-3)
        for wd in WEIGHT_DECAYS
    }


def test_the_best_of_all_combinations_is_chosen_in_one_comparison_and_each_field_has_an_edge_of_its_own():
    records = [*trials("cls", grid((1e-3, 0.05))), *trials("gap", grid((2e-3, 0.2), top=0.95))]
    (comparison,) = compare(records)
    cls, gap = comparison.arms
    assert (cls.setting, gap.setting) == ((1e-3, 0.05), (2e-3, 0.2))
    assert (cls.learning_rate, gap.learning_rate) == (1e-3, 2e-3)
    assert cls.edges == {"learning_rate": "lowest"}  # of two rates, either is an edge; 0.05 lies within
    assert gap.edges == {"learning_rate": "highest", "weight_decay": "highest"}
    assert "gap: the chosen weight_decay, 0.2, is the highest with a result (0.01, 0.05, 0.2)" in " ".join(
        assess(comparison).notes
    )
    # At the baseline's setting: 0.95 − one step in the rate − one in weight decay − 0.01 for test.
    assert comparison.at_baseline_setting(gap).mean == pytest.approx(0.74)
    assert comparison.difference(gap).mean == pytest.approx(0.05)
    assert comparison.difference(gap, at_baseline_setting=True).mean == pytest.approx(0.74 - 0.89)


def test_a_tuned_field_of_the_model_makes_no_second_arm_and_one_of_the_data_no_second_comparison():
    tuned = design(learning_rates=(1e-3,), tuned={"drop_path": (0.0, 0.1), "mixup": (0.0, 0.2)})
    records = [
        make_record(
            "cls", val=0.5 + drop_path + mixup, model={"drop_path": drop_path}, data={"mixup": mixup}, design=tuned
        )
        for drop_path in (0.0, 0.1)
        for mixup in (0.0, 0.2)
    ]
    (comparison,) = compare(records)
    (arm,) = comparison.arms
    assert (arm.label, arm.setting) == ("cls", (1e-3, 0.1, 0.2))
    assert len(arm.settings) == 4 and not any("kept apart" in note for note in assess(comparison).notes)


def test_without_being_tuned_the_same_fields_set_runs_apart():
    untuned = design(learning_rates=(1e-3,))
    assert len(compare([make_record(data={"mixup": mixup}, design=untuned) for mixup in (0.0, 0.2)])) == 2
    (comparison,) = compare([make_record(model={"drop_path": rate}, design=untuned) for rate in (0.0, 0.1)])
    assert len(comparison.arms) == 2


def test_final_seeds_have_no_say_in_the_choice_but_are_in_the_number_reported():
    # Chosen on seeds 0 and 1: 1e-3. Seed 2 ran at both rates, since the baseline's is the other, and would say 2e-3.
    of = design(tuning_seeds=2)
    records = [
        make_record("gap", seed=seed, learning_rate=rate, val=val, test=val, design=of)
        for rate, values in ((1e-3, (0.8, 0.8, 0.1)), (2e-3, (0.7, 0.7, 0.99)))
        for seed, val in enumerate(values)
    ]
    arm = compare(records)[0].arms[0]
    assert (arm.learning_rate, arm.choice.seeds) == (1e-3, (0, 1))
    assert arm.test_top1.n == 3 and arm.test_top1.mean == pytest.approx(1.7 / 3)
    (without_stages,) = compare([r.model_copy(update={"design": design()}) for r in records])
    assert without_stages.arms[0].learning_rate == 2e-3


RATES = {"cls": {1e-3: 0.9, 2e-3: 0.7}, "gap": {1e-3: 0.6, 2e-3: 0.9}}


def at_baselines_rate(of, *, seeds, luck=0.1):
    """cls is best at 1e-3, gap at 2e-3; on the first two seeds cls is lucky at 1e-3, by `luck`."""
    (one,) = compare(
        [
            make_record(
                arm,
                seed=seed,
                learning_rate=rate,
                test=value + seed / 1000 + luck * (arm == "cls" and rate == 1e-3 and seed < 2),
                design=of,
            )
            for arm, values in RATES.items()
            for rate, value in values.items()
            for seed in range(seeds)
        ]
    )
    return one, one.difference(one.arms[1], at_baseline_setting=True)


def test_at_the_baselines_setting_arms_are_judged_on_the_seeds_that_did_not_choose_it():
    one, difference = at_baselines_rate(design(tuning_seeds=2), seeds=5)
    assert one.baseline.held_out_seeds == (2, 3, 4)
    assert list(difference.by_seed) == [2, 3, 4] and difference.mean == pytest.approx(-0.3)  # without cls's luck
    assert one.difference(one.arms[1]).n == 5  # each at its own setting: all seeds, as both were chosen


@pytest.mark.parametrize(
    ("of", "seeds"),
    [(design(), 5), (design(tuning_seeds=2), 4), (design(tuning_seeds=2), 2)],
    ids=["chosen on all", "two final seeds", "no final seed"],
)
def test_where_too_few_seeds_had_no_say_all_are_judged_on(of, seeds):
    one, difference = at_baselines_rate(of, seeds=seeds)
    assert one.baseline.held_out_seeds == () and difference.n == seeds


def test_an_arm_whose_own_setting_is_the_baselines_is_judged_on_all_seeds():
    of = design(tuning_seeds=2)
    (one,) = compare([make_record(arm, seed=seed, design=of) for arm in ("cls", "gap") for seed in range(5)])
    assert one.difference(one.arms[1], at_baseline_setting=True).n == 5


def test_a_fixed_setting_was_chosen_by_no_seed():
    of = design(tuning_seeds=2, learning_rates=(1e-3,))
    (one,) = compare([make_record("cls", seed=seed, design=of) for seed in range(5)])
    assert one.baseline.held_out_seeds == ()


def test_what_no_plan_asked_for_is_not_said_to_be_missing():
    of = design(tuning_seeds=1, learning_rates=(1e-3, 2e-3))
    records = [
        make_record("cls", seed=0, learning_rate=1e-3, test=0.9, design=of),
        make_record("cls", seed=0, learning_rate=2e-3, test=0.8, design=of),
        make_record("cls", seed=1, learning_rate=1e-3, test=0.9, design=of),
    ]
    (comparison,) = compare(records)
    assert not any("not yet run" in note or "chosen on" in note for note in assess(comparison).notes)
    (incomplete,) = compare([records[0], records[2]])
    assert "cls: not yet run at learning rate 0.002: seed 0." in assess(incomplete).notes


def test_where_nothing_completed_on_the_tuning_seeds_nothing_is_chosen_unless_there_is_no_choice():
    of = design(tuning_seeds=1)
    records = [
        make_record("cls", seed=0, learning_rate=1e-3, outcome=Outcome.DIVERGED, design=of),
        make_record("cls", seed=1, learning_rate=1e-3, test=0.6, design=of),
    ]
    assert compare(records)[0].arms[0].learning_rate is None
    one_rate = design(tuning_seeds=1, learning_rates=(1e-3,))
    fixed = [record.model_copy(update={"design": one_rate}) for record in records]
    assert compare(fixed)[0].arms[0].learning_rate == 1e-3


def test_equal_means_take_the_smaller_setting_field_by_field():
    accuracies = {(rate, wd): 0.9 for rate in (2e-3, 1e-3) for wd in reversed(WEIGHT_DECAYS)}
    assert compare(trials("cls", accuracies))[0].arms[0].setting == (1e-3, 0.01)


def test_the_flops_of_training_are_counted_in_whole_batches():
    # 6 × MACs × images; 100 images in batches of 16 are 6 steps, 6 × 2.5 epochs = 15 steps of 16 images.
    of = design(learning_rates=(1e-3,), train_images=100)
    record = make_record(train={"epochs": 2.5, "batch_size": 16}, design=of)
    from vitbench.costs import count

    arm = compare([record])[0].arms[0]
    assert arm.training_flops == 6 * count(record.config.model).macs * 15 * 16
    assert compare([make_record()])[0].arms[0].training_flops is None  # the record does not say how many images
