"""Does a record hold what the contract says, and are packed bits NumPy's?"""

from __future__ import annotations

import base64
import subprocess
import sys

import numpy as np
import pytest
from pydantic import ValidationError

from vitbench.records import pack_correct, unpack_correct


@pytest.mark.parametrize("num_images", [0, 1, 7, 8, 9, 599, 1000])
def test_correct_bits_are_packed_as_numpy_packs_them(num_images):
    correct = np.random.default_rng(num_images).random(num_images) < 0.5
    packed = pack_correct(correct)
    assert base64.b64decode(packed) == np.packbits(correct).tobytes()
    unpacked = unpack_correct(packed, num_images)
    assert unpacked.dtype == bool and unpacked.tolist() == correct.tolist()


def test_the_first_image_is_the_highest_bit():
    assert base64.b64decode(pack_correct([True, False, False, False, False, False, False, True, True])) == b"\x81\x80"


def test_a_record_has_the_fields_of_the_contract(made_up):
    fields = made_up().to_dict()
    assert set(fields) >= {
        *("schema", "run_id", "study", "arm", "seed", "learning_rate", "config", "outcome", "reason", "metrics"),
        *("curve", "correct", "cost", "environment", "started", "finished"),
    }
    assert set(fields["cost"]) >= {
        *("params", "macs", "train_seconds", "train_images_per_second", "infer_images_per_second"),
        "peak_memory_bytes",
    }
    assert "\n" not in made_up(reason="two\nlines").to_json()


def test_records_are_never_edited(made_up):
    with pytest.raises(ValidationError):
        made_up().arm = "another"


def test_an_outcome_is_one_of_three(made_up):
    with pytest.raises(ValidationError, match=r"completed.*failed.*diverged"):
        made_up(outcome="skipped")


def test_importing_records_loads_no_torch():
    code = "import sys, vitbench.records; print([m for m in ('torch', 'numpy', 'pandas') if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


@pytest.mark.parametrize("num_images", [1, 7, 8, 9, 100, 599, 10_000])
def test_packed_bits_of_any_number_of_images_agree_with_their_share(made_up, num_images):
    draw = np.random.default_rng(num_images)
    for share in (0.0, 0.3, 1.0):
        bits = draw.random(num_images) < share
        record = made_up(metrics={"test_top1": float(bits.mean()), "val_top1": 0.1}, correct=pack_correct(bits))
        assert record.objection() == ""
        flipped = bits.copy()
        flipped[0] ^= True
        if num_images > 8:  # of fewer, another number of images may have that share
            other = made_up(metrics=record.metrics, correct=pack_correct(flipped))
            assert "test_top1" in other.objection()


def test_a_bit_behind_the_last_image_is_a_contradiction(made_up):
    bits = np.zeros(10, dtype=bool)
    bits[:5] = True
    packed = bytearray(np.packbits(bits).tobytes())
    packed[-1] |= 1  # the sixth bit of padding
    record = made_up(metrics={"test_top1": 0.5, "val_top1": 0.1}, correct=base64.b64encode(packed).decode())
    assert record.objection()


FACTORS = {f"{pool}, {size}": {"pool": pool, "size": size} for pool in ("cls", "gap") for size in ("8", "16")}


@pytest.mark.parametrize(
    ("within", "partner"),
    [
        ((), {"gap, 8": "cls, 8", "gap, 16": "cls, 8", "cls, 16": "cls, 8"}),
        (("size",), {"gap, 8": "cls, 8", "gap, 16": "cls, 16", "cls, 16": "cls, 16"}),
        (("pool",), {"gap, 8": "gap, 8", "gap, 16": "gap, 8", "cls, 16": "cls, 8"}),
    ],
)
def test_an_arm_is_compared_with_the_one_of_its_level_of_held_factors(made_up, within, partner):
    design = made_up().design.model_copy(update={"baseline": "cls, 8", "factors": FACTORS, "within": within})
    assert {arm: design.compared_with(arm) for arm in partner} == partner


def test_an_arm_that_trains_nothing_takes_the_choice_of_the_one_it_goes_on_from(made_up):
    starts, epochs = {"b": "a", "c": "b", "d": "b"}, {"a": 4, "b": 0, "c": 0, "d": 1}
    design = made_up().design.model_copy(update={"starts": starts, "epochs": epochs})
    assert {arm: design.chosen_with(arm) for arm in "abcd"} == {"a": "a", "b": "a", "c": "a", "d": "d"}


@pytest.mark.parametrize(
    ("fields", "facts"),
    [
        ({}, (False, False, False, ())),
        ({"match": "flops", "within": ("size",)}, (True, False, False, ("size",))),
        ({"fractions": {"cls": 0.1}}, (True, True, False, ("images",))),
        ({"starts": {"gap": "cls"}}, (True, False, True, ())),
    ],
)
def test_a_design_says_what_sets_its_arms_apart(made_up, fields, facts):
    design = made_up().design.model_copy(update=fields)
    assert (design.epochs_differ, design.images_differ, design.has_starts, design.held_factors) == facts
