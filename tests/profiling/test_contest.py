"""Is each implementation timed at its fastest setting, and does one that fails keep nobody else from it?"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vitbench.device import CpuDevice
from vitbench.profiling.contest import MAX_ROUNDS, MIN_ROUNDS, WARMUP_CALLS, Heat, fastest, hold_contest, qualify
from vitbench.profiling.throughput import Candidate


class Scripted(CpuDevice):
    """A CPU on which every model takes as long as it says."""

    def __init__(self):
        super().__init__(torch.device("cpu"))
        self.timed = []

    def time(self, call):
        call()
        model = getattr(call, "model", None)
        if model is None:  # a phase of a training step
            return 1.0
        self.timed.append((model.name, model.precision))
        return model.seconds


class Model(nn.Module):
    def __init__(self, name, precision, seconds):
        super().__init__()
        self.name, self.precision, self.seconds = name, precision, seconds
        self.layer = nn.Linear(4, 2)

    def forward(self, images):
        return self.layer(images.flatten(1))


def candidate(name, precision, seconds, *, error=None):
    def build():
        if error:
            raise error
        return Model(name, precision, seconds)

    return Candidate(
        variant="tiny",
        implementation=name,
        build=build,
        image_shape=(1, 2, 2),
        num_classes=2,
        macs=8,
        mode="infer",
        precision=precision,
        compiled=False,
        batch_size=3,
    )


def test_the_final_holds_the_fastest_setting_of_each_in_turn():
    device = Scripted()
    settings = [
        [candidate("ours", "fp32", 3.0), candidate("ours", "bf16", 1.0)],
        [candidate("timm", "fp32", 2.0), candidate("timm", "bf16", 4.0)],
    ]
    _, finals = hold_contest(settings, device=device, max_seconds=1.0)
    best = [(final.candidate.implementation, final.candidate.precision) for final in finals]
    assert best == [("ours", "bf16"), ("timm", "fp32")]
    assert [final.timing.median for final in finals] == [1.0, 2.0]
    assert len({len(final.timing.samples) for final in finals}) == 1
    assert device.timed[-4:] == [*best, *best]


def test_qualifying_keeps_every_call_and_takes_settings_in_turn():
    device = Scripted()
    fast, slow = qualify([candidate("a", "bf16", 1.0), candidate("a", "fp32", 2.0)], device=device)
    assert fast.samples == (1.0,) * MIN_ROUNDS and slow.warmup == (2.0,) * WARMUP_CALLS
    assert device.timed[2 * WARMUP_CALLS :] == [("a", "bf16"), ("a", "fp32")] * MIN_ROUNDS


def test_what_takes_little_time_qualifies_in_more_rounds():
    quick, quicker = qualify([candidate("a", "bf16", 0.3), candidate("a", "fp32", 0.2)], device=Scripted())
    assert len(quick.samples) == len(quicker.samples) == 4  # 4 × 0.5 s are the 2 × 1 s that two settings have
    (quickest,) = qualify([candidate("a", "bf16", 0.001)], device=Scripted())
    assert len(quickest.samples) == MAX_ROUNDS


def test_a_setting_that_fails_says_why_and_the_others_go_on():
    missing = candidate("timm", "bf16", 1.0, error=ModuleNotFoundError("No module named 'timm'"))
    settings = [
        [candidate("ours", "fp32", 3.0), candidate("ours", "bf16", 1.0, error=MemoryError())],
        [missing],
    ]
    heats, finals = hold_contest(settings, device=Scripted(), max_seconds=1.0)
    assert [final.candidate.name for final in finals] == [candidate("ours", "fp32", 3.0).name]
    assert [heat.reason for heat in heats] == [
        "",
        "out of memory at batch 3",
        "ModuleNotFoundError: No module named 'timm'",
    ]


@pytest.mark.parametrize(
    ("samples", "best"), [([(9.0, 1.0, 1.0), (2.0, 2.0, 2.0)], 0), ([(), (5.0,)], 1), ([(), ()], None)]
)
def test_the_fastest_has_the_smallest_median_of_those_that_ran(samples, best):
    heats = [Heat(candidate("a", "fp32", 1.0), values) for values in samples]
    assert fastest(heats) == (None if best is None else heats[best])
