"""Does a run count in every comparison whose plan it belongs to, and in no other?"""

from __future__ import annotations

import pytest

from tests.made_up_records import make_record
from vitbench.analysis.comparison.assessment import assess
from vitbench.analysis.comparison.load import compare
from vitbench.records import Design, Outcome


def design(**fields):
    values = {"question": "", "source": "", "baseline": "cls", "arms": ("cls", "gap"), "learning_rates": (1e-3,)}
    return Design(**{**values, **fields})


FLOPS = design(match="flops", epochs={"cls": 20, "gap": 24.5})


def test_comparisons_that_match_different_things_never_mix():
    records = [
        make_record("cls", test=0.7, design=design()),
        make_record("gap", test=0.8, design=design()),
        make_record("gap", test=0.9, train={"epochs": 24.5}, design=FLOPS),
    ]
    plain, flops = compare(records)
    assert (plain.design.match, flops.design.match) == ("epochs", "flops")
    assert [arm.test_top1.mean for arm in plain.arms] == [0.7, 0.8]
    # The baseline's run is the same under both plans and was recorded once.
    assert [arm.test_top1.mean for arm in flops.arms] == [0.7, 0.9]
    assert [arm.epochs for arm in flops.arms] == [20, 24.5] and flops.epochs == 20
    assert (plain.slug, flops.slug) == ("quick-digits", "quick-digits-flops")
    assert "equal training FLOPs" in flops.title


def test_a_run_recorded_under_matched_flops_counts_for_equal_epochs_where_its_epochs_are_those():
    records = [
        make_record("cls", test=0.7, design=FLOPS),
        make_record("gap", test=0.9, train={"epochs": 24.5}, design=FLOPS),
        make_record("gap", test=0.8, design=design()),
    ]
    plain = compare(records)[0]
    assert {arm.name: arm.test_top1.mean for arm in plain.arms} == {"cls": 0.7, "gap": 0.8}


def test_plans_of_equal_flops_that_start_from_other_epochs_are_apart():
    longer = design(match="flops", epochs={"cls": 40, "gap": 49})
    records = [
        make_record("gap", test=0.8, train={"epochs": 24.5}, design=FLOPS),
        make_record("gap", test=0.9, train={"epochs": 49}, design=longer),
    ]
    assert sorted(one.arms[0].test_top1.mean for one in compare(records)) == [0.8, 0.9]


def test_one_arm_at_two_numbers_of_epochs_in_one_comparison_gives_two_rows():
    again = design(match="time", epochs={"cls": 20, "gap": 25})
    before = design(match="time", epochs={"cls": 20, "gap": 24.5})
    records = [
        make_record("gap", test=0.8, train={"epochs": 24.5}, design=before),
        make_record("gap", test=0.9, train={"epochs": 25}, design=again),
    ]
    (comparison,) = compare(records)
    assert [arm.test_top1.mean for arm in comparison.arms] == [0.8, 0.9]
    assert len({arm.label for arm in comparison.arms}) == 2
    assert any("epochs 24.5" in note and "epochs 25" in note for note in assess(comparison).notes)


TUNED = design(tuned={"weight_decay": (0.05, 0.2)})


def test_a_run_that_was_made_before_a_field_was_tuned_counts_where_its_value_is_in_the_grid():
    # TrainConfig's own weight decay is 0.05.
    records = [
        make_record("cls", test=0.7, design=design()),
        make_record("cls", test=0.8, train={"weight_decay": 0.2}, design=TUNED),
    ]
    plain, tuned = compare(records)
    assert plain.slug == "quick-digits" and plain.arms[0].settings == ((1e-3,),)
    assert tuned.slug == "quick-digits-weight-decay" and "weight_decay tuned" in tuned.title
    assert tuned.arms[0].settings == ((1e-3, 0.05), (1e-3, 0.2)) and tuned.arms[0].setting == (1e-3, 0.2)


@pytest.mark.parametrize(
    "other",
    [{"train": {"weight_decay": 0.01}}, {"learning_rate": 2e-3}, {"train": {"epochs": 5}}, {"budget": "standard"}],
    ids=str,
)
def test_a_run_that_is_not_in_the_plan_does_not_join(other):
    tuned = make_record("cls", train={"weight_decay": 0.2}, design=TUNED)
    found = compare([make_record("cls", design=design(), **other), tuned])
    assert [len(one.records) for one in found] == [1, 1]


def test_the_order_in_which_fields_were_named_makes_no_difference():
    one = design(tuned={"weight_decay": (0.05,), "label_smoothing": (0.0, 0.1)})
    other = design(tuned={"label_smoothing": (0.0, 0.1), "weight_decay": (0.05,)})
    records = [
        make_record("cls", test=0.7, design=one),
        make_record("cls", test=0.8, train={"label_smoothing": 0.1}, design=other),
    ]
    (comparison,) = compare(records)
    assert comparison.arms[0].setting == (1e-3, 0.1, 0.05)


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
    assert any("init none" in note and "init timm:a@1a2b3c4d" in note for note in assess(comparison).notes)


def test_what_trained_chooses_its_own_setting_though_its_arm_trains_nothing_in_the_last_plan():
    edited = design(learning_rates=(1e-3, 3e-3), starts={"gap": "cls"}, epochs={"cls": 20, "gap": 0})
    best_at = {"cls": (1e-3, 20), "gap": (3e-3, 5)}
    records = [
        make_record(
            name, learning_rate=rate, test=0.9 if rate == best else 0.8, train={"epochs": epochs}, design=edited
        )
        for name, (best, epochs) in best_at.items()
        for rate in (1e-3, 3e-3)
    ]
    (comparison,) = compare(records)
    assert {arm.name: arm.setting for arm in comparison.arms} == {"cls": (1e-3,), "gap": (3e-3,)}
