"""Does the one module that knows the device say what it measures, and measure what it says?"""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from vitbench.machine import cache_directory
from vitbench.profiling import device as device_module
from vitbench.profiling.device import Device, open_device
from vitbench.profiling.memory import LiveBytes

CPU = torch.device("cpu")


def test_live_bytes_of_tensors_counted_by_hand():
    with LiveBytes() as live:
        a = torch.ones(1000, 250)  # 1 MB
        b = a + 1  # 2 MB
        view = b.view(-1)
        del b
        c = view * 2  # 3 MB, the peak: the view keeps b's storage alive
        del view, a
        d = c.half()  # 1.5 MB
    assert live.peak == 3_000_000
    assert d.dtype == torch.float16


def test_a_training_step_of_one_linear_layer_needs_what_a_hand_count_says():
    layer = nn.Linear(1000, 1000, bias=False)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    x = torch.ones(1, 1000)
    with LiveBytes() as live:
        layer(x).sum().backward()
        optimizer.step()
    weight = 4_000_000
    # Weight and gradient, and vectors of at most a few kilobytes.
    assert 2 * weight <= live.peak <= 2 * weight + 50_000


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def measured(monkeypatch):
    """How often the speed of bf16 was really measured."""
    calls = []
    monkeypatch.setattr(Device, "_measure_bf16_speedup", lambda self: calls.append(self) or 2.0)
    return calls


def test_the_speed_of_bf16_is_measured_once_and_remembered(measured):
    assert Device(CPU).bf16_speedup() == 2.0
    assert Device(CPU).bf16_speedup() == 2.0
    assert len(measured) == 1


def test_a_torn_memory_of_it_is_measured_anew(measured):
    file = cache_directory() / "bf16_speedup.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"cpu: x')
    assert Device(CPU).bf16_speedup() == 2.0
    assert list(json.loads(file.read_text()).values()) == [2.0]


def test_without_a_place_to_remember_it_is_measured_each_time(measured, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "file" / "below"))
    assert Device(CPU).bf16_speedup() == Device(CPU).bf16_speedup() == 2.0
    assert len(measured) == 2


@pytest.mark.parametrize(("speedup", "precision"), [(1.49, "fp32"), (1.5, "bf16")])
def test_auto_takes_bf16_where_it_is_fast(monkeypatch, speedup, precision):
    monkeypatch.setattr(Device, "_measure_bf16_speedup", lambda _: speedup)
    assert Device(CPU).resolve_precision("auto") == precision
    assert Device(CPU).resolve_precision("fp32") == "fp32"


def test_what_cannot_be_compiled_runs_eagerly_and_says_why(monkeypatch):
    def broken(_: nn.Module) -> nn.Module:
        raise RuntimeError("no compiler\nin sight")

    monkeypatch.setattr(device_module.torch, "compile", broken)
    model, example = nn.Linear(2, 2), torch.ones(1, 2)
    assert Device(CPU).compile(model, "auto", example=example) == (
        model,
        False,
        "runs eagerly: RuntimeError: no compiler in sight",
    )
    assert Device(CPU).compile(model, "off", example=example) == (model, False, "")
    with pytest.raises(RuntimeError, match="no compiler"):
        Device(CPU).compile(model, "on", example=example)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_every_model_of_a_long_lived_worker_is_really_compiled(monkeypatch):
    graphs = []

    def counting(graph, _):
        graphs.append(graph)
        return graph.forward

    real = torch.compile
    monkeypatch.setattr(device_module.torch, "compile", lambda model: real(model, backend=counting))
    from vitbench.config import ViTConfig
    from vitbench.models import build_model

    for width in range(16, 16 + 12 * 8, 8):
        config = ViTConfig(image_size=8, patch_size=4, width=width, depth=1, num_heads=1, num_classes=3)
        example = torch.zeros(2, 3, 8, 8)
        compiled, is_compiled, note = Device(CPU).compile(build_model(config), "on", example=example)
        before = len(graphs)
        compiled(example)
        assert is_compiled and note == ""
        assert len(graphs) > before


def test_devices_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="device 'tpu' is not known; use auto, cpu, cuda or cuda:N"):
        open_device("tpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_cuda_counts_memory_above_what_lay_there_before():
    device = open_device("cuda")
    before = torch.ones(1 << 20, device="cuda")
    device.start_memory()
    with device.watch_memory():
        during = torch.ones(1 << 18, device="cuda")
    assert device.peak_memory_bytes() == during.numel() * 4
    assert len(before)
