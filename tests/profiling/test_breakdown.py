"""Do the rows of a breakdown hold what one counts by hand, in traces made up of a few events?"""

from __future__ import annotations

import json
from dataclasses import replace
from operator import attrgetter

import pytest
import torch

from vitbench.profiling.breakdown import Breakdown, Row, block_name, module_part, role_name
from vitbench.profiling.event_walk import analyse
from vitbench.profiling.events import KERNEL, LAUNCH, NODE, OPERATOR, RANGE, Event, read_events
from vitbench.profiling.operations import KINDS, operator_bytes, operator_flops, operator_kind

KIND = attrgetter("kind")
PLACES = {7: "blocks.0.mlp.fc1", 8: "loss"}


def event(name: str, start: int, end: int, category: str = OPERATOR, thread: str = "main", **more: object) -> Event:
    return Event(name, category, start, end, thread, **more)


def tensors(*shapes: tuple[int, ...], kind: str = "float") -> dict[str, object]:
    """Dense inputs of one type."""
    return {"shapes": tuple((shape,) for shape in shapes), "types": (kind,) * len(shapes)}


PRODUCT = tensors((5,), (2, 3), (3, 5))
STEP = [
    event("step", 0, 1000, RANGE),
    event("forward", 10, 400, RANGE),
    event("blocks.0.mlp", 20, 300, RANGE),
    event("blocks.0.mlp.fc1", 30, 250, RANGE),
    event("aten::linear", 40, 240, sequence=7),
    event("aten::t", 45, 60, sequence=7),
    event("aten::addmm", 70, 230, **PRODUCT),
    event("aten::copy_", 80, 110),
    event("aten::cat", 320, 390),
    event("loss", 400, 450, RANGE),
    event("aten::_log_softmax", 410, 440, sequence=8),
    event("backward", 450, 900, RANGE),
    event(NODE + "LogSoftmaxBackward0", 460, 500, sequence=8),
    event("aten::_log_softmax_backward_data", 465, 495),
    event(NODE + "AddmmBackward0", 500, 800, sequence=7),
    event("AddmmBackward0", 510, 790, sequence=7),
    event("aten::mm", 520, 780, **tensors((3, 2), (2, 5))),
    event(NODE + "torch::autograd::AccumulateGrad", 800, 840),
    event("aten::add_", 805, 835),
    event("clip", 900, 930, RANGE),
    event("aten::_foreach_norm", 905, 925),
    event("optimizer", 930, 990, RANGE),
    event("aten::_fused_adamw_", 940, 980),
]
MODULES = {"blocks.0", "blocks.0.mlp", "blocks.0.mlp.fc1"}
BY_HAND = {
    ("blocks.0.mlp", "untracked", "forward"): (30 - 20) + (300 - 250) + (40 - 30) + (250 - 240),
    ("blocks.0.mlp", "other", "forward"): (200 - 15 - 160) + 15,
    ("blocks.0.mlp", "linear", "forward"): 160,
    ("elsewhere", "copy", "forward"): 70,
    ("elsewhere", "untracked", "forward"): 390 - 280 - 70,
    ("loss", "softmax", "forward"): 30,
    ("loss", "untracked", "forward"): 20,
    ("loss", "other", "backward"): 10,
    ("loss", "softmax", "backward"): 30,
    ("blocks.0.mlp", "other", "backward"): (300 - 260) + (40 - 30),
    ("blocks.0.mlp", "linear", "backward"): 260,
    ("blocks.0.mlp", "elementwise", "backward"): 30,
    ("elsewhere", "untracked", "backward"): 450 - 40 - 300 - 40,
    ("clip", "optimizer", "update"): 20,
    ("clip", "untracked", "update"): 10,
    ("optimizer", "optimizer", "update"): 40,
    ("optimizer", "untracked", "update"): 20,
    ("elsewhere", "untracked", "between"): 10 + 10,
}
"""Nanoseconds."""


def nanoseconds(breakdown: Breakdown) -> dict[tuple[str, str, str], int]:
    return {(r.part, r.kind, r.phase): round(1e9 * r.seconds) for r in breakdown.rows if r.seconds}


