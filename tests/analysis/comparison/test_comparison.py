"""Are only comparable records compared, is the learning rate chosen as promised, and is the pairing right?"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tests.made_up_records import make_record
from vitbench.analysis.comparison.assessment import assess
from vitbench.analysis.comparison.load import compare, load_comparisons
from vitbench.costs import count
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
    assert arm.edge == ""


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
    assert cls.choice_seeds == (0, 1)
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
    assert comparison.arms[0].choice_seeds == (0,)


def test_a_seed_counts_for_the_choice_only_once_every_planned_rate_was_run():
    design = Design(question="", source="", baseline="cls", arms=("cls",), learning_rates=(1e-3, 3e-3, 1e-2))
    (comparison,) = compare(grid("cls", {1e-3: {0: 0.5, 1: 0.9}, 3e-3: {0: 0.6}, 1e-2: {0: 0.4}}, design=design))
    assert comparison.arms[0].learning_rate == 3e-3


def test_without_a_seed_at_which_every_rate_has_a_result_the_means_are_over_what_there_is():
    (comparison,) = compare(grid("cls", {1e-3: {0: 0.6, 1: 0.8}, 1e-2: {2: 0.75}}))
    (arm,) = comparison.arms
    assert (arm.choice_seeds, arm.learning_rate) == ((), 1e-2)
    assert any("the choice compares means over different seeds" in note for note in assess(comparison).notes)


def test_the_number_reported_is_over_all_completed_seeds_at_the_chosen_rate():
    (comparison,) = compare(grid("cls", {1e-3: {0: 0.5}, 1e-2: {0: 0.6, 1: 0.8}}))
    assert comparison.arms[0].test_top1.n == 2
    assert comparison.arms[0].test_top1.mean == pytest.approx(0.69)


@pytest.mark.parametrize(("best", "edge"), [(1e-4, "lowest"), (1e-3, ""), (1e-2, "highest")])
def test_a_choice_at_the_edge_of_the_grid_is_flagged(best, edge):
    records = grid("cls", {rate: {0: 0.9 if rate == best else 0.5} for rate in (1e-4, 1e-3, 1e-2)})
    (comparison,) = compare(records)
    assert comparison.arms[0].edge == edge
    assert any("a better one may lie beyond" in note for note in assess(comparison).notes) == bool(edge)


def test_a_diverged_rate_is_known_beyond_the_choice_but_a_failed_one_is_not():
    inner = grid("cls", {1e-4: {0: 0.8}, 1e-3: {0: 0.9}})
    for outcome, edge in ((Outcome.DIVERGED, ""), (Outcome.FAILED, "highest")):
        (comparison,) = compare([*inner, make_record("cls", learning_rate=1e-2, outcome=outcome)])
        assert comparison.arms[0].edge == edge


def test_a_grid_of_one_rate_is_fixed_and_has_no_edge():
    (comparison,) = compare(grid("cls", {1e-3: {0: 0.9, 1: 0.8}}))
    assert comparison.arms[0].is_fixed
    assert comparison.arms[0].edge == ""


def test_a_planned_rate_that_was_not_run_yet_is_noted():
    design = Design(question="", source="", baseline="cls", arms=("cls",), learning_rates=(1e-3, 1e-2))
    (comparison,) = compare([make_record("cls", seed=0, design=design), make_record("cls", seed=1, design=design)])
    assert not comparison.arms[0].is_fixed
    assert "cls: not yet run at learning rate 0.01: seeds 0, 1." in assess(comparison).notes


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


@pytest.mark.parametrize(
    "other",
    [
        {"environment": {"machine": "ffffffff"}},
        {"environment": {"device": "cuda:NVIDIA H100"}},
        {"environment": {"precision": "bf16"}},
        {"environment": {"torch": "2.13.0"}},
        {"environment": {"timm": "1.0.30"}},
        {"environment": {"compiled": True}},
        {"environment": {"data_sha256": "e" * 64}},
        {"harness_version": 2},
        {"budget": "standard"},
        {"variant": "Mini/2"},
        {"data": {"dataset": "shapes"}},
        {"data": {"train_images": 100}},
        {"train": {"epochs": 5}},
    ],
    ids=str,
)
def test_records_that_differ_in_more_than_arm_rate_and_seed_are_never_averaged(other):
    records = [make_record(seed=0, test=0.9), make_record(seed=1, test=0.8), make_record(seed=2, test=0.1, **other)]
    comparisons = compare(records)
    assert sorted(one.arms[0].test_top1.mean for one in comparisons) == pytest.approx([0.1, 0.85])
    assert len({one.slug for one in comparisons}) == 2
    assert len({one.title for one in comparisons}) == 2


def test_what_sets_two_comparisons_apart_is_in_their_titles():
    here, there = make_record(), make_record(environment={"machine": "ffffffff"}, harness_version=2)
    titles = {one.title for one in compare([here, there])}
    assert titles == {
        "pool: quick budget, digits, Micro/2 (machine 0123abcd, harness version 1)",
        "pool: quick budget, digits, Micro/2 (machine ffffffff, harness version 2)",
    }


def test_the_version_of_timm_alone_is_named_in_titles():
    assert {one.title for one in compare([make_record(), make_record(environment={"timm": "1.0.30"})])} == {
        "pool: quick budget, digits, Micro/2 (timm 1.0.31)",
        "pool: quick budget, digits, Micro/2 (timm 1.0.30)",
    }


def test_a_slug_is_short_and_gets_a_hash_only_where_two_would_clash():
    alone = compare([make_record(data={"dataset": "torch/cifar10"}, budget="quick"), make_record(budget="smoke")])
    assert [one.slug for one in alone] == ["quick-torch-cifar10", "smoke-digits"]
    records = [make_record(), make_record(environment={"precision": "bf16"})]
    clashing = [one.slug for one in compare(records)]
    assert all(len(slug) == len("quick-digits-012345") for slug in clashing)
    assert clashing == [one.slug for one in compare(records[::-1])]


def test_threads_alone_do_not_set_records_apart_but_are_noted():
    (comparison,) = compare([make_record(seed=0), make_record(seed=1, environment={"threads": 1})])
    assert (
        "Images/s were not all measured alike (of cls with 1 thread or 2 threads): do not compare them, "
        "nor training seconds." in assess(comparison).notes
    )


@pytest.mark.parametrize(
    ("environments", "note"),
    [
        (
            {"gap": {"workers": 1}},
            "gap were measured with 1 run at a time, those of the baseline with 2 runs at a time",
        ),
        (
            {"gap": {"threads": 1}, "map": {"threads": 1}},
            "gap, map were measured with 1 thread, those of the baseline with 2 threads",
        ),
        (
            {"map": {"workers": 1, "threads": 4}},
            "map were measured with 1 run at a time, 4 threads each, those of the baseline with 2 runs at a time, "
            "2 threads each",
        ),
    ],
)
def test_arms_whose_speed_was_measured_unlike_the_baseline_s_are_named(environments, note):
    records = [
        make_record(arm, environment={"workers": 2, "threads": 2} | environments.get(arm, {}))
        for arm in ("cls", "gap", "map")
    ]
    (comparison,) = compare(records)
    about_speed = [one for one in assess(comparison).notes if one.startswith("Images")]
    assert about_speed == [f"Images/s of {note}: do not compare them, nor training seconds."]


def test_speeds_over_a_mixture_of_loads_are_compared_with_nothing():
    records = [
        make_record(arm, seed=seed, environment={"workers": 1 + seed}) for arm in ("cls", "gap") for seed in (0, 1)
    ]
    (comparison,) = compare(records)
    both = "1 run at a time or 2 runs at a time"
    note = f"Images/s of gap were measured with {both}, those of the baseline with {both}: do not compare them"
    assert any(one.startswith(note) for one in assess(comparison).notes)


def test_a_load_that_is_behind_no_speed_in_the_table_is_not_noted():
    records = [
        make_record(learning_rate=1e-3, test=0.9),
        make_record(learning_rate=1e-2, test=0.8, environment={"workers": 2}),
    ]
    (comparison,) = compare(records)
    assert not any(note.startswith("Images") for note in assess(comparison).notes)


def test_a_run_that_failed_and_was_tried_again_counts_once():
    failed = make_record(outcome=Outcome.FAILED, reason="out of memory at batch 512")
    (comparison,) = compare([failed, make_record(test=0.7), make_record(test=0.8), failed])
    (arm,) = comparison.arms
    assert arm.test_top1.mean == 0.8
    assert arm.outcomes[Outcome.FAILED] == 0
    assert any("3 runs were recorded again" in note for note in assess(comparison).notes)


def test_a_failed_run_that_could_not_say_its_data_is_seen_in_the_comparison_that_it_belongs_to():
    lost = {"outcome": Outcome.FAILED, "reason": "out of memory", "environment": {"data_sha256": ""}}
    (comparison,) = compare([make_record("gap", **lost), make_record("cls", environment={"compiled": True})])
    assert [arm.name for arm in comparison.arms] == ["gap", "cls"]
    assert comparison.environment.data_sha256
    assert any(
        "gap: failed at learning rate 0.001, seed 0: out of memory." in note for note in assess(comparison).notes
    )
    elsewhere = compare([make_record("gap", **lost), make_record("cls", environment={"machine": "ffffffff"})])
    assert len(elsewhere) == 2


def test_an_arm_of_which_nothing_completed_stays_in_view():
    records = [make_record("cls"), make_record("gap", outcome=Outcome.FAILED, reason="no memory")]
    (comparison,) = compare(records)
    arm = comparison.arms[1]
    assert (arm.test_top1, arm.learning_rate, comparison.difference(arm)) == (None, None, None)
    assert "gap: failed at learning rate 0.001, seed 0: no memory." in assess(comparison).notes


def test_a_completed_record_without_accuracies_counts_as_failed():
    (comparison,) = compare([make_record("cls", test=None)])
    assert comparison.arms[0].outcomes[Outcome.FAILED] == 1
    assert any("without its accuracies" in note for note in assess(comparison).notes)


def test_one_arm_name_with_two_models_gives_two_rows():
    records = [make_record("cls", test=0.5), make_record("cls", test=0.7, model={"width": 96, "num_heads": 3})]
    (comparison,) = compare(records)
    first, second = comparison.arms
    assert first.label.startswith("cls #") and second.label.startswith("cls #") and first.label != second.label
    assert (first.test_top1.mean, second.test_top1.mean) == (0.5, 0.7)
    assert comparison.baseline is first
    assert any("width 64" in note and "width 96" in note for note in assess(comparison).notes)


def test_equal_models_that_started_from_other_weights_give_two_rows():
    starts = (None, "timm:a@1a2b3c4d", "timm:a@ffffffff")
    (comparison,) = compare([make_record("cls", test=0.5 + 0.1 * i, init=init) for i, init in enumerate(starts)])
    assert [arm.test_top1.mean for arm in comparison.arms] == [0.5, 0.6, 0.7]
    assert len({arm.label for arm in comparison.arms}) == 3 and not any(
        "again" in note for note in assess(comparison).notes
    )
    assert any("init None" in note and "init timm:a@1a2b3c4d" in note for note in assess(comparison).notes)


def test_the_design_in_the_records_names_baseline_question_and_order():
    design = Design(
        question="Pool?", source="Paper", baseline="cls", arms=("cls", "gap", "map"), learning_rates=(1e-3,)
    )
    (comparison,) = compare([make_record("gap", design=design), make_record("cls", design=design)])
    assert [arm.name for arm in comparison.arms] == ["cls", "gap"]
    assert comparison.baseline.name == "cls"
    assert (comparison.design.question, comparison.design.source) == ("Pool?", "Paper")
    assert "Not yet run: map." in assess(comparison).notes


def test_arms_that_no_design_names_come_last_and_without_a_design_the_first_arm_is_the_baseline():
    arms = ["gap", "cls", "extra"]
    design = Design(question="", source="", baseline="cls", arms=("cls", "gap"), learning_rates=(1e-3,))
    (planned,) = compare([make_record(arm, design=design) for arm in arms])
    assert [arm.name for arm in planned.arms] == ["cls", "gap", "extra"]
    assert planned.baseline.name == "cls"
    (unplanned,) = compare([make_record(arm) for arm in arms])
    assert [arm.name for arm in unplanned.arms] == arms
    assert unplanned.baseline.name == "gap"


def test_without_the_baseline_there_are_no_differences_and_a_note_says_so():
    design = Design(question="", source="", baseline="cls", arms=("cls", "gap"), learning_rates=(1e-3,))
    (comparison,) = compare([make_record("gap", design=design)])
    assert comparison.baseline is None
    assert comparison.difference(comparison.arms[0]) is None
    assert "The baseline, cls, has no run here: there are no differences from it." in assess(comparison).notes


def test_the_number_of_test_images_follows_from_the_bits():
    correct = [True] * 250 + [False] * 110
    (comparison,) = compare([make_record(test=250 / 360, correct=pack_correct(correct))])
    assert comparison.num_test_images == 360
    (inconsistent,) = compare([make_record(test=0.1, correct=pack_correct(correct))])
    assert inconsistent.num_test_images is None


def test_workers_that_shared_the_machine_are_noted():
    (comparison,) = compare([make_record(environment={"workers": 4})])
    assert any("while up to 4 workers shared the machine" in note for note in assess(comparison).notes)


def test_an_empty_store_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"^no records under '.*'; run `vitbench run` first$"):
        load_comparisons(tmp_path)


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


def test_the_factors_of_a_factorial_study_come_with_its_records():
    levels = {"cls": {"pool": "cls"}, "gap": {"pool": "gap"}}
    design = Design(question="", source="", baseline="cls", arms=("cls", "gap"), learning_rates=(1e-3,), factors=levels)
    assert compare([make_record("gap", design=design)])[0].design.factors == levels
    assert compare([make_record("gap")])[0].design.factors == {}


def test_single_runs_are_told_apart_by_their_variant_and_epochs():
    asked = [("Micro/2", 20), ("Mini/2", 20), ("Mini/2", 0.5)]
    records = [
        make_record(study="train", budget="custom", variant=variant, train={"epochs": epochs})
        for variant, epochs in asked
    ]
    assert sorted(one.slug for one in compare(records)) == [
        "custom-digits-micro-2-20-epochs",
        "custom-digits-mini-2-0.5-epochs",
        "custom-digits-mini-2-20-epochs",
    ]


def test_what_a_class_token_saves_is_said_where_arms_differ_in_pooling_and_nowhere_else():
    pools = [make_record(pool, model={"pool": pool}) for pool in ("cls", "gap", "mean_all")]
    (comparison,) = compare(pools)
    (note,) = (note for note in assess(comparison).notes if "class token alone" in note)
    # By hand: 16 of 17 tokens of 64 channels: attention, projection and MLP of 4 × 64 hidden units, of one block in four.
    unread = 2 * 16 * 17 * 64 + 16 * 64**2 + 2 * 16 * 64 * 256
    share = f"{100 * unread / count(pools[0].config.model).macs:.2g} % (cls)"
    assert share in note and "gap" not in note
    for alike in (["cls"], ["gap"]):
        (comparison,) = compare(
            [make_record(f"{pool}{i}", model={"pool": pool, "depth": i}) for pool in alike for i in (1, 2)]
        )
        assert not any("class token alone" in note for note in assess(comparison).notes)
