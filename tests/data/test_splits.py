"""Are splits stratified and fixed by seed, and are epochs shuffled by (seed, epoch) alone?"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.data.distributed_sampler import RepeatAugSampler

from vitbench.data import Images, describe, epoch_order, split

CPU = torch.device("cpu")
labels_of = (
    st.lists(st.integers(0, 6), min_size=4, max_size=120).filter(lambda own: len(set(own)) < len(own)).map(np.array)
)
fractions = st.floats(0.01, 0.99)


@settings(deadline=None)
@given(labels=labels_of, fraction=fractions, seed=st.integers(0, 2**31 - 1))
def test_every_image_is_in_train_or_in_validation_and_never_in_both(labels, fraction, seed):
    train, validation = split(labels, validation_fraction=fraction, seed=seed)
    assert sorted([*train, *validation]) == list(range(len(labels)))


@settings(deadline=None)
@given(labels=labels_of, fraction=fractions, seed=st.integers(0, 2**31 - 1))
def test_each_class_with_two_images_is_on_both_sides(labels, fraction, seed):
    train, validation = split(labels, validation_fraction=fraction, seed=seed)
    for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
        assert (labels[train] == label).any()
        assert (labels[validation] == label).any() == (count > 1)


@settings(deadline=None)
@given(labels=labels_of, fraction=fractions, seed=st.integers(0, 99), data=st.data())
def test_a_subset_has_the_size_asked_for_and_leaves_validation_as_it_was(labels, fraction, seed, data):
    train, validation = split(labels, validation_fraction=fraction, seed=seed)
    wanted = data.draw(st.integers(1, len(train)))
    subset, same = split(labels, validation_fraction=fraction, train_images=wanted, seed=seed)
    assert len(subset) == wanted and set(subset) <= set(train)
    assert np.array_equal(validation, same)
    if wanted >= len(set(labels)):
        assert set(labels[subset]) == set(labels[train])


def test_shares_of_a_large_set_follow_its_classes():
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    train, validation = split(labels, validation_fraction=0.1, train_images=90, seed=3)
    assert np.bincount(labels[validation]).tolist() == [60, 30, 10]
    assert np.bincount(labels[train]).tolist() == [54, 27, 9]


def test_the_seed_decides_and_nothing_else():
    labels = np.arange(200) % 4
    np.random.seed(1)
    first = split(labels, validation_fraction=0.2, seed=5)
    np.random.seed(2)
    again = split(labels, validation_fraction=0.2, seed=5)
    other = split(labels, validation_fraction=0.2, seed=6)
    assert np.array_equal(first[1], again[1]) and not np.array_equal(first[1], other[1])


def test_more_training_images_than_are_left_is_refused_with_the_number_left():
    with pytest.raises(ValueError, match=r"^train_images 91 is larger than the 90 images left .*use at most 90$"):
        split(np.arange(100) % 10, validation_fraction=0.1, train_images=91, seed=0)


@settings(deadline=None)
@given(labels=labels_of, fraction=fractions)
def test_a_description_knows_how_many_images_a_split_will_leave(labels, fraction):
    counts = np.bincount(labels, minlength=7).tolist()
    info = describe("digits").model_copy(update={"train_images": len(labels), "class_counts": tuple(counts)})
    assert info.images_left(fraction) == len(split(labels, validation_fraction=fraction, seed=0)[0])


@pytest.mark.parametrize(("dataset", "left"), [("digits", 1078), ("shapes", 3600), ("torch/cifar10", 45000)])
def test_built_in_and_torchvisions_sets_leave_nine_tenths(dataset, left):
    assert describe(dataset).images_left(0.1) == left


def test_a_split_that_would_leave_nothing_to_validate_on_is_refused():
    with pytest.raises(
        ValueError, match=r"validation split would be empty: each of the 5 classes has one training image"
    ):
        split(np.arange(5), validation_fraction=0.1, seed=0)


@pytest.fixture
def images() -> Images:
    return Images(np.arange(50, dtype=np.uint8)[:, None, None, None].repeat(2, 3), np.arange(50) + 100)


def order_of(**changes: int | None) -> list[int]:
    arguments = {"batch_size": 8, "seed": 0, "epoch": 0, **changes}
    return epoch_order(np.arange(10, 50), **arguments).tolist()


def test_an_epoch_takes_every_index_once_when_batches_come_out_even():
    assert sorted(order_of()) == list(range(10, 50))


def test_a_ragged_last_batch_is_dropped(images):
    order = epoch_order(np.arange(50), batch_size=16, seed=0, epoch=0)
    assert [len(pixels) for pixels, _ in images.batches(order, 16, CPU)] == [16, 16, 16]


def test_order_changes_with_epoch_and_seed_and_with_nothing_else():
    first = order_of()
    torch.manual_seed(123)
    np.random.seed(123)
    assert order_of() == first
    assert order_of(batch_size=4) == first
    assert order_of(epoch=1) != first
    assert order_of(seed=1) != first


def test_a_batch_larger_than_the_set_is_refused():
    with pytest.raises(ValueError, match=r"^batch_size 51 is larger than the 50 training images; use at most 50$"):
        epoch_order(np.arange(50), batch_size=51, seed=0, epoch=0)


@pytest.mark.parametrize(("first", "last"), [(0, 2), (2, 5), (3, 3), (1, None), (4, 99)])
def test_a_part_of_an_epoch_is_that_part_of_the_whole(first, last):
    assert order_of(first_batch=first, last_batch=last) == order_of()[8 * first : last and 8 * last]


def test_repeats_are_in_a_row_and_an_epoch_keeps_its_number_of_images(images):
    once = epoch_order(np.arange(10, 50), batch_size=8, seed=0, epoch=0)
    thrice = epoch_order(np.arange(10, 50), batch_size=8, seed=0, epoch=0, repeats=3)
    # 40 = 13 × 3 + 1: the first 13 images of the shuffled order three times, the next one once.
    assert thrice.tolist() == [*(row for row in once[:13] for _ in range(3)), once[13]]


def test_repeats_are_those_of_timms_sampler_for_the_same_shuffled_order(monkeypatch):
    """All processes together, each of which takes every second image of the same order."""
    order = epoch_order(np.arange(512), batch_size=64, seed=3, epoch=2)
    monkeypatch.setattr(torch, "randperm", lambda n, generator: torch.from_numpy(order))
    halves = [list(RepeatAugSampler(range(512), num_replicas=2, rank=rank, num_repeats=3)) for rank in (0, 1)]
    together = [row for pair in zip(*halves, strict=True) for row in pair]
    assert epoch_order(np.arange(512), batch_size=64, seed=3, epoch=2, repeats=3).tolist() == together


@pytest.mark.parametrize(("first", "last"), [(0, 2), (2, 5), (3, None)])
def test_a_part_of_an_epoch_with_repeats_is_that_part_of_the_whole(images, first, last):
    part = order_of(repeats=2, first_batch=first, last_batch=last)
    assert part == order_of(repeats=2)[8 * first : last and 8 * last]
