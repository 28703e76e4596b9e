"""Are rates, shares and reasons what the samples say?"""

from __future__ import annotations

import weakref
from datetime import UTC, datetime

import pytest
import torch
from torch import nn

from vitbench.device import open_device
from vitbench.profiling import throughput
from vitbench.profiling.batch_size import Trial
from vitbench.profiling.roofline import Ceilings
from vitbench.profiling.throughput import Candidate, Result, measure, prepare
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
    monkeypatch.setattr(device, "measure_peak_memory", lambda make_work: 1 / 0)
    (result,) = measure([candidate()], device=device, max_seconds=0.05, memory=True)
    assert result.timing is not None and result.reason == "memory: ZeroDivisionError: division by zero"


def test_a_training_step_is_timed_phase_by_phase_too():
    (result,) = measure([candidate(mode="train")], device=open_device("cpu"), max_seconds=0.05)
    assert list(result.phases) == ["forward", "backward", "optimizer"]
    assert all(phase.median > 0 for phase in result.phases.values())


CROWD: weakref.WeakSet[nn.Module] = weakref.WeakSet()


class Crowded(nn.Linear):
    """Finds no memory from its `first` call on while another of its kind is alive."""

    def __init__(self, first: int) -> None:
        super().__init__(48, 3)
        self.calls, self.first = 0, first
        CROWD.add(self)

    def forward(self, images):
        self.calls += 1
        if self.calls >= self.first and len(CROWD) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().forward(images.flatten(1))


@pytest.mark.parametrize(("first", "in_turn"), [(1, [True, False]), (3, [False, False]), (10**9, [True, True])])
def test_what_does_not_fit_beside_the_others_is_timed_alone_and_says_so(first, in_turn):
    roomy, tight = candidate(build=lambda: Crowded(10**9)), candidate(build=lambda: Crowded(first), implementation="b")
    results = measure([roomy, tight], device=open_device("cpu"), max_seconds=0.05)
    assert [result.in_turn for result in results] == in_turn
    assert [result.reason for result in results] == ["", ""]
    assert all(result.timing is not None and len(result.timing.samples) >= 8 for result in results)


def test_what_fits_nowhere_is_no_row_of_a_smaller_batch():
    def out_of_memory() -> nn.Module:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    big = candidate(build=out_of_memory, batch_size=512)
    fine, failed = measure([candidate(), big], device=open_device("cpu"), max_seconds=0.05)
    assert fine.timing is not None and fine.in_turn
    assert failed.timing is None and failed.reason == "out of memory at batch 512"
    assert failed.candidate.batch_size == 512


def test_a_searched_batch_size_is_found_for_each_candidate_by_itself(monkeypatch):
    asked = []

    def search(how, make_work, *, device, release):
        shapes = [tuple(make_work(size).images.shape) for size in (2, 4)]
        asked.append((how, shapes))
        rates = {2: 50.0, 4: 70.0} if len(asked) == 1 else {2: 50.0, 4: 30.0}
        release()
        return tuple(Trial(size, rate) for size, rate in rates.items())

    monkeypatch.setattr(throughput, "search_batch_size", search)
    candidates = [candidate(search="best"), candidate(search="best", mode="train"), candidate(batch_size=4)]
    results = measure(candidates, device=open_device("cpu"), max_seconds=0.05)
    assert asked == [("best", [(2, 3, 4, 4), (4, 3, 4, 4)])] * 2
    assert [result.candidate.batch_size for result in results] == [4, 2, 4]
    assert results[0].batch_sizes_tried == (Trial(2, 50.0), Trial(4, 70.0)) and not results[2].batch_sizes_tried
    assert results[0].images_per_second == 4 / results[0].timing.median
    assert len({result.candidate.name for result in results}) == 3


