"""Is everything noted that a reader must know beside the numbers, and nothing else?"""

from __future__ import annotations

import pytest

from tests.made_up_records import make_record
from vitbench.analysis.comparison.assessment import assess
from vitbench.analysis.comparison.load import compare
from vitbench.config import TimmConfig
from vitbench.costs import count
from vitbench.records import Design, Outcome


def test_a_planned_rate_that_was_not_run_yet_is_noted():
    design = Design(question="", source="", baseline="cls", arms=("cls",), learning_rates=(1e-3, 1e-2))
    (comparison,) = compare([make_record("cls", seed=0, design=design), make_record("cls", seed=1, design=design)])
    assert not comparison.arms[0].is_fixed
    assert "cls: not yet run at learning rate 0.01: seeds 0, 1." in assess(comparison).notes


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


def test_an_arm_of_which_nothing_completed_stays_in_view():
    records = [make_record("cls"), make_record("gap", outcome=Outcome.FAILED, reason="no memory")]
    (comparison,) = compare(records)
    arm = comparison.arms[1]
    assert (arm.test_top1, arm.learning_rate, comparison.difference(arm)) == (None, None, None)
    assert "gap: failed at learning rate 0.001, seed 0: no memory." in assess(comparison).notes


def test_workers_that_shared_the_machine_are_noted():
    (comparison,) = compare([make_record(environment={"workers": 4})])
    assert any("while up to 4 workers shared the machine" in note for note in assess(comparison).notes)


def test_arms_that_trained_in_micro_batches_are_compared_and_noted():
    records = [make_record("cls"), make_record("gap", environment={"micro_batch": 32})]
    (comparison,) = compare(records)
    (note,) = (note for note in assess(comparison).notes if "micro-batches" in note)
    assert note.startswith("gap: trained in micro-batches of 32; memory and images/s are of that")
    (comparison,) = compare(records[:1])
    assert not any("micro-batch" in note for note in assess(comparison).notes)


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


def test_a_model_of_timm_that_muon_did_not_train_is_noted():
    records = [make_record(arm, train={"optimizer": "muon"}) for arm in ("cls", "gap", "ResNet")]
    resnet = records[2].config.model_copy(update={"model": TimmConfig(timm="resnet18", image_size=8, in_channels=1)})
    records[2] = records[2].model_copy(update={"config": resnet, "run_id": resnet.run_id})
    (comparison,) = compare(records)
    assert (
        "ResNet was trained by AdamW alone: Muon takes the linear layers of our ViT's blocks, not timm's."
        in assess(comparison).notes
    )
    (comparison,) = compare(records[:2])
    assert not any("Muon" in note for note in assess(comparison).notes)
