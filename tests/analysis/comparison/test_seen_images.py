"""Do the sentences on which images arms see hold for the batches that are really drawn?"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.made_up_records import make_record
from vitbench.analysis.comparison import seen_images
from vitbench.analysis.comparison.assessment import assess
from vitbench.analysis.comparison.load import compare
from vitbench.config import DataConfig, TrainConfig
from vitbench.data import Images, epoch_order, split
from vitbench.records import Design

CPU = torch.device("cpu")


def images_of(data: DataConfig, batch_size: int, *, seed: int = 0, epoch: int = 1) -> list[list[int]]:
    """Which image each place of each batch of an epoch has: image i is the number i in its pixels."""
    numbers = np.arange(200)
    pixels = numbers.astype(np.uint8)[:, None, None, None].repeat(2, 2).repeat(2, 3)
    indices, _ = split(
        numbers % 4, validation_fraction=data.validation_fraction, train_images=data.train_images, seed=seed
    )
    order = epoch_order(indices, batch_size=batch_size, seed=seed, epoch=epoch)
    batches = Images(pixels, numbers % 4).batches(order, batch_size, CPU)
    return [images[:, 0, 0, 0].tolist() for images, _ in batches]


def flat(batches: list[list[int]]) -> list[int]:
    return [image for batch in batches for image in batch]


def test_another_batch_size_cuts_the_same_order_otherwise():
    assert seen_images.OTHER_STEPS == ("batch_size",)
    wide, narrow = images_of(DataConfig(), 64), images_of(DataConfig(), 32)
    shared = min(len(flat(wide)), len(flat(narrow)))
    assert flat(wide)[:shared] == flat(narrow)[:shared] and wide[1] != narrow[1]


@pytest.mark.parametrize("change", [{"train_images": 100}, {"validation_fraction": 0.3}])
def test_other_images_come_in_another_order(change):
    assert next(iter(change)) in seen_images.OTHER_ORDER
    assert images_of(DataConfig(**change), 32)[0] != images_of(DataConfig(), 32)[0]


def test_every_field_of_the_data_is_known_to_change_order_or_pixels():
    known = {*seen_images.OTHER_ORDER, *seen_images.OTHER_PIXELS, *seen_images.OTHER_TEST_PIXELS}
    assert {*DataConfig.model_fields} <= known
    assert {*seen_images.OTHER_STEPS} <= {*TrainConfig.model_fields}


def design(changes, base):
    values = {"question": "", "source": "", "baseline": "cls", "learning_rates": (1e-3,)}
    return Design(**values, arms=("cls", *changes), changes=changes, base=base)


def notes_on(*records):
    (comparison,) = compare(records)
    return list(seen_images.about_images(comparison))


def test_notes_name_the_arms_whose_batches_are_other_ones():
    plan = design(
        {"half": {"batch_size": 64}, "mixed": {"mixup": 0.2}, "flipped": {"flip": True}, "gap": {"pool": "gap"}},
        {"batch_size": 128, "mixup": 0.0, "flip": False},
    )
    records = [
        make_record("cls", design=plan),
        make_record("half", train={"batch_size": 64}, design=plan),
        make_record("mixed", data={"mixup": 0.2}, design=plan),
        make_record("flipped", data={"flip": True}, design=plan),
        make_record("gap", model={"pool": "gap"}, design=plan),
    ]
    assert notes_on(*records) == [
        "half: each epoch has the images of cls in the same order, but other ones in a step (batch_size).",
        "mixed: the images of cls in the same order, but changed in another way (mixup).",
        "flipped: the images of cls in the same order, but changed in another way (flip).",
    ]
    (comparison,) = compare(records)
    assert {*notes_on(*records)} <= {*assess(comparison).notes}


def test_images_of_another_size_are_other_pixels_and_their_crops_are_no_change_of_their_own():
    plan = design({"12 px": {"image_size": 12, "crop_padding": 3}}, {"crop_padding": 2})
    small = make_record("cls", data={"crop_padding": 2}, design=plan)
    large = make_record("12 px", model={"image_size": 12}, data={"crop_padding": 3}, design=plan)
    assert notes_on(small, large) == [
        "12 px: the images of cls in the same order, but changed in another way (image_size).",
    ]


def test_what_starts_from_another_arms_weights_has_no_note_as_it_saw_that_arms_images_before():
    changes = {"12 px": {"image_size": 12}, "12 px, on": {"image_size": 12}}
    plan = design(changes, {}).model_copy(update={"starts": {"12 px, on": "cls"}})
    records = [
        make_record("cls", design=plan),
        make_record("12 px", model={"image_size": 12}, design=plan),
        make_record("12 px, on", model={"image_size": 12}, design=plan),
    ]
    assert notes_on(*records) == [
        "12 px: the images of cls in the same order, but changed in another way (image_size).",
    ]


def test_arms_that_see_the_same_batches_have_no_note():
    plan = design({"smooth": {"label_smoothing": 0.1}}, {"label_smoothing": 0.0})
    assert not notes_on(make_record(design=plan), make_record("smooth", train={"label_smoothing": 0.1}, design=plan))
