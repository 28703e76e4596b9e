"""Does the one module that knows the device say what it measures, and measure what it says?"""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn

from vitbench.config import ViTConfig
from vitbench.device import CpuDevice, CudaDevice, Device, cpu, cuda, is_out_of_memory, open_device
from vitbench.device.energy import NotAvailableError
from vitbench.device.memory import LiveBytes
from vitbench.machine import cache_directory
from vitbench.models import build_model

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
    assert CpuDevice(CPU).bf16_speedup() == 2.0
    assert CpuDevice(CPU).bf16_speedup() == 2.0
    assert len(measured) == 1


def test_a_torn_memory_of_it_is_measured_anew(measured):
    file = cache_directory() / "bf16_speedup.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"cpu: x')
    assert CpuDevice(CPU).bf16_speedup() == 2.0
    assert list(json.loads(file.read_text()).values()) == [2.0]


def test_without_a_place_to_remember_it_is_measured_each_time(measured, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "file" / "below"))
    assert CpuDevice(CPU).bf16_speedup() == CpuDevice(CPU).bf16_speedup() == 2.0
    assert len(measured) == 2


@pytest.mark.parametrize(("speedup", "precision"), [(1.49, "fp32"), (1.5, "bf16")])
def test_auto_takes_bf16_where_it_is_fast(monkeypatch, speedup, precision):
    monkeypatch.setattr(Device, "_measure_bf16_speedup", lambda _: speedup)
    assert CpuDevice(CPU).resolve_precision("auto") == precision
    assert CpuDevice(CPU).resolve_precision("fp32") == "fp32"


def test_what_cannot_be_compiled_runs_eagerly_and_says_why(monkeypatch):
    def broken(_: nn.Module, mode: str) -> nn.Module:
        raise RuntimeError("no compiler\nin sight")

    monkeypatch.setattr(cpu.torch, "compile", broken)
    model, example = nn.Linear(2, 2), torch.ones(1, 2)
    assert CpuDevice(CPU).compile(model, "auto", example=example) == (
        model,
        False,
        "runs eagerly: RuntimeError: no compiler in sight",
    )
    assert CpuDevice(CPU).compile(model, "off", example=example) == (model, False, "")
    with pytest.raises(RuntimeError, match="no compiler"):
        CpuDevice(CPU).compile(model, "on", example=example)


def test_convolutions_lie_with_channels_last_where_there_is_cuda():
    device = CudaDevice.__new__(CudaDevice)  # without a GPU to open
    device.torch_device = CPU
    model = device.place(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 2)))
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert model[0](torch.ones(2, 3, 3, 5)).is_contiguous(memory_format=torch.channels_last)


def test_cuda_graphs_are_asked_for_where_there_is_cuda(monkeypatch):
    asked = []
    monkeypatch.setattr(cpu.torch, "compile", lambda model, mode: asked.append(mode) or model)
    for kind in (CpuDevice, CudaDevice):
        device = kind.__new__(kind)  # without a GPU to open
        device.compile(nn.Linear(2, 2), "on", example=torch.ones(1, 2))
    assert asked == ["default", "reduce-overhead"]


@pytest.fixture
def graphs(monkeypatch):
    """The graphs that torch.compile has made, which run as they are."""
    made = []

    def counting(graph, _):
        made.append(graph)
        return graph.forward

    real = torch.compile
    monkeypatch.setattr(cpu.torch, "compile", lambda model, mode: real(model, backend=counting))
    monkeypatch.setattr(Device, "compiled_shape", "")
    return made


@pytest.mark.filterwarnings("default")
def test_runs_of_equal_shape_share_what_is_compiled(graphs):
    example = torch.zeros(2, 4)

    def compile_and_call(width: int) -> int:
        model = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.GELU())
        compiled, _, _ = CpuDevice(CPU).compile(model, "on", example=example)
        compiled(example)
        return len(graphs)

    first = compile_and_call(3)
    assert compile_and_call(3) == first
    assert compile_and_call(5) > first


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_every_model_of_a_long_lived_worker_is_really_compiled(graphs):
    for width in range(16, 16 + 12 * 8, 8):
        config = ViTConfig(image_size=8, patch_size=4, width=width, depth=1, num_heads=1, num_classes=3)
        example = torch.zeros(2, 3, 8, 8)
        compiled, is_compiled, note = CpuDevice(CPU).compile(build_model(config), "on", example=example)
        before = len(graphs)
        compiled(example)
        assert is_compiled and note == ""
        assert len(graphs) > before


