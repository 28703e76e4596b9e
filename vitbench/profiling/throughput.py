"""How many images a second, at which latency, in how much memory: models and peers, timed in turn on one device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from vitbench.profiling.device import Device, is_out_of_memory
from vitbench.profiling.macs import FORWARDS
from vitbench.profiling.roofline import Ceilings
from vitbench.profiling.steps import InferencePass, TrainingStep
from vitbench.profiling.timing import MIN_SAMPLES, Interval, Timing, time_in_turn


@dataclass(frozen=True)
class Candidate:
    """One thing to time. `build` gives the module on the CPU; `macs` are those of one image, forward."""

    variant: str
    implementation: str
    build: Callable[[], nn.Module]
    image_shape: tuple[int, int, int]
    """(channels, height, width)."""
    num_classes: int
    macs: int
    mode: str
    """`infer` or `train`."""
    precision: str
    """`fp32` or `bf16`."""
    compiled: bool
    batch_size: int

    @property
    def name(self) -> str:
        compiled = "compiled" if self.compiled else "eager"
        what = f"{self.variant} {self.implementation} {self.mode} {self.precision} {compiled}"
        return f"{what} batch {self.batch_size}"


@dataclass(frozen=True)
class Result:
    """What was measured of a candidate, or in `reason` why it was not. Seconds are of one batch."""

    candidate: Candidate
    timing: Timing | None = None
    phases: dict[str, Timing] = field(default_factory=dict)
    """Of a training step: `forward`, `backward`, `optimizer`, each synchronised, so that their sum is more than the step."""
    peak_memory_bytes: int | None = None
    reason: str = ""

    @property
    def images_per_second(self) -> float | None:
        return self.candidate.batch_size / self.timing.median if self.timing else None

    @property
    def interval(self) -> Interval | None:
        """95 % of images a second."""
        if self.timing is None:
            return None
        low, high = self.timing.interval
        return self.candidate.batch_size / high, self.candidate.batch_size / low

    @property
    def flops_per_second(self) -> float | None:
        """Of the model's own arithmetic: 2 × MACs an image forward, 3 times that for training."""
        rate = self.images_per_second
        return None if rate is None else 2 * self.candidate.macs * FORWARDS[self.candidate.mode] * rate

    def mfu(self, ceilings: Ceilings) -> float | None:
        """Share of the rate of matrix products measured on this device at this precision."""
        done = self.flops_per_second
        return None if done is None else done / ceilings.flops_per_second[self.candidate.precision]


def measure(
    candidates: Sequence[Candidate], *, device: Device, max_seconds: float, memory: bool = False
) -> list[Result]:
    """Times all candidates in turn for `max_seconds` each at most. What fails to run is a result that says why.

    With `memory`, the peak memory of each is measured too, afterwards and each alone; `build` must then be picklable.
    """
    works: dict[str, InferencePass | TrainingStep] = {}
    reasons: dict[str, str] = {}
    for candidate in candidates:
        try:
            works[candidate.name] = work = prepare(candidate, device)
            device.time(work)
        except Exception as error:  # one candidate's failure is its result, and the others' go on
            works.pop(candidate.name, None)
            reasons[candidate.name] = reason_of(error, candidate.batch_size)
    timings = time_in_turn(works, device=device, max_seconds=max_seconds * len(works)) if works else {}
    phases = {name: _phases(work, device) for name, work in works.items()}
    timed = [candidate for candidate in candidates if candidate.name in works]
    works.clear()  # what is kept here would be the next one's memory
    memory_of: dict[str, int | None] = {}
    for candidate in timed if memory else ():
        try:
            memory_of[candidate.name] = device.peak_memory_of(partial(prepare, candidate, device))
        except Exception as error:  # what was timed stays
            reasons[candidate.name] = f"memory: {reason_of(error, candidate.batch_size)}"
    return [
        Result(
            candidate,
            timings.get(candidate.name),
            phases=phases.get(candidate.name, {}),
            peak_memory_bytes=memory_of.get(candidate.name),
            reason=reasons.get(candidate.name, ""),
        )
        for candidate in candidates
    ]


def prepare(candidate: Candidate, device: Device) -> InferencePass | TrainingStep:
    """The candidate's model on the device, with a batch of random images there, ready to be called."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(candidate.batch_size, *candidate.image_shape, generator=generator).to(device.torch_device)
    model: Any = candidate.build().to(device.torch_device)
    model.train(candidate.mode == "train")
    if candidate.compiled:
        torch._dynamo.config.fail_on_recompile_limit_hit = True  # rather than run eagerly under the name of compiled
        model = torch.compile(model)
    autocast = partial(device.autocast, candidate.precision)
    if candidate.mode == "infer":
        return InferencePass(model, images, autocast=autocast)
    return TrainingStep(model, images, num_classes=candidate.num_classes, autocast=autocast)


def reason_of(error: Exception, batch_size: int) -> str:
    """One line: out of memory at a batch size, or what was raised."""
    if is_out_of_memory(error):
        return f"out of memory at batch {batch_size}"
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _phases(work: InferencePass | TrainingStep, device: Device) -> dict[str, Timing]:
    if not isinstance(work, TrainingStep):
        return {}
    phases = {"forward": work.forward, "backward": work.backward, "optimizer": work.update}
    seconds: dict[str, list[float]] = {name: [] for name in phases}
    for _ in range(MIN_SAMPLES):
        for name, phase in phases.items():
            seconds[name].append(device.time(phase))
    return {name: Timing(tuple(samples), (), settled=False) for name, samples in seconds.items()}
