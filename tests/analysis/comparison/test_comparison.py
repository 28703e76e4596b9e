"""Are only comparable records compared, is the learning rate chosen as promised, and is the pairing right?"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tests.made_up_records import make_record
from vitbench.analysis.comparison.assessment import assess
from vitbench.analysis.comparison.load import compare
from vitbench.records import Design, Outcome, pack_correct


def grid(arm, accuracies, **fields):
    """Records of one arm from {rate: {seed: validation accuracy}}; test accuracy is 0.01 below."""
    return [
        make_record(arm, seed=seed, learning_rate=rate, val=value, test=value - 0.01, **fields)
        for rate, seeds in accuracies.items()
        for seed, value in seeds.items()
    ]


def test_the_rate_with_the_best_mean_validation_accuracy_is_chosen():
    records = grid("cls", {1e-4: {0: 0.80, 1: 0.90}, 1e-3: {0: 0.86, 1: 0.87}, 1e-2: {0: 0.95, 1: 0.60}})
    (comparison,) = compare(records)
    (arm,) = comparison.arms
    assert arm.learning_rate == 1e-3
    assert arm.test_top1.mean == pytest.approx(0.855)
    assert arm.test_top1.sd == pytest.approx(np.std([0.85, 0.86], ddof=1))
    assert arm.test_top1.n == 2
    assert arm.edges == {}


def test_the_choice_looks_at_validation_and_never_at_test():
    records = [
        make_record(learning_rate=1e-4, val=0.9, test=0.1),
        make_record(learning_rate=1e-3, val=0.8, test=0.99),
    ]
    (comparison,) = compare(records)
    assert comparison.arms[0].learning_rate == 1e-4


def test_equal_validation_accuracy_takes_the_smaller_rate():
    records = grid("cls", {3e-3: {0: 0.9}, 1e-3: {0: 0.9}, 1e-2: {0: 0.5}})
    (comparison,) = compare(records)
    assert comparison.arms[0].learning_rate == 1e-3


def test_a_rate_at_which_every_seed_completed_goes_before_a_better_one_with_a_diverged_seed():
    records = [
        *grid("cls", {1e-3: {0: 0.80, 1: 0.80, 2: 0.80}, 1e-2: {0: 0.99, 1: 0.99}}),
        make_record("cls", seed=2, learning_rate=1e-2, outcome=Outcome.DIVERGED, reason="loss is not finite"),
    ]
    (comparison,) = compare(records)
    (arm,) = comparison.arms
    assert arm.learning_rate == 1e-3
    assert arm.outcomes == {Outcome.COMPLETED: 5, Outcome.FAILED: 0, Outcome.DIVERGED: 1}
    assert any(
        "diverged at learning rate 0.01, seed 2: loss is not finite" in note for note in assess(comparison).notes
    )


def test_where_no_rate_completed_for_all_a_diverged_run_counts_as_nothing_right():
    # Means with the diverged seed as 0: (0.7 + 0.6 + 0) / 3 = 0.43 against (0.9 + 0 + 0) / 3 = 0.30.
    records = [
        *grid("cls", {1e-3: {0: 0.7, 1: 0.6}, 1e-2: {0: 0.9}}),
        make_record("cls", seed=2, learning_rate=1e-3, outcome=Outcome.DIVERGED),
        make_record("cls", seed=1, learning_rate=1e-2, outcome=Outcome.DIVERGED),
        make_record("cls", seed=2, learning_rate=1e-2, outcome=Outcome.DIVERGED),
    ]
    (comparison,) = compare(records)
    assert comparison.arms[0].learning_rate == 1e-3
    note = "cls: no completed run at learning rate 0.001 for seed 2; numbers are over the other seeds."
    assert note in assess(comparison).notes


RISING = {rate: {0: value, 1: value} for rate, value in ((1e-3, 0.80), (3e-3, 0.88), (1e-2, 0.95))}


def test_the_first_run_of_a_new_seed_does_not_move_the_choice():
    records = [*grid("cls", RISING), *grid("gap", RISING), *grid("cls", {1e-3: {2: 0.80}})]
    (comparison,) = compare(records)
    cls, gap = comparison.arms
    assert (cls.learning_rate, gap.learning_rate) == (1e-2, 1e-2)
    assert cls.choice.seeds == (0, 1)
    assert comparison.difference(gap).mean == pytest.approx(0)
    note = "cls: the learning rate was chosen on seeds 0, 1 alone, where every rate has a result."
    assert note in assess(comparison).notes


@pytest.mark.parametrize("failed", [1e-3, 1e-2])
def test_a_failed_run_takes_its_seed_from_every_rate_and_does_not_move_the_choice(failed):
    # Seed 1 is easy: where it counted for some rates only, 1e-3 would win or lose by it.
    accuracies = {1e-3: {0: 0.70, 1: 0.99}, 1e-2: {0: 0.75, 1: 1.0}}
    accuracies[failed].pop(1)
    (comparison,) = compare(
        [*grid("cls", accuracies), make_record("cls", seed=1, learning_rate=failed, outcome=Outcome.FAILED)]
    )
    assert comparison.arms[0].learning_rate == 1e-2
    assert comparison.arms[0].choice.seeds == (0,)


def test_a_seed_counts_for_the_choice_only_once_every_planned_rate_was_run():
    design = Design(question="", source="", baseline="cls", arms=("cls",), learning_rates=(1e-3, 3e-3, 1e-2))
    (comparison,) = compare(grid("cls", {1e-3: {0: 0.5, 1: 0.9}, 3e-3: {0: 0.6}, 1e-2: {0: 0.4}}, design=design))
    assert comparison.arms[0].learning_rate == 3e-3


def test_without_a_seed_at_which_every_rate_has_a_result_the_means_are_over_what_there_is():
    (comparison,) = compare(grid("cls", {1e-3: {0: 0.6, 1: 0.8}, 1e-2: {2: 0.75}}))
    (arm,) = comparison.arms
    assert (arm.choice.seeds, arm.learning_rate) == ((), 1e-2)
    assert any("the choice compares means over different seeds" in note for note in assess(comparison).notes)


def test_the_number_reported_is_over_all_completed_seeds_at_the_chosen_rate():
    (comparison,) = compare(grid("cls", {1e-3: {0: 0.5}, 1e-2: {0: 0.6, 1: 0.8}}))
    assert comparison.arms[0].test_top1.n == 2
    assert comparison.arms[0].test_top1.mean == pytest.approx(0.69)


@pytest.mark.parametrize(("best", "edge"), [(1e-4, "lowest"), (1e-3, ""), (1e-2, "highest")])
def test_a_choice_at_the_edge_of_the_grid_is_flagged(best, edge):
    records = grid("cls", {rate: {0: 0.9 if rate == best else 0.5} for rate in (1e-4, 1e-3, 1e-2)})
    (comparison,) = compare(records)
    assert comparison.arms[0].edges.get("learning_rate", "") == edge
    assert any("a better one may lie beyond" in note for note in assess(comparison).notes) == bool(edge)


def test_a_diverged_rate_is_known_beyond_the_choice_but_a_failed_one_is_not():
    inner = grid("cls", {1e-4: {0: 0.8}, 1e-3: {0: 0.9}})
    for outcome, edge in ((Outcome.DIVERGED, ""), (Outcome.FAILED, "highest")):
        (comparison,) = compare([*inner, make_record("cls", learning_rate=1e-2, outcome=outcome)])
        assert comparison.arms[0].edges.get("learning_rate", "") == edge


def test_a_grid_of_one_rate_is_fixed_and_has_no_edge():
    (comparison,) = compare(grid("cls", {1e-3: {0: 0.9, 1: 0.8}}))
    assert comparison.arms[0].is_fixed
    assert comparison.arms[0].edges == {}


def test_the_difference_is_paired_by_seed_each_arm_at_its_own_rate():
    cls = {0: 0.90, 1: 0.92, 2: 0.88, 3: 0.91}
    gap = {0: 0.93, 1: 0.93, 2: 0.92, 3: 0.91}
    records = [
        *grid("cls", {1e-3: cls, 1e-2: dict.fromkeys(cls, 0.2)}),
        *grid("gap", {1e-3: dict.fromkeys(gap, 0.3), 1e-2: gap}),
    ]
    (comparison,) = compare(records)
    baseline, arm = comparison.arms
    difference = comparison.difference(arm)
    expected = stats.ttest_rel(list(gap.values()), list(cls.values())).confidence_interval(0.95)
    assert (baseline.learning_rate, arm.learning_rate) == (1e-3, 1e-2)
    assert difference.n == 4
    assert difference.mean == pytest.approx(0.02)
    assert difference.interval() == pytest.approx((expected.low, expected.high))
    assert comparison.at_baseline_setting(arm).mean == pytest.approx(0.29)
    assert comparison.difference(baseline) is None


def test_only_seeds_that_both_arms_have_are_paired_and_the_others_noted():
    records = [*grid("cls", {1e-3: {0: 0.5, 1: 0.6, 2: 0.1}}), *grid("gap", {1e-3: {0: 0.7, 1: 0.9}})]
    (comparison,) = compare(records)
    difference = comparison.difference(comparison.arms[1])
    assert (difference.n, difference.mean) == (2, pytest.approx((0.2 + 0.3) / 2))
    assert "gap: 2 of 3 pairs are complete; gap lacks seed 2." in assess(comparison).notes


def test_a_completed_record_without_accuracies_counts_as_failed():
    (comparison,) = compare([make_record("cls", test=None)])
    assert comparison.arms[0].outcomes[Outcome.FAILED] == 1
    assert any("without its accuracies" in note for note in assess(comparison).notes)


def test_the_number_of_test_images_follows_from_the_bits():
    correct = [True] * 250 + [False] * 110
    (comparison,) = compare([make_record(test=250 / 360, correct=pack_correct(correct))])
    assert comparison.num_test_images == 360
    (inconsistent,) = compare([make_record(test=0.1, correct=pack_correct(correct))])
    assert inconsistent.num_test_images is None


def test_paired_accuracies_are_those_of_the_seeds_that_both_have_each_at_its_own_rate():
    records = [
        *grid("cls", {1e-3: {0: 0.9, 1: 0.8}, 1e-2: {0: 0.1, 1: 0.1}}),
        *grid("gap", {1e-3: {0: 0.2, 1: 0.3}, 1e-2: {0: 0.95, 1: 0.85, 2: 0.5}}),
    ]
    (comparison,) = compare(records)
    baseline, arm = comparison.arms
    mine, theirs = comparison.paired(arm)
    assert (mine, theirs) == (pytest.approx({0: 0.94, 1: 0.84}), pytest.approx({0: 0.89, 1: 0.79}))
    at_baselines, _ = comparison.paired(arm, at_baseline_setting=True)
    assert at_baselines == pytest.approx({0: 0.19, 1: 0.29})
    assert comparison.difference(arm, at_baseline_setting=True).mean == pytest.approx(-0.6)
    assert comparison.paired(baseline) == ({}, {})


def test_the_bits_of_each_seed_are_those_that_were_packed_at_the_chosen_rate():
    def bits(seed):
        return [image % (2 + seed) == 0 for image in range(12)]

    records = [
        make_record(
            "cls", seed=seed, learning_rate=rate, test=sum(bits(seed)) / 12 - penalty, correct=pack_correct(packed)
        )
        for seed in (0, 1)
        for rate, penalty, packed in ((1e-3, 0, bits(seed)), (1e-2, 0.1, [True] * 12))
    ]
    (comparison,) = compare(records)
    found = comparison.correct_bits(comparison.arms[0])
    assert {seed: images.tolist() for seed, images in found.items()} == {0: bits(0), 1: bits(1)}
    assert comparison.correct_bits(comparison.arms[0], (1e-2,))[0].all()
    (without,) = compare([make_record("cls")])
    assert without.correct_bits(without.arms[0]) == {}
