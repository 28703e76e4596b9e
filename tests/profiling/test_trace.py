"""Is what a recorded trace says about a model what one knows of the model from elsewhere?"""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode

import pytest
import torch
from torch import Tensor, nn

from vitbench.config import ViTConfig
from vitbench.costs.macs import FORWARDS, count, count_parts
from vitbench.device import open_device
from vitbench.models import build_model
from vitbench.profiling.peers import build_peer
from vitbench.profiling.throughput import Candidate
from vitbench.profiling.trace import CHROME_NAME, Trace, record, write_trace

CONFIG = ViTConfig(
    image_size=8, in_channels=3, patch_size=2, width=32, depth=2, num_heads=2, mlp_ratio=2.0, num_classes=5, pool="gap"
)
BATCH = 4
CPU = open_device("cpu")
PART, KIND = attrgetter("part"), attrgetter("kind")


def candidate(build: Callable[[], nn.Module], *, mode: str = "train", compiled: bool = False) -> Candidate:
    return Candidate(
        variant="tiny",
        implementation="any",
        build=build,
        image_shape=(3, 8, 8),
        num_classes=5,
        macs=1,
        mode=mode,
        precision="fp32",
        compiled=compiled,
        batch_size=BATCH,
    )


class Doubled(torch.autograd.Function):
    """A fused function, as a model may have it."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return 2 * (x @ weight.t())

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return 2 * (gradient @ weight), 2 * (gradient.t() @ x)


class Inner(nn.Module):
    """Computes what its child would, without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped = nn.Linear(6, 6, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return Doubled.apply(x, self.skipped.weight)


class Model(nn.Module):
    """Two modules with a product each, and one of its own: [4, 192] → 6 → 6, times a table [6, 6], → 5."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(192, 6)
        self.blocks = nn.ModuleList([Inner()])
        self.table = nn.Parameter(torch.ones(6, 6))
        self.head = nn.Linear(6, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.blocks[0](self.stem(images.flatten(1))) @ self.table)


@pytest.fixture(scope="module")
def trained() -> Trace:
    return record(candidate(Model), CPU, steps=2)


def flops(trace: Trace, *, phase: str) -> dict[str, int]:
    return {
        part: row.flops for part, row in trace.analysis.breakdown.of_phase(phase).grouped(PART).items() if row.flops
    }


def test_products_belong_to_the_module_that_computed_them_forward_and_backward(trained):
    one = 2 * BATCH * 6 * 6
    assert flops(trained, phase="forward") == {
        "stem": 2 * BATCH * 192 * 6,
        "blocks.0": one,
        "elsewhere": one,
        "head": 2 * BATCH * 6 * 5,
    }
    assert flops(trained, phase="backward") == {
        "stem": 2 * BATCH * 192 * 6,  # nobody wants the gradient of images
        "blocks.0": 2 * one,
        "elsewhere": 2 * one,
        "head": 2 * 2 * BATCH * 6 * 5,
    }


def test_rows_sum_to_the_step(trained):
    breakdown = trained.analysis.breakdown
    assert breakdown.steps == 2 and len(trained.analysis.step_samples) == 2
    assert sum(row.seconds for row in breakdown.rows) == pytest.approx(breakdown.step_seconds, rel=1e-9)
    assert breakdown.step_seconds == pytest.approx(sum(trained.analysis.step_samples) / 2, rel=1e-9)
    assert all(row.seconds >= 0 for row in breakdown.rows)
    assert {row.phase for row in breakdown.rows} == {"data", "forward", "backward", "update", "between"}


def test_loss_clipping_and_optimizer_have_rows_of_their_own(trained):
    parts = trained.analysis.breakdown.grouped(PART)
    assert {"loss", "clip", "optimizer"} <= set(parts)
    update = trained.analysis.breakdown.of_phase("update")
    assert set(update.grouped(PART)) == {"clip", "optimizer"} and set(update.grouped(KIND)) == {
        "optimizer",
        "untracked",
    }
    assert trained.analysis.breakdown.of_phase("backward").grouped(PART)["loss"].calls > 0


def test_the_trace_names_modules_and_phases_forward_and_backward(trained):
    ranges = [e for e in trained.chrome["traceEvents"] if e.get("cat") == "user_annotation"]
    names = [e["name"] for e in ranges]
    for name in ("step", "data", "forward", "loss", "backward", "clip", "optimizer", "stem", "blocks.0", "head"):
        assert names.count(name) == 2, name
    for name in ("backward stem", "backward blocks", "backward blocks.0", "backward head", "backward loss"):
        assert names.count(name) == 2, name
    assert "blocks.0.skipped" not in names
    whole = next(e for e in ranges if e["name"] == "backward")
    inside = next(e for e in ranges if e["name"] == "backward head")
    assert whole["ts"] <= inside["ts"] and inside["ts"] + inside["dur"] <= whole["ts"] + whole["dur"]


def test_hooks_are_gone_once_the_trace_is_there():
    module = Model()
    record(candidate(lambda: module), CPU, steps=1)
    hooks = [m._forward_pre_hooks or m._forward_hooks for m in module.modules()]
    assert not any(hooks)


@pytest.mark.parametrize("mode", ["infer", "train"])
@pytest.mark.parametrize("implementation", ["vitbench", "timm", "torchvision"])
def test_flops_are_those_of_the_closed_form(implementation, mode):
    config = CONFIG.replace(pool="cls") if implementation == "torchvision" else CONFIG
    build = (
        partial(build_model, config) if implementation == "vitbench" else partial(build_peer, implementation, config)
    )
    breakdown = record(candidate(build, mode=mode), CPU, steps=1).analysis.breakdown
    expected = 2 * BATCH * count(config).macs * FORWARDS[mode]
    if mode == "train":  # nobody wants the gradient of images
        expected -= 2 * BATCH * count_parts(config)["stem"].macs
    kinds = breakdown.grouped(KIND)
    products = {kind: row.flops for kind, row in kinds.items() if row.flops}
    assert sum(products.values()) == expected
    attention = 2 * config.num_tokens**2 * config.width * config.depth
    assert products["attention"] == 2 * BATCH * attention * FORWARDS[mode]
    assert sum(row.seconds for row in breakdown.rows) == pytest.approx(breakdown.step_seconds, rel=1e-9)


@pytest.mark.parametrize("mode", ["infer", "train"])
def test_a_compiled_model_is_one_part(mode):
    breakdown = record(candidate(Model, mode=mode, compiled=True), CPU, steps=1).analysis.breakdown
    parts = breakdown.of_phase("forward").grouped(PART)
    assert set(parts) <= {"model", "elsewhere", "loss"} and parts["model"].calls >= 3
    assert sum(row.seconds for row in breakdown.rows) == pytest.approx(breakdown.step_seconds, rel=1e-9)


def test_json_has_what_was_recorded_without_the_events(trained):
    facts = json.loads(json.dumps(trained.as_json()))
    assert facts["mode"] == "train" and facts["batch_size"] == BATCH and facts["device"].startswith("cpu: ")
    assert len(facts["plain_samples"]) == 5 + 5 and facts["overhead"] > 0
    assert facts["breakdown"]["rows"] and facts["operators"][0]["self_seconds"] > 0 and facts["kernels"] == []


def test_the_written_file_is_the_trace(trained, tmp_path):
    path = write_trace(trained, tmp_path / "run")
    assert path == tmp_path / "run" / CHROME_NAME
    with gzip.open(path, "rt", encoding="utf-8") as file:
        assert len(json.load(file)["traceEvents"]) == len(trained.chrome["traceEvents"])


@contextmanager
def tensorboard(folder: Path) -> Iterator[str]:
    """The address of a TensorBoard over `folder`, on this machine, on a port that is free."""
    log = folder.with_suffix(".log")
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--host", "127.0.0.1", "--port", "0"]
    with log.open("w") as file, subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT) as process:
        try:
            yield until(lambda: re.search(r"http://127\.0\.0\.1:\d+", log.read_text()), log)[0]
        finally:
            process.terminate()


def until(get: Callable[[], object], log: Path, seconds: float = 60.0) -> object:
    """The first true answer."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = get()
        if answer:
            return answer
        time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.mark.skipif(
    not (find_spec("tensorboard") and find_spec("torch_tb_profiler")),
    reason="TensorBoard and its profiler plugin are not installed: pip install 'vitbench[tensorboard]'",
)
def test_tensorboard_lists_the_run_and_serves_overview_operators_and_trace(trained, tmp_path):
    logs = tmp_path / "logs"
    write_trace(trained, logs / "tiny-train")
    with tensorboard(logs) as address:

        def get(route: str, **query: str) -> dict:
            url = f"{address}/data/plugin/pytorch_profiler/{route}?{urlencode(query)}"
            with urllib.request.urlopen(url, timeout=30) as answer:
                body = answer.read()
            return json.loads(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)

        def loaded() -> bool:
            try:
                answer = get("runs")
            except (HTTPError, URLError):  # the plugin is not there yet
                return False
            return answer["runs"] == ["tiny-train"] and not answer["loading"]

        until(loaded, logs.with_suffix(".log"))
        where = {"run": "tiny-train", "worker": "vitbench", "span": "default"}
        assert {"Overview", "Operator", "Trace", "Memory"} <= set(get("views", run="tiny-train"))
        steps = get("overview", **where)["steps"]["rows"]
        assert len(steps) == 2
        table = get("operation/table", **where, group_by="Operation")
        calls = {row["name"]: row["calls"] for row in table["data"]}
        assert calls["aten::_fused_adamw_"] == 2 and calls["aten::addmm"] == 2 * 2
        served = get("trace", **where)["traceEvents"]
        assert {"blocks.0", "backward head"} <= {event.get("name") for event in served}
