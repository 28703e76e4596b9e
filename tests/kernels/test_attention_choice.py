"""Is the fastest attention kernel that is right taken, remembered and named, and does the model compute the same with it?"""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from tests.models.small_models import images_for, small_config, small_model
from vitbench.device import CpuDevice
from vitbench.kernels import attention_choice, install
from vitbench.kernels.attention_choice import (
    AttentionShape,
    MeasuredKernels,
    choose_attention,
    describe_attention,
    measure_kernels,
    measured,
    remembered_choices,
    why_not,
)
from vitbench.machine import cache_directory
from vitbench.models import build_model
from vitbench.models.attention import attention

CPU = CpuDevice(torch.device("cpu"))
SHAPE = AttentionShape(batch=2, heads=2, queries=9, tokens=9, head_dim=16)


class AsIfCuda(CpuDevice):
    """Computes on CPU, where two of torch's kernels are, and says that it is a GPU."""

    name = "cuda: made up"

    def __init__(self) -> None:
        self.torch_device = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VITBENCH_ATTENTION", raising=False)


@pytest.fixture
def timings(monkeypatch):
    """Milliseconds by kernel that a made-up GPU measures, and the shapes that it was asked for."""

    class Timings:
        def __init__(self) -> None:
            self.milliseconds = {"fused": 2.0, "flash": 2.0, "cudnn": 1.0, "math": 5.0}
            self.asked: list[AttentionShape] = []

    told = Timings()

    def measure(shape, precision, device):
        told.asked.append(shape)
        return MeasuredKernels(dict(told.milliseconds), {"efficient": "RuntimeError: not here"})

    monkeypatch.setattr(attention_choice, "measure_kernels", measure)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 92000)
    return told


@pytest.mark.parametrize(
    ("milliseconds", "fastest"),
    [
        ({"fused": 2.0, "flash": 2.0, "cudnn": 1.0}, "cudnn"),
        ({"fused": 1.04, "cudnn": 1.0}, "fused"),
        ({"fused": 1.06, "cudnn": 1.0}, "cudnn"),
        ({"fused": 1.0, "math": 3.0}, "fused"),
        ({"math": 3.0, "matmul": 2.0}, "matmul"),
        ({}, "fused"),
    ],
)
def test_a_kernel_is_taken_where_it_is_clearly_faster_than_torch_s_choice(milliseconds, fastest):
    assert MeasuredKernels(milliseconds, {}).fastest == fastest


def test_a_shape_is_measured_once_and_remembered(timings):
    first = measured(SHAPE, "bf16", AsIfCuda())
    timings.milliseconds = {"fused": 1.0}
    assert measured(SHAPE, "bf16", AsIfCuda()) == first and first.fastest == "cudnn"
    assert measured(SHAPE, "fp32", AsIfCuda()).fastest == "fused" and len(timings.asked) == 2
    assert remembered_choices(AsIfCuda()) == {
        f"bf16 | {SHAPE}": first,
        f"fp32 | {SHAPE}": MeasuredKernels({"fused": 1.0}, first.reasons),
    }
    assert remembered_choices(CPU) == {}


@pytest.mark.parametrize("value", ["cudnn", {}, {"milliseconds": {"other": 1.0}, "reasons": {}}, {"milliseconds": 1}])
def test_a_value_of_another_kind_in_the_cache_is_measured_anew(timings, value):
    measured(SHAPE, "bf16", AsIfCuda())
    path = cache_directory() / "attention_kernels.json"
    (key,) = json.loads(path.read_text())
    path.write_text(json.dumps({key: value}))
    assert measured(SHAPE, "bf16", AsIfCuda()).fastest == "cudnn" and len(timings.asked) == 2


def chosen(model: torch.nn.Module, **options) -> list[str]:
    choose_attention(model, AsIfCuda(), **{"precision": "bf16", "batch_size": 64, **options})
    return [block.attention.kernel for block in model.blocks]


def test_every_block_gets_the_kernel_of_its_own_shape(timings):
    model = build_model(small_config(pool="cls"))  # 2 × 3 patches and a class token, which alone is read at last
    assert chosen(model) == ["cudnn"] * 3
    usual, last = timings.asked
    assert usual == AttentionShape(batch=64, heads=2, queries=7, tokens=7, head_dim=8)
    assert last == AttentionShape(batch=64, heads=2, queries=1, tokens=7, head_dim=8)
    assert describe_attention(model) == "attention cudnn"


def test_a_bias_and_a_forward_pass_alone_are_shapes_of_their_own(timings):
    chosen(build_model(small_config(pool="gap", position="relative", position_site="every_layer")), backward=False)
    assert timings.asked == [AttentionShape(64, 2, 6, 6, 8, bias=True, backward=False)]


def test_what_is_random_is_left_to_torch_while_it_trains(timings):
    dropped = build_model(small_config(attention_dropout=0.1))
    assert chosen(dropped) == ["auto"] * 3 and describe_attention(dropped) == ""
    assert chosen(dropped, backward=False) == ["cudnn"] * 3