def break_down(events: list[Event]) -> Breakdown:
    return analyse(events, modules=MODULES, node_place=PLACES.__getitem__).breakdown


def test_self_times_are_those_counted_by_hand_and_sum_to_the_step():
    breakdown = break_down(STEP)
    assert nanoseconds(breakdown) == BY_HAND
    assert sum(BY_HAND.values()) == 1000 == round(1e9 * breakdown.step_seconds)
    assert {row.kind for row in breakdown.rows} <= set(KINDS)


def test_a_backward_pass_on_a_thread_of_its_own_gives_the_same_rows():
    elsewhere = [replace(e, thread="autograd") if 460 <= e.start < 840 else e for e in STEP]
    assert nanoseconds(break_down(elsewhere)) == BY_HAND


def test_events_of_other_threads_and_outside_of_steps_are_left_out():
    more = [
        event("aten::mm", 100, 700, thread="loader"),
        event("aten::mm", 1100, 1200),
        event("ProfilerStep#1", -5, 1005, RANGE),
    ]
    assert nanoseconds(break_down([*STEP, *more])) == BY_HAND


def test_several_steps_give_their_mean():
    longer = [replace(e, start=e.start + 2000, end=e.end + 2000) for e in STEP]
    longer[0] = replace(longer[0], end=longer[0].end + 100)
    breakdown = break_down([*STEP, *longer])
    assert breakdown.steps == 2 and breakdown.step_seconds == pytest.approx(1050e-9)
    expected = {**BY_HAND, ("elsewhere", "untracked", "between"): 20 + 50}
    assert nanoseconds(breakdown) == expected
    assert sum(row.calls for row in breakdown.rows) == sum(row.calls for row in break_down(STEP).rows)


def test_a_child_that_outlives_its_parent_by_rounding_takes_no_time_from_others():
    events = [replace(e, end=301) if e.name == "blocks.0.mlp.fc1" else e for e in STEP]
    assert sum(nanoseconds(break_down(events)).values()) == 1000


def test_calls_flops_and_bytes_are_counted_once_where_the_work_is_done():
    linear = break_down(STEP).of_phase("forward").grouped(KIND)["linear"]
    assert (linear.calls, linear.flops) == (1, 2 * 2 * 3 * 5)
    assert linear.bytes == 4 * (5 + 2 * 3 + 3 * 5 + 2 * 5)
    assert linear.flops_per_second == pytest.approx(60 / 160e-9) and linear.intensity == 60 / 144
    copies = break_down(STEP).grouped(KIND)["copy"]
    assert copies.calls == 1, "the copy within addmm is part of it"


def test_a_batched_product_is_attention_unless_a_linear_layer_calls_it():
    product = tensors((6, 2, 3), (6, 3, 4))
    events = [
        event("step", 0, 100, RANGE),
        event("aten::linear", 10, 40),
        event("aten::matmul", 12, 38),
        event("aten::bmm", 15, 35, **product),
        event("aten::bmm", 50, 80, **product),
    ]
    kinds = break_down(events).grouped(KIND)
    assert {name: round(1e9 * kinds[name].seconds) for name in ("linear", "attention")} == {
        "linear": 20,
        "attention": 30,
    }
    assert kinds["linear"].flops == kinds["attention"].flops == 6 * 2 * 2 * 3 * 4


def test_operators_have_the_time_of_their_own_and_with_what_they_call():
    operators = {o.name: o for o in analyse(STEP, modules=MODULES, node_place=PLACES.__getitem__).operators}
    addmm = operators["aten::addmm"]
    assert (round(1e9 * addmm.self_seconds), round(1e9 * addmm.total_seconds), addmm.flops) == (130, 160, 60)
    assert next(iter(operators)) == "aten::mm", "the slowest comes first"


def test_backward_spans_join_nodes_of_one_module():
    spans = analyse(STEP, modules=MODULES, node_place=PLACES.__getitem__).backward
    assert [(s.place, s.start, s.end) for s in spans] == [("loss", 460, 500), ("blocks.0.mlp.fc1", 500, 840)]