def test_devices_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="device 'tpu' is not known; use auto, cpu, cuda or cuda:N"):
        open_device("tpu")


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_running_out_of_memory_is_told_from_other_errors(error, is_memory):
    assert is_out_of_memory(error) is is_memory


def test_the_cpu_s_own_allocator_is_seen_to_run_out():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(raised.value)


def test_room_is_what_is_free_over_what_the_work_takes(monkeypatch):
    monkeypatch.setattr(cpu, "available_bytes", lambda: 400 * 2**20)
    room = CpuDevice(CPU).room_for(lambda: torch.ones(100 * 2**20 // 4))
    assert room == pytest.approx(4, rel=0.2)


def test_room_that_nobody_tells_is_none_and_the_work_is_done(monkeypatch):
    monkeypatch.setattr(cpu, "available_bytes", lambda: None)
    done = []
    assert CpuDevice(CPU).room_for(lambda: done.append(1)) is None and done == [1]


def state(**changes: float) -> dict[str, float]:
    return {"seconds": 100.0, "busy_core_seconds": 50.0, "own_core_seconds": 10.0, "cores": 4.0, **changes}


@pytest.mark.parametrize(
    ("others", "warning"), [(3.9, ""), (15.0, "other processes kept 1.5 of 4 cores busy meanwhile")]
)
def test_other_processes_on_the_cores_are_a_warning_from_a_tenth_of_them_on(others, warning):
    after = state(seconds=110.0, busy_core_seconds=50 + 20 + others, own_core_seconds=10.0 + 20)
    told = CpuDevice(CPU).state_between(state(), after)
    assert told.other_cores == pytest.approx(others / 10) and told.warning == warning and not told.missing


def test_the_state_of_a_cpu_has_its_threads_and_load():
    told = CpuDevice(CPU).state()
    assert told["threads"] == torch.get_num_threads() and told["cores"] >= 1 and "load_average" in told


def cuda_without_a_gpu(nvml) -> CudaDevice:
    """Its CUDA side, as far as it asks NVML; a constructed one needs a GPU."""
    device = CudaDevice.__new__(CudaDevice)
    if nvml is not None:
        device._nvml = nvml
    device.torch_device = torch.device("cuda", 0)
    return device


@pytest.mark.parametrize(
    ("before", "after", "warning"),
    [
        (0, 0, ""),
        (None, None, ""),
        (0, 1, "1 other process computed on this GPU meanwhile"),
        (2, 1, "2 other processes computed on this GPU meanwhile"),
    ],
)
def test_other_processes_on_the_gpu_are_a_warning(before, after, warning):
    device = cuda_without_a_gpu(nvml=object())
    told = device.state_between(state(gpu_other_processes=before), state(gpu_other_processes=after))
    assert told.warning == warning and not told.missing


def test_both_processors_busy_with_others_are_both_told():
    device = cuda_without_a_gpu(nvml=object())
    after = state(seconds=110.0, busy_core_seconds=70.0, gpu_other_processes=1)
    told = device.state_between(state(), after).warning
    assert "1 other process computed on this GPU" in told and "2.0 of 4 cores busy" in told


def test_without_nvml_the_state_is_the_cpu_s_and_says_why(monkeypatch):
    def missing(uuid):
        raise NotAvailableError("nvidia-ml-py is not installed: pip install vitbench[nvml]")

    class Properties:
        uuid = "1111"

    monkeypatch.setattr(cuda, "Nvml", missing)
    monkeypatch.setattr(cuda.torch.cuda, "get_device_properties", lambda _: Properties)
    device = cuda_without_a_gpu(nvml=None)
    told = device.state()
    assert told["threads"] == torch.get_num_threads() and "gpu_sm_mhz" not in told
    assert device.state_between(told, told).missing.endswith("pip install vitbench[nvml]")
    with pytest.raises(NotAvailableError, match="nvidia-ml-py"):
        device.energy_counter()


def test_the_gpu_is_looked_up_by_the_uuid_that_torch_tells(monkeypatch):
    class Properties:
        uuid = "2222"

    class MadeUpNvml:
        def __init__(self, uuid):
            self.uuid = uuid

        def joules(self):
            return 5.0

        def state(self):
            return {"gpu_sm_mhz": 1980.0}

    monkeypatch.setattr(cuda, "Nvml", MadeUpNvml)
    monkeypatch.setattr(cuda.torch.cuda, "get_device_properties", lambda _: Properties)
    device = cuda_without_a_gpu(nvml=None)
    assert device.energy_counter().uuid == "2222" and device.energy_counter() is device.energy_counter()
    assert device.state()["gpu_sm_mhz"] == 1980.0


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")


@needs_cuda
def test_cuda_times_what_the_device_does_not_what_is_launched():
    device = open_device("cuda")
    a = torch.ones(4096, 4096, device="cuda")

    def work() -> None:
        for _ in range(20):
            a @ a

    work()
    launching = device.time(lambda: None)
    assert device.time(work) > 20 * 2 * 4096**3 / 1e15 > launching  # no GPU does 10^15 FLOP/s in fp32


@needs_cuda
def test_cuda_tells_its_state_and_energy_or_why_not():
    device = open_device("cuda")
    before = device.state()
    told = device.state_between(before, device.state())
    assert told.missing or told.after["gpu_power_limit_watts"] > 10
    try:
        counter = device.energy_counter()
    except NotAvailableError as error:
        pytest.skip(str(error))
    assert counter.joules() > 0


@needs_cuda
def test_cuda_s_memory_is_given_back_after_running_out_of_it():
    device = open_device("cuda")
    device.release()
    before = torch.cuda.memory_reserved()

    def fill() -> None:
        kept = []
        kept.append(kept)  # only the collector of cycles frees it
        while True:
            kept.append(torch.empty(1 << 33, dtype=torch.uint8, device="cuda"))

    with pytest.raises(torch.OutOfMemoryError):
        fill()
    device.release()
    assert torch.cuda.memory_reserved() == before


@needs_cuda
def test_cuda_s_autocast_is_bf16_and_fp32_is_not_tf32():
    device = open_device("cuda")
    x = torch.full((64, 64), 1 + 2**-12, device="cuda")  # TF32 keeps 10 bits of the fraction
    with device.autocast("bf16"):
        assert (x @ x).dtype == torch.bfloat16
    with device.autocast("fp32"):
        assert torch.allclose((x @ torch.eye(64, device="cuda")), x, rtol=1e-7, atol=0)


@needs_cuda
def test_cuda_counts_memory_above_what_lay_there_before():
    device = open_device("cuda")
    before = torch.ones(1 << 20, device="cuda")
    device.start_memory()
    with device.watch_memory():
        during = torch.ones(1 << 18, device="cuda")
    assert device.peak_memory_bytes() == during.numel() * 4
    assert len(before)


@pytest.mark.parametrize("stem", ["patch", "conv"])
def test_channels_last_is_another_layout_of_convolutions_and_the_same_function(stem, monkeypatch):
    device = cuda_without_a_gpu(nvml=None)
    device.torch_device = CPU  # the layout does not depend on it
    config = ViTConfig(image_size=8, patch_size=4, width=16, depth=1, num_heads=1, num_classes=3, stem=stem)
    model, images = build_model(config).double().eval(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    expected = model(images)
    placed = device.place(model)
    torch.testing.assert_close(placed(images), expected, rtol=0, atol=1e-12)
    for weight in placed.parameters():
        assert weight.ndim != 4 or weight.is_contiguous(memory_format=torch.channels_last)


GUARD = """
import sys
{first}
from torch._dynamo.guards import GuardBuilder
sys.version_info = (3, 13, 0)
GuardBuilder._get_generic_dict_manager_example_value(1)
"""
"""What torch.compile does on Python 3.13.0, whatever Python this is."""


@pytest.mark.parametrize(("first", "silent"), [("", False), ("import vitbench.device", True)])
def test_torch_s_warning_about_python_3_13_0_is_not_printed(first, silent):
    code = GUARD.format(first=first)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ("Guards may run slower" not in done.stderr) is silent


def test_torch_s_warning_about_python_3_13_0_is_no_error_in_tests():
    warnings.warn("Guards may run slower on Python 3.13.0. Consider upgrading.", RuntimeWarning, stacklevel=1)
    with pytest.raises(RuntimeWarning):
        warnings.warn("Guards may run slower on Python 3.13.1.", RuntimeWarning, stacklevel=1)