def test_nothing_is_chosen_on_a_cpu_whatever_is_forced(timings, monkeypatch):
    monkeypatch.setenv("VITBENCH_ATTENTION", "math")
    model = build_model(small_config())
    choose_attention(model, CPU, precision="bf16", batch_size=64)
    assert describe_attention(model) == "" and not timings.asked


def test_a_kernel_can_be_forced(timings, monkeypatch):
    monkeypatch.setattr(attention_choice, "why_not", lambda *_: "")
    monkeypatch.setenv("VITBENCH_ATTENTION", "math")
    model = build_model(small_config(attention_dropout=0.1))
    assert chosen(model) == ["math"] * 3 and not timings.asked
    assert describe_attention(model) == "attention math"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fast", "VITBENCH_ATTENTION 'fast' is no attention kernel; use auto, fused, matmul, flash"),
        (
            "cudnn",
            r"VITBENCH_ATTENTION 'cudnn' cannot compute 64 images, 2 heads of 8, 7 tokens, .*: not here; use auto",
        ),
    ],
)
def test_a_forced_kernel_that_is_none_or_cannot_is_refused(timings, monkeypatch, name, message):
    monkeypatch.setattr(attention_choice, "why_not", lambda *_: "not here")
    monkeypatch.setenv("VITBENCH_ATTENTION", name)
    with pytest.raises(ValueError, match=message):
        chosen(build_model(small_config()))


def test_the_last_block_s_kernel_is_named_where_it_is_another():
    model = build_model(small_config())
    for block, kernel in zip(model.blocks, ("flash", "flash", "matmul"), strict=True):
        block.attention.kernel = kernel
    assert describe_attention(model) == "attention flash, last block matmul"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("bias", [False, True])
def test_torch_s_kernels_on_this_cpu_are_really_measured(precision, bias):
    shape = AttentionShape(2, 2, 1, 9, 16, bias=bias)
    result = measure_kernels(shape, precision, CPU)
    assert {"fused", "matmul", "math"} <= result.milliseconds.keys() <= set(attention_choice.CHOICES)
    assert result.reasons["cudnn"] == result.reasons["efficient"] == "torch has none for this"
    assert ("flash" in result.reasons) is bias  # torch's flash kernel takes no bias that learns
    assert all(time > 0 for time in result.milliseconds.values())
    assert result.ratios.startswith(f"{min(result.milliseconds, key=result.milliseconds.get)} 1, ")


def test_a_kernel_that_computes_something_else_is_not_taken(monkeypatch):
    def wrong(*tensors: Tensor, kernel: str, **options) -> Tensor:
        return attention(*tensors, kernel=kernel, **options) * (1.1 if kernel == "math" else 1)

    monkeypatch.setattr(attention_choice, "attention", wrong)
    assert why_not("math", SHAPE, "bf16", CPU).startswith("its results differ by 0.")
    assert "math" not in measure_kernels(SHAPE, "bf16", CPU).milliseconds


def test_running_out_of_memory_leaves_a_kernel_out(monkeypatch):
    def hungry(*tensors: Tensor, kernel: str, **options) -> Tensor:
        if kernel == "math" and len(tensors[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return attention(*tensors, kernel=kernel, **options)

    monkeypatch.setattr(attention_choice, "attention", hungry)
    result = measure_kernels(AttentionShape(4, 2, 9, 9, 16), "fp32", CPU)
    assert "CUDA out of memory" in result.reasons["math"] and "fused" in result.milliseconds


@pytest.mark.parametrize("changes", [{}, {"pool": "gap"}, {"position": "rope_2d", "position_site": "every_layer"}])
@pytest.mark.parametrize("kernel", ["flash", "math", "fused", "matmul"])
def test_a_model_gives_equal_logits_and_gradients_with_every_kernel_of_this_cpu(kernel, changes):
    results = []
    for name in ("matmul", kernel):
        model = install(small_model(**changes))
        for block in model.blocks:
            block.attention.kernel = name
        logits = model(images_for(model.config))
        logits.square().sum().backward()
        results.append([logits, *(parameter.grad for parameter in model.parameters())])
    for expected, result in zip(*results, strict=True):
        torch.testing.assert_close(result, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kernel", ["flash", "math"])
def test_a_chosen_kernel_can_be_compiled_as_one_graph(kernel):
    torch._dynamo.reset()
    q = torch.randn(1, 2, 9, 16)
    compiled = torch.compile(attention, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(q, q, q, kernel=kernel), attention(q, q, q, kernel="matmul"))


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")


@needs_cuda
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_kernel_of_this_gpu_is_right_or_says_why_not(precision, bias):
    from vitbench.device import open_device

    device = open_device("cuda")
    for queries in (1, 197):
        result = measure_kernels(AttentionShape(8, 3, queries, 197, 64, bias=bias), precision, device)
        assert {"fused", "matmul"} <= result.milliseconds.keys()
        assert not any("differ" in reason for reason in result.reasons.values()), result.reasons