def test_on_cuda_rows_are_the_time_of_kernels_and_idle_is_the_rest():
    events = [
        event("step", 0, 1000, RANGE),
        event("forward", 0, 200, RANGE),
        event("blocks.0", 0, 190, RANGE),
        event("aten::addmm", 10, 50, **PRODUCT),
        event("cudaLaunchKernel", 20, 30, LAUNCH, correlation=1),
        event("aten::gelu", 60, 90),
        event("cudaLaunchKernel", 70, 80, LAUNCH, correlation=2),
        event("gemm", 100, 400, KERNEL, "stream 7", correlation=1),
        event("gelu", 350, 500, KERNEL, "stream 8", correlation=2),
        event("unknown", 900, 950, KERNEL, "stream 7", correlation=3),
    ]
    analysis = analyse(events, modules=MODULES)
    assert nanoseconds(analysis.breakdown) == {
        ("blocks.0", "linear", "forward"): 300,
        ("blocks.0", "activation", "forward"): 100,  # while gemm ran too, the time is gemm's
        ("elsewhere", "other", "between"): 50,
        ("elsewhere", "idle", "between"): 100 + 400 + 50,
    }
    assert sum(row.flops for row in analysis.breakdown.rows) == 60
    assert [(k.name, round(1e9 * k.self_seconds)) for k in analysis.kernels] == [
        ("gemm", 300),
        ("gelu", 150),
        ("unknown", 50),
    ]
    assert {o.name: round(1e9 * o.device_seconds) for o in analysis.operators} == {
        "aten::addmm": 300,
        "aten::gelu": 150,
    }


def test_what_a_compiled_graph_runs_itself_is_compiled_and_its_products_are_products():
    events = [
        event("step", 0, 100, RANGE),
        event("forward", 0, 100, RANGE),
        event("model", 0, 100, RANGE),
        event("## Call CompiledFxGraph abc ##", 10, 90, RANGE),
        event("aten::mm", 20, 60, **tensors((2, 3), (3, 4), (2, 4))),
    ]
    breakdown = analyse(events, modules={"model"}).breakdown
    assert nanoseconds(breakdown) == {
        ("model", "untracked", "forward"): 20,
        ("model", "compiled", "forward"): 40,
        ("model", "linear", "forward"): 40,
    }
    assert breakdown.grouped(KIND)["linear"].bytes == 4 * (6 + 12 + 8), "the result's memory is given, and counted once"


def test_a_trace_without_steps_is_refused():
    with pytest.raises(ValueError, match="has no range 'step'; record it with vitbench trace"):
        analyse(STEP[1:], modules=MODULES)


def test_a_breakdown_as_json_holds_its_rows_and_their_sum():
    breakdown = break_down(STEP)
    document = json.loads(json.dumps(breakdown.as_json()))
    assert tuple(Row(**row) for row in document["rows"]) == breakdown.rows
    assert (document["step_seconds"], document["steps"]) == (breakdown.step_seconds, breakdown.steps)


def test_groups_sum_their_rows():
    rows = (
        Row("blocks.0.attention", "linear", "forward", 1.0, 1, 10, 100),
        Row("blocks.0.attention", "linear", "backward", 2.0, 2, 20, 200),
        Row("blocks.1.norm2", "norm", "forward", 4.0, 4, 0, 400),
        Row("head", "linear", "forward", 8.0, 8, 80, 800),
    )
    breakdown = Breakdown(rows, 15.0, 1)
    assert breakdown.grouped(KIND)["linear"] == Row("", "linear", "", 11.0, 11, 110, 1100)
    assert breakdown.grouped(lambda row: block_name(row.part))["blocks.0"] == Row(
        "blocks.0.attention", "linear", "", 3.0, 3, 30, 300
    )
    assert {name: row.seconds for name, row in breakdown.grouped(lambda row: role_name(row.part)).items()} == {
        "attention": 3.0,
        "norm": 4.0,
        "head": 8.0,
    }
    assert list(breakdown.grouped(attrgetter("part"))) == ["blocks.0.attention", "blocks.1.norm2", "head"]
    assert breakdown.of_phase("forward").step_seconds == 13.0
    assert breakdown.rows[2].intensity is None and breakdown.rows[2].flops_per_second is None


