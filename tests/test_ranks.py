"""Do ranks share out a batch and what is evaluated whole, each image once, and mixing pairs together?"""

from __future__ import annotations

import numpy as np
import pytest

from vitbench.launched import Launched, is_follower, launched
from vitbench.ranks import ALONE, Ranks, least_batch

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_slices_have_every_place_of_a_batch_once_and_keep_mirrored_places_together(size):
    for batch_size in range(least_batch(size), 40):
        slices = [Ranks(rank, size).places(batch_size).tolist() for rank in range(size)]
        assert sorted(place for places in slices for place in places) == list(range(batch_size))
        assert min(map(len, slices)) > 0 and max(map(len, slices)) - min(map(len, slices)) <= 2
        for places in slices:
            # What timm's Mixup mixes image k of a slice with is the image that it mixes it with in the whole batch.
            flipped = [batch_size - 1 - place for place in places]
            assert places[::-1] == flipped or (batch_size % 2 and sorted(places) == sorted(flipped))
        assert sum(Ranks(rank, size).share(batch_size) for rank in range(size)) == pytest.approx(1)


def test_one_image_fewer_than_the_least_batch_leaves_a_rank_without():
    assert all(len(Ranks(rank, 4).places(least_batch(4))) for rank in range(4))
    assert not all(len(Ranks(rank, 4).places(least_batch(4) - 1)) for rank in range(4))


@pytest.mark.parametrize("number", [0, 1, 2, 7, 256])
def test_parts_of_what_is_evaluated_follow_each_other(number):
    indices = np.random.default_rng(0).permutation(number).astype(np.int64)
    parts = [Ranks(rank, 3).part(indices) for rank in range(3)]
    assert np.array_equal(np.concatenate(parts), indices)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_alone_a_process_has_all_and_exchanges_nothing():
    assert sorted(ALONE.places(5).tolist()) == [0, 1, 2, 3, 4]
    assert ALONE.share(5) == 1 and ALONE.gather("value") == ["value"] and ALONE.of_first("value") == "value"


def started_with(monkeypatch, *values: str) -> None:
    for name, value in zip(NAMES, values, strict=True):
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)


def test_torchrun_is_told_from_the_variables_that_it_sets(monkeypatch):
    started_with(monkeypatch, "", "", "", "")
    assert launched() is None and not is_follower()
    started_with(monkeypatch, "0", "1", "0", "1")  # one process is none too many
    assert launched() is None
    started_with(monkeypatch, "5", "8", "1", "4")
    assert launched() == Launched(rank=5, size=8, local_rank=1, local_size=4) and is_follower()
    started_with(monkeypatch, "0", "8", "0", "4")
    assert launched() is not None and not is_follower()


def test_variables_that_torchrun_never_sets_are_refused(monkeypatch):
    started_with(monkeypatch, "one", "2", "0", "2")
    with pytest.raises(ValueError, match=r"RANK='one'.* are not what torchrun sets; unset them"):
        launched()
    assert not is_follower()
