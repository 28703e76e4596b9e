"""Does the search find the batch size that a made-up device runs best, or the largest that it holds?"""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from vitbench.device import CpuDevice
from vitbench.profiling.batch_size import Trial, chosen_size, search_batch_size


class MadeUpDevice(CpuDevice):
    """Works are called and say how many seconds they took; `room` is what is free over what a batch of one takes."""

    def __init__(self, room: float | None = None) -> None:
        super().__init__(torch.device("cpu"))
        self.room, self.size = room, 0

    def time(self, call):
        return call()

    def room_for(self, work):
        work()
        return None if self.room is None else self.room / self.size

    def make_work(self, seconds):
        """`seconds(size)` is a batch's time."""

        def make(size: int):
            self.size = size
            return lambda: seconds(size)

        return make


def overhead(size: int) -> float:
    """1 ms and 1/16 ms an image: size / seconds rises towards 16,000 images/s for ever."""
    return 1e-3 + size * 1e-3 / 16


def test_the_fastest_size_is_where_doubling_gains_less_than_3_percent():
    device = MadeUpDevice()
    trials = search_batch_size("best", device.make_work(overhead), device=device, release=device.release)
    # From n to 2 n the rate grows 2 (16 + n) / (16 + 2 n) times: 1.0303 from 256 to 512, 1.0154 from 512 to 1024.
    assert [trial.batch_size for trial in trials] == [2**k for k in range(11)]
    assert [trial.images_per_second for trial in trials] == pytest.approx([2**k / overhead(2**k) for k in range(11)])
    assert chosen_size(trials) == 1024


def test_the_fastest_size_is_not_the_one_that_was_slower():
    device = MadeUpDevice()
    rates = {1: 100.0, 2: 190.0, 4: 300.0, 8: 250.0}
    trials = search_batch_size(
        "best", device.make_work(lambda size: size / rates[size]), device=device, release=device.release
    )
    assert {trial.batch_size: trial.images_per_second for trial in trials} == pytest.approx(rates)
    assert chosen_size(trials) == 4


@pytest.mark.parametrize("search", ["best", "max"])
@pytest.mark.parametrize("when", ["made", "called"])
def test_it_ends_at_the_first_size_that_does_not_fit_and_says_so(search, when):
    device = MadeUpDevice()

    def make_work(size: int):
        def work() -> float:
            if size > 20 and when == "called":
                raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")
            return overhead(size)

        if size > 20 and when == "made":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return work

    trials = search_batch_size(search, make_work, device=device, release=device.release)
    assert [trial.batch_size for trial in trials] == [1, 2, 4, 8, 16, 32]
    assert trials[-1] == Trial(32, reason="out of memory at batch 32")
    assert chosen_size(trials) == 16


def test_memory_that_is_needed_only_from_the_second_call_on_is_seen():
    """An optimizer's state is allocated at the end of the first step."""
    device = MadeUpDevice()

    def make_work(size: int):
        calls = iter(range(100))

        def work() -> float:
            if next(calls) > 0 and size >= 8:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return 1.0

        return work

    assert chosen_size(search_batch_size("max", make_work, device=device, release=device.release)) == 4


def test_where_not_even_one_image_runs_nothing_is_found():
    def make_work(size: int):
        raise RuntimeError("no\nsuch operator")

    device = MadeUpDevice()
    trials = search_batch_size("best", make_work, device=device, release=device.release)
    assert trials == (Trial(1, reason="RuntimeError: no such operator"),) and chosen_size(trials) is None


def test_a_size_that_could_end_the_process_is_not_tried():
    device = MadeUpDevice(room=16.0)  # batch 4 leaves 4 times its memory, batch 8 twice: too little to try 16
    trials = search_batch_size("best", device.make_work(lambda size: 1.0), device=device, release=device.release)
    assert [trial.batch_size for trial in trials] == [1, 2, 4, 8, 16]
    assert trials[-1] == Trial(16, reason="not tried: the memory free is 2.0 × what batch 8 takes")
    assert chosen_size(trials) == 8


def test_what_a_size_took_is_gone_before_the_next_is_tried():
    device, alive = MadeUpDevice(), weakref.WeakSet()

    class Work:
        def __init__(self, size: int) -> None:
            assert not alive
            alive.add(self)
            self.size, self.itself = size, self  # a cycle, as models have

        def __call__(self) -> float:
            if self.size == 8:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return 1.0

    gc.disable()
    try:
        assert chosen_size(search_batch_size("max", Work, device=device, release=device.release)) == 4
    finally:
        gc.enable()