@pytest.mark.parametrize(
    ("place", "part", "block", "role"),
    [
        ("blocks.3.attention.qkv", "blocks.3.attention", "blocks.3", "attention"),
        ("blocks.3.attention.relative", "position", "position", "position"),
        ("blocks.11.norm1", "blocks.11.norm1", "blocks.11", "norm"),
        ("blocks.11", "blocks.11", "blocks.11", "blocks"),
        ("stem.projection", "stem", "stem", "stem"),
        ("head.hidden", "head", "head", "head"),
        ("norm", "norm", "norm", "norm"),
        ("loss", "loss", "loss", "loss"),
        ("model", "model", "model", "model"),
        # timm, torchvision, transformers, vit-pytorch
        ("blocks.0.attn.qkv", "blocks.0.attn", "blocks.0", "attention"),
        ("encoder.layers.encoder_layer_0.ln_1", "layers.encoder_layer_0.ln_1", "layers.encoder_layer_0", "norm"),
        ("model.vit.layers.1.layernorm_before", "layers.1.layernorm_before", "layers.1", "norm"),
        ("transformer.layers.0.1.net", "layers.0.1", "layers.0", "blocks"),
        # any model of timm, in the module that holds it
        ("timm.blocks.0.attn.qkv", "blocks.0.attn", "blocks.0", "attention"),
        ("timm.stages.2.blocks.1.conv1", "stages.2.blocks", "stages.2", "blocks"),
        ("timm.layer3.0.conv1", "layer3", "layer3", "layer3"),
        ("timm", "elsewhere", "elsewhere", "elsewhere"),
    ],
)
def test_modules_have_parts_blocks_and_roles(place, part, block, role):
    assert (module_part(place), block_name(part), role_name(part)) == (part, block, role)


ATTENTION = tensors((2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 8))
LOGITS, HEADS, DEEP = 5 * 7, 2 * 3, 8
BACKWARD = tensors((2, 3, 5, 8), (2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 8))


@pytest.mark.parametrize(
    ("name", "inputs", "kind", "flops"),
    [
        ("aten::mm", tensors((2, 3), (3, 4)), "linear", 2 * 2 * 3 * 4),
        ("aten::bmm", tensors((6, 2, 3), (6, 3, 4)), "attention", 6 * 2 * 2 * 3 * 4),
        ("aten::baddbmm", tensors((6, 2, 4), (6, 2, 3), (6, 3, 4)), "attention", 6 * 2 * 2 * 3 * 4),
        ("mkldnn::_linear_pointwise", tensors((2, 5, 3), (4, 3)), "linear", 2 * 2 * 5 * 3 * 4),
        (
            "aten::_cudnn_rnn",
            {"shapes": (((7, 2, 6),), ((16, 6), (16, 4), (16,), (16,)))},
            "linear",
            2 * 14 * 16 * (6 + 4),
        ),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", ATTENTION, "attention", 2 * 2 * HEADS * LOGITS * DEEP),
        (
            "aten::_scaled_dot_product_flash_attention_for_cpu_backward",
            BACKWARD,
            "attention",
            2 * 2 * 2 * HEADS * LOGITS * DEEP,
        ),
        ("aten::gelu", tensors((2, 3)), "activation", 0),
        ("aten::linear", tensors((2, 3), (4, 3)), None, 0),
        ("vitbench::self_attention_backward", {"flops": 12}, "attention branch", 12),
        ("vitbench::mlp", {"flops": 7}, "MLP branch", 7),
        ("vitbench::add_norm_backward", {}, "norm", 0),
    ],
)
def test_kinds_and_flops_of_operators(name, inputs, kind, flops):
    operator = event(name, 0, 1, **inputs)
    assert (operator_kind(operator), operator_flops(operator)) == (kind, flops)


