"""Are operators chosen once, by a clear difference, and kept whatever a later measurement would say? Nothing is timed here."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from vitbench.config import ViTConfig
from vitbench.kernels import choice, install, native
from vitbench.kernels.choice import Measured
from vitbench.machine import cache_directory
from vitbench.models import build_model
from vitbench.models.blocks import Block

needs_native = pytest.mark.skipif(native.state()[0] is None, reason=f"no native operators: {native.state()[1]}")

NATIVE, TORCH = Measured("native", 2.0, 9), Measured("torch", 0.5, 9)


@needs_native
def test_they_are_used_under_bf16_autocast_on_dense_cpu_tensors_alone():
    x = torch.randn(2, 4, 32)
    assert not choice.usable(x)
    with torch.autocast("cpu", torch.float16):
        assert not choice.usable(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert choice.usable(x)
        assert not choice.usable(x[..., :30])
        assert not choice.usable(x.double())
        assert not choice.usable(x.to("meta"))
        assert not choice.usable(torch.nn.Parameter(x))
        assert not choice.usable(x[:0])
        weight = torch.randn(32, 48)
        assert choice.usable(x, weight)
        assert not choice.usable(x, weight.t())
        assert not choice.usable(x, weight.bfloat16())


@pytest.fixture
def measurements(monkeypatch, tmp_path):
    """A cache that is empty, a process that has chosen nothing, and what measuring gives; keeps what was measured."""
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv(native.SWITCH, "auto")
    monkeypatch.setattr(choice, "_settled", {})
    monkeypatch.setattr(native, "library_name", lambda: "0123456789abcdef")
    results: list[Measured] = []
    measured: list[tuple[int, int]] = []

    def measure(width: int, threads: int) -> Measured:
        measured.append((width, threads))
        return results.pop(0)

    monkeypatch.setattr(choice, "measure", measure)
    return results, measured


def forget(monkeypatch):
    """As a new process begins."""
    monkeypatch.setattr(choice, "_settled", {})


def test_a_width_is_measured_once_a_machine_and_a_later_process_takes_what_was_kept(measurements, monkeypatch):
    results, measured = measurements
    results += [TORCH, NATIVE]
    threads = torch.get_num_threads()
    assert choice.chosen(64).operators == "torch"
    forget(monkeypatch)
    assert choice.chosen(64).operators == "torch" and measured == [(64, threads)]
    assert choice.chosen(128).operators == "native" and measured == [(64, threads), (128, threads)]
    why = f"measured: native 0.50 × as fast as torch's at width 64 on {threads} thread"
    assert choice.chosen(64).why.startswith(why)


@pytest.mark.parametrize("part", ["library", "torch", "processor", "threads"])
def test_another_library_torch_processor_or_number_of_threads_is_measured_anew(measurements, monkeypatch, part):
    results, measured = measurements
    results += [TORCH, NATIVE]
    threads = torch.get_num_threads()
    assert choice.chosen(64).operators == "torch"
    forget(monkeypatch)
    with monkeypatch.context() as patch:
        if part == "library":
            patch.setattr(native, "library_name", lambda: "another")
        elif part == "torch":
            patch.setattr(torch, "__version__", "1.0")
        elif part == "processor":
            patch.setattr(choice, "cpu_name", lambda: "Another")
        else:
            patch.setattr(torch, "get_num_threads", lambda: threads + 1)
        assert choice.chosen(64).operators == "native"
    forget(monkeypatch)
    assert choice.chosen(64).operators == "torch" and len(measured) == 2


KEPT = {"operators": "torch", "native_over_torch": 0.5, "rounds": 9}


@pytest.mark.parametrize(
    "damaged",
    [
        {**KEPT, "operators": "cuda"},
        {**KEPT, "native_over_torch": -1.0},
        {**KEPT, "native_over_torch": float("nan")},
        {**KEPT, "native_over_torch": "0.5"},
        {**KEPT, "rounds": 0},
        {**KEPT, "rounds": None},
        {"operators": "torch"},
        "torch",
        None,
        ["a whole file", "{"],
        ["a whole file", "[]"],
        ["a whole file", ""],
        ["a whole file", "\xff"],
    ],
    ids=str,
)
def test_what_is_damaged_in_the_cache_is_measured_again(measurements, monkeypatch, damaged):
    results, measured = measurements
    results += [TORCH, NATIVE]
    choice.chosen(64)
    path = cache_directory() / "kernel_choices.json"
    if isinstance(damaged, list):
        path.write_text(damaged[1], encoding="latin-1")
    else:
        path.write_text(json.dumps(dict.fromkeys(json.loads(path.read_text()), damaged)))
    forget(monkeypatch)
    assert choice.chosen(64).operators == "native" and len(measured) == 2
    forget(monkeypatch)
    assert choice.chosen(64).operators == "native" and len(measured) == 2


def test_without_a_cache_that_can_be_written_a_process_measures_once(measurements, monkeypatch, tmp_path):
    results, measured = measurements
    results.append(NATIVE)
    (tmp_path / "file").touch()
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "file" / "cache"))
    assert choice.chosen(64) == choice.chosen(64) and len(measured) == 1


def test_what_the_user_asks_for_is_taken_without_measuring(measurements, monkeypatch):
    for name in ("native", "torch"):
        forget(monkeypatch)
        monkeypatch.setenv(native.SWITCH, name)
        choice.settle(64, "torch" if name == "native" else "native", "as recorded")
        assert choice.chosen(64) == choice.Choice(name, f"VITBENCH_KERNELS={name}")
    assert not measurements[1]


@pytest.mark.parametrize(
    ("ratios", "operators"),
    [
        ([0.8] * 5, "torch"),
        ([9.0] + [0.8] * 5, "torch"),  # the first warms up
        ([0.95] * 9, "native"),  # 1.05 times as fast is not clear
        ([0.8] * 6 + [1.2] * 4, "native"),
        ([0.8] * 8 + [1.2] * 1, "torch"),
        ([0.5] * 2, "native"),  # too few
        ([0.5], "native"),
        ([2.0] * 9, "native"),
    ],
)
def test_torch_is_taken_where_it_is_clearly_faster_in_three_quarters_of_enough_rounds(ratios, operators):
    assert choice.judged(ratios).operators == operators


@needs_native
def test_where_torch_is_faster_a_model_computes_with_torch_and_stands_beside_native_ones(measurements):
    results, _ = measurements
    results += [TORCH]
    config = ViTConfig(image_size=16, patch_size=4, width=64, depth=2, num_heads=2, num_classes=5)
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(install(build_model(config))(images), build_model(config)(images))
    use = choice.recorded_use("cpu", precision="bf16", compiled=False, width=64)
    assert use["kernels"].startswith("native: ") and use["kernel_library"] == ""
    assert use["kernels_note"].startswith("measured: ")
    assert choice.recorded_use("cpu", precision="fp32", compiled=False, width=64)["kernels"] == "torch"
    assert choice.recorded_use("cuda", precision="bf16", compiled=False, width=64)["kernels"] == "torch"
    assert choice.recorded_use("cpu", precision="bf16", compiled=True, width=64)["kernels_note"] == ""


@needs_native
def test_measuring_leaves_the_callers_modes_and_random_numbers_alone(monkeypatch):
    monkeypatch.setattr(choice, "SECONDS", 0.0)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    with torch.inference_mode(), torch.autocast("cpu", torch.float16):
        measured = choice.measure(16, 1)
        assert torch.is_inference_mode_enabled() and torch.get_autocast_dtype("cpu") == torch.float16
    assert measured.rounds == 1 and measured.native_over_torch > 0
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads


@needs_native
def test_what_is_measured_is_what_blocks_of_models_compute(monkeypatch):
    monkeypatch.setattr(choice, "_settled", {})
    config = ViTConfig(image_size=32, patch_size=4, width=64, num_heads=2)
    block = Block(config, drop_path=0.0)
    x = torch.randn(2, 65, 64)

    def gradients(call) -> list[Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            out = call(x)
        return [out, *torch.autograd.grad(out.sum(), list(block.parameters()))]

    expected = gradients(lambda x: choice._native_block(block, x))
    for computed, wanted in zip(gradients(install(block)), expected, strict=True):
        assert torch.equal(computed, wanted)


def test_an_error_of_measuring_reaches_the_caller(monkeypatch):
    def fail(width: int, threads: int) -> list[float]:
        raise MemoryError("no memory")

    monkeypatch.setattr(choice, "_ratios", fail)
    with pytest.raises(MemoryError, match="no memory"):
        choice.measure(64, 1)