def test_a_candidate_that_runs_at_no_batch_size_says_why():
    def broken() -> nn.Module:
        raise RuntimeError("no\nsuch operator")

    (result,) = measure([candidate(build=broken, search="best")], device=open_device("cpu"), max_seconds=0.05)
    assert result.timing is None and result.reason == "RuntimeError: no such operator"


class Counting(nn.Linear):
    """Its device uses 3 joules for every call."""

    source = "a made-up counter"

    def __init__(self) -> None:
        super().__init__(48, 3)
        self.used = 0.0

    def forward(self, images):
        self.used += 3
        return super().forward(images.flatten(1))

    def joules(self) -> float:
        return self.used


def test_joules_of_an_image_are_those_of_a_call_over_its_images(monkeypatch):
    device, model = open_device("cpu"), Counting()
    monkeypatch.setattr(device, "energy_counter", lambda: model)
    (result,) = measure([candidate(build=lambda: model, batch_size=4)], device=device, max_seconds=0.05)
    assert result.joules_per_image == 0.75
    assert result.energy.joules == 3 * result.energy.calls and result.energy.seconds >= 0.5
    assert (
        result.energy_note
        == f"a made-up counter, in a loop of {result.energy.seconds:.1f} s; idle power is not subtracted"
    )


def test_energy_that_is_not_told_loses_no_timing(monkeypatch):
    device = open_device("cpu")

    def gone():
        raise FileNotFoundError(2, "No such file", "energy_uj")

    monkeypatch.setattr(device, "energy_counter", gone)
    (result,) = measure([candidate()], device=device, max_seconds=0.05)
    assert result.timing is not None and result.reason == "" and result.joules_per_image is None
    assert result.energy_note.startswith("not available: ") and "energy_uj" in result.energy_note


def test_every_row_has_the_state_of_the_device_around_the_timed_calls(monkeypatch):
    def broken() -> nn.Module:
        raise RuntimeError("no such operator")

    device, events = open_device("cpu"), []
    state, time = device.state, device.time
    monkeypatch.setattr(device, "state", lambda: events.append("state") or {**state(), "cpu_mhz": float(len(events))})
    monkeypatch.setattr(device, "time", lambda call: events.append("call") or time(call))
    before = datetime.now(UTC)
    results = measure([candidate(build=broken), candidate()], device=device, max_seconds=0.05)
    first, last = events.index("state") + 1, len(events) - events[::-1].index("call") + 1
    assert events[first:last].count("call") >= 11 and events[: first - 1] == [
        "call"
    ]  # the first call, which may compile
    for result in results:
        assert (result.state.before["cpu_mhz"], result.state.after["cpu_mhz"]) == (first, last)
        assert abs(datetime.fromisoformat(result.started) - before).total_seconds() < 1


@pytest.mark.parametrize(("graphs", "options"), [(False, {}), (True, {"mode": "reduce-overhead"})])
def test_cuda_graphs_are_asked_for_by_torch_s_name(monkeypatch, graphs, options):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda model, **given: asked.append(given) or model)
    graphed = candidate(compiled=True, cuda_graphs=graphs)
    prepare(graphed, open_device("cpu"))
    assert asked == [{"dynamic": False, **options}] and (" graphs " in graphed.name) is graphs


@pytest.mark.filterwarnings("default")
def test_a_compiled_row_is_compiled_for_its_own_batch_size_however_many_there_are(monkeypatch):
    batches = []

    def recording(graph, examples):
        batches.extend(
            example.shape[0] for example in examples if isinstance(example, torch.Tensor) and example.ndim == 4
        )
        return graph.forward

    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, dynamic: compiler(model, dynamic=dynamic, backend=recording))
    torch._dynamo.reset()
    sizes = [*range(2, 13)]  # more than torch's own limit of 8
    candidates = [candidate(compiled=True, batch_size=size) for size in sizes]
    results = measure(candidates, device=open_device("cpu"), max_seconds=0.001)
    assert [result.reason for result in results] == [""] * len(sizes)
    assert batches == sizes and all(type(size) is int for size in batches)