def test_flops_of_a_convolution_are_those_of_its_outputs():
    settings = ("", "", "", "[4, 4]", "[0, 0]", "[1, 1]", "False", "[0, 0]", "1")
    forward = event("aten::convolution", 0, 1, **tensors((2, 3, 16, 16), (8, 3, 4, 4), (8,)), values=settings)
    macs = 2 * 8 * (4 * 4) * (3 * 4 * 4)  # images, filters, positions, weights of a filter
    assert operator_flops(forward) == 2 * macs
    inputs = tensors((2, 8, 4, 4), (2, 3, 16, 16), (8, 3, 4, 4))
    for wanted, products in (("[False, True, True]", 1), ("[True, True, True]", 2)):
        backward = event("aten::convolution_backward", 0, 1, **inputs, values=("", "", "", "[8]", wanted))
        assert operator_flops(backward) == 2 * products * macs


@pytest.mark.parametrize("layer", ["LSTM", "transposed convolution"])
def test_flops_of_what_torch_ran_are_counted_by_hand(layer, tmp_path):
    with torch.profiler.profile(record_shapes=True) as profiler:
        if layer == "LSTM":
            torch.nn.LSTM(6, 4, num_layers=2)(torch.zeros(7, 2, 6))[0].sum().backward()
        else:
            torch.nn.ConvTranspose2d(3, 8, 4, stride=4)(torch.zeros(2, 3, 5, 5)).sum().backward()
    # 4 gates of 4 units, 14 places, inputs of 6 and then of 4; or a weight of 8 × 4 × 4 for each of 2 × 3 × 5 × 5 pixels.
    macs = 14 * 16 * (6 + 4 + 4 + 4) if layer == "LSTM" else 150 * 8 * 16
    wanted = 3 if layer == "LSTM" else 2  # the images want no gradient; inside an LSTM both products have theirs
    profiler.export_chrome_trace(str(tmp_path / "trace.json"))
    events = read_events(json.loads((tmp_path / "trace.json").read_text()))
    assert sum(map(operator_flops, events)) == 2 * wanted * macs


@pytest.mark.parametrize(
    ("name", "inputs", "expected"),
    [
        ("aten::add", tensors((2, 3), (3,)), 4 * (6 + 3 + 6)),
        ("aten::add_", tensors((2, 3), (2, 3)), 4 * (6 + 6 + 6)),
        ("aten::copy_", {"shapes": (((2, 3),), ((2, 3),)), "types": ("c10::BFloat16", "float")}, 2 * 6 + 4 * 6),
        ("aten::add", {**tensors((2, 3), (2, 3)), "strides": (((3, 1),), ((0, 1),))}, 4 * (6 + 3 + 6)),
        ("aten::bmm", tensors((6, 2, 3), (6, 3, 4), kind="c10::BFloat16"), 2 * (36 + 72 + 48)),
        ("aten::cat", {"shapes": (((2, 3), (4, 3)),), "types": ("TensorList",)}, 4 * (18 + 18)),
        ("aten::sum", tensors((2, 3)), 4 * 6),
        ("vitbench::add_norm", tensors((2, 3), (3,), (2, 3)), 4 * (6 + 3 + 6)),
    ],
)
def test_bytes_are_those_of_inputs_and_outputs(name, inputs, expected):
    assert operator_bytes(event(name, 0, 1, **inputs)) == expected


def test_events_are_read_from_what_torch_writes():
    operator = {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "tid": 5, "ts": 4507531830772.995, "dur": 1.25}
    arguments = {"Sequence number": 7, "Input Dims": [[2, 3], [], [[1], [2]]], "Input Strides": [[3, 1], [], []]}
    memory = {"ph": "i", "name": "[memory]", "ts": 3.0, "args": {"Total Allocated": 64, "Device Type": 0}}
    own = {**operator, "cat": "user_annotation", "name": "vitbench::add_norm"}
    python = {**operator, "cat": "python_function"}
    trace = {
        "traceEvents": [
            {**operator, "args": {**arguments, "Input type": ["float", "Scalar", "TensorList"]}},
            memory,
            own,
            python,
        ]
    }
    read, read_own = read_events(trace)
    assert read.start == 4507531830772995 and read.end - read.start == 1250 and read.sequence == 7
    assert read.shapes == (((2, 3),), (), ((1,), (2,))) and read.category == read_own.category == OPERATOR
