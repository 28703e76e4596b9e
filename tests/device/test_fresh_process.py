"""Is the memory that a fresh process is seen to need the memory that its work takes?"""

from __future__ import annotations

from functools import partial

import pytest
import torch

from vitbench.device.fresh_process import peak_rise

MIB = 2**20


def hold_and_borrow(held: int, borrowed: int):
    """Work that keeps some MiB for good and others only while it runs."""
    kept = torch.ones(held * MIB // 4)

    def work() -> float:
        return float(torch.ones(borrowed * MIB // 4)[0] + kept[0])

    return work


def fail():
    raise RuntimeError("no room")


def test_it_is_the_peak_of_what_is_kept_and_what_is_borrowed():
    rise = peak_rise(partial(hold_and_borrow, 150, 100), threads=1)
    assert rise is not None
    assert 250 * MIB <= rise < 290 * MIB


def test_errors_of_the_work_travel():
    with pytest.raises(RuntimeError, match="no room"):
        peak_rise(fail, threads=1)
