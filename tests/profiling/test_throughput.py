"""Are rates, shares and reasons what the samples say?"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vitbench.profiling.device import open_device
from vitbench.profiling.roofline import Ceilings
from vitbench.profiling.throughput import Candidate, Result, measure
from vitbench.profiling.timing import Timing


def candidate(**changes: object) -> Candidate:
    fields = {
        "variant": "tiny",
        "implementation": "vitbench",
        "build": lambda: nn.Sequential(nn.Flatten(), nn.Linear(48, 3)),
        "image_shape": (3, 4, 4),
        "num_classes": 3,
        "macs": 144,
        "mode": "infer",
        "precision": "fp32",
        "compiled": False,
        "batch_size": 2,
    }
    return Candidate(**{**fields, **changes})


CEILINGS = Ceilings({"fp32": 1e9, "bf16": 4e9}, 1e9)


@pytest.mark.parametrize(("mode", "forwards"), [("infer", 1), ("train", 3)])
def test_rates_follow_from_the_median_and_the_macs(mode, forwards):
    result = Result(candidate(mode=mode, macs=1_000_000, batch_size=8), Timing((0.1, 0.2, 0.3), (), True))
    assert result.images_per_second == 8 / 0.2
    assert result.flops_per_second == pytest.approx(2e6 * forwards * 40)
    assert result.mfu(CEILINGS) == pytest.approx(0.08 * forwards)
    low, high = result.interval
    assert low <= 40 <= high


def test_mfu_is_of_the_rate_at_the_same_precision():
    results = [Result(candidate(precision=p), Timing((0.1,), (), True)) for p in ("fp32", "bf16")]
    assert results[0].mfu(CEILINGS) == 4 * results[1].mfu(CEILINGS)


def test_what_cannot_run_is_a_result_that_says_why_and_the_others_go_on():
    def out_of_memory() -> nn.Module:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")

    def broken() -> nn.Module:
        raise RuntimeError("no\nsuch operator")

    fine, big, bad = (
        candidate(),
        candidate(build=out_of_memory, batch_size=512),
        candidate(build=broken, implementation="other"),
    )
    results = measure([big, fine, bad], device=open_device("cpu"), max_seconds=0.05)
    assert [r.reason for r in results] == ["out of memory at batch 512", "", "RuntimeError: no such operator"]
    assert [r.timing is None for r in results] == [True, False, True]
    assert results[0].images_per_second is None and results[0].mfu(CEILINGS) is None and results[0].interval is None


def test_a_process_that_dies_while_memory_is_measured_loses_no_timing(monkeypatch):
    device = open_device("cpu")
    monkeypatch.setattr(device, "peak_memory_of", lambda make_work: 1 / 0)
    (result,) = measure([candidate()], device=device, max_seconds=0.05, memory=True)
    assert result.timing is not None and result.reason == "memory: ZeroDivisionError: division by zero"


def test_a_training_step_is_timed_phase_by_phase_too():
    (result,) = measure([candidate(mode="train")], device=open_device("cpu"), max_seconds=0.05)
    assert list(result.phases) == ["forward", "backward", "optimizer"]
    assert all(phase.median > 0 for phase in result.phases.values())
