"""What happens in a step, when and in which module? torch.profiler's record of inference and training steps."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

from torch.profiler import ProfilerActivity, profile, schedule

from vitbench.costs.attribution import ELSEWHERE
from vitbench.device import Device
from vitbench.files import replacing
from vitbench.profiling.event_walk import Analysis, Span, analyse
from vitbench.profiling.events import read_events
from vitbench.profiling.ranges import BACKWARD, CLIP, DATA, FORWARD, LOSS, OPTIMIZER, STEP, Ranges
from vitbench.profiling.steps import TrainingStep, Work
from vitbench.profiling.throughput import Candidate, prepare

WARMUP_CALLS = 2
MIN_PLAIN_STEPS = 5
"""Both before and after those that are recorded."""

CHROME_NAME = "vitbench.pt.trace.json.gz"
"""Chrome and Perfetto open it; TensorBoard's plugin finds it by the ending."""


@dataclass(frozen=True)
class Trace:
    """Steps of one candidate as the profiler saw them, and `plain_samples`: seconds of the same steps without it."""

    candidate: Candidate
    device: str
    analysis: Analysis
    plain_samples: tuple[float, ...]
    chrome: dict[str, Any]
    """In the Chrome trace format, with ranges of modules in the backward pass too."""

    @property
    def overhead(self) -> float:
        """Median step under the profiler over the median step without."""
        return median(self.analysis.step_samples) / median(self.plain_samples)

    def as_json(self) -> dict[str, Any]:
        """What was recorded, without its events; seconds are those of a mean step."""
        candidate = self.candidate
        return {
            "variant": candidate.variant,
            "implementation": candidate.implementation,
            "mode": candidate.mode,
            "device": self.device,
            "precision": candidate.precision,
            "compiled": candidate.compiled,
            "batch_size": candidate.batch_size,
            "macs": candidate.macs,
            "step_samples": self.analysis.step_samples,
            "plain_samples": self.plain_samples,
            "overhead": self.overhead,
            "breakdown": self.analysis.breakdown.as_json(),
            "operators": [asdict(operator) for operator in self.analysis.operators],
            "kernels": [asdict(kernel) for kernel in self.analysis.kernels],
        }


def record(candidate: Candidate, device: Device, *, steps: int) -> Trace:
    """`steps` under the profiler; as many are timed without it before and after. Errors of the model travel."""
    work = prepare(candidate, device)
    copy_batch = _batch_copy(work, device)

    def plain_step() -> None:
        copy_batch()
        work()

    for _ in range(WARMUP_CALLS):
        device.time(plain_step)
    num_plain = max(steps, MIN_PLAIN_STEPS)
    plain_samples = [device.time(plain_step) for _ in range(num_plain)]
    with Ranges(work.model) as ranges:
        chrome = _profile(_ranged_step(work, ranges, copy_batch, device), device, steps)
    plain_samples += [device.time(plain_step) for _ in range(num_plain)]
    analysis = analyse(read_events(chrome), modules=ranges.modules, node_place=ranges.node_place)
    chrome["traceEvents"] += _backward_ranges(analysis.backward, chrome)
    return Trace(candidate, device.name, analysis, tuple(plain_samples), chrome)


def write_trace(trace: Trace, folder: Path) -> Path:
    """Writes the events into `folder`, which then is a run of TensorBoard's; returns the path. Raises OSError."""
    path = folder / CHROME_NAME
    with replacing(path) as new, gzip.open(new, "wt", encoding="utf-8", compresslevel=6) as file:
        json.dump(trace.chrome, file)
    return path


def _ranged_step(work: Work, ranges: Ranges, copy_batch: Callable[[], object], device: Device) -> Callable[[], None]:
    """A step with a range around each phase. The loss begins where the model ends, the optimizer where clipping does."""

    def begin(phase: str) -> None:
        ranges.close()
        ranges.open(phase, place=phase)

    if isinstance(work, TrainingStep):
        ranges.keep(work.model.register_forward_hook(lambda *_: begin(LOSS)))
        ranges.keep(work.optimizer.register_step_pre_hook(lambda *_: begin(OPTIMIZER)))

    def step() -> None:
        with ranges.range(STEP):
            with ranges.range(DATA, place=DATA):
                copy_batch()
            if isinstance(work, TrainingStep):
                with ranges.range(FORWARD):
                    work.forward()
                with ranges.range(BACKWARD):
                    work.backward()
                with ranges.range(CLIP, place=CLIP):
                    work.update()
            else:
                with ranges.range(FORWARD):
                    work()
            # Within the step, so that every kernel is in the step that launched it.
            device.synchronize()

    return step


def _batch_copy(work: Work, device: Device) -> Callable[[], object]:
    """A call that copies the batch to the device as training does, from pinned memory; nothing on CPU."""
    if device.torch_device.type == "cpu":
        return lambda: None
    return partial(work.images.copy_, work.images.cpu().pin_memory(), non_blocking=True)


def _profile(step: Callable[[], None], device: Device, steps: int) -> dict[str, Any]:
    """The Chrome trace of `steps` steps, after one to warm up the profiler."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # else it reports on stderr that it starts, stops and lacks a GPU
    activities = [ProfilerActivity.CPU]
    if device.torch_device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        with profile(
            activities=activities,
            schedule=schedule(wait=0, warmup=1, active=steps, repeat=1),
            on_trace_ready=lambda profiler: profiler.export_chrome_trace(str(path)),
            record_shapes=True,
            profile_memory=True,
            with_flops=True,
        ) as profiler:
            for _ in range(1 + steps):
                step()
                profiler.step()
        trace: dict[str, Any] = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    return trace


def _backward_ranges(spans: tuple[Span, ...], chrome: dict[str, Any]) -> list[dict[str, Any]]:
    """Spans of the backward pass as ranges; as forward, a module's range holds those of the modules within it."""
    threads = {str(e["tid"]): (e["pid"], e["tid"]) for e in chrome["traceEvents"] if e.get("cat") == "cpu_op"}
    ranges = []
    named = [(span, span.place.split(".")) for span in spans if span.place != ELSEWHERE]
    for depth in range(1, 1 + max((len(names) for _, names in named), default=0)):
        for (thread, names), group in groupby(named, key=lambda pair: (pair[0].thread, pair[1][:depth])):
            if len(names) < depth:
                continue
            members = [span for span, _ in group]
            pid, tid = threads[thread]
            ranges.append(
                {
                    "ph": "X",
                    "cat": "user_annotation",
                    "name": f"backward {'.'.join(names)}",
                    "pid": pid,
                    "tid": tid,
                    "ts": members[0].start / 1e3,
                    "dur": (members[-1].end - members[0].start) / 1e3,
                    "args": {},
                }
            )
    return ranges
