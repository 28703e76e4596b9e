"""How many images a second, at which latency, in how much memory, for how much energy? Models and peers, timed in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from vitbench.costs.macs import FORWARDS
from vitbench.device import CudaDevice, Device, DeviceState, is_out_of_memory
from vitbench.device.energy import Energy, NotAvailableError, measure_energy
from vitbench.kernels.attention_choice import choose_attention, describe_attention
from vitbench.machine import utc_now
from vitbench.profiling.batch_size import Trial, chosen_size, failure_reason, search_batch_size
from vitbench.profiling.roofline import Ceilings
from vitbench.profiling.steps import InferencePass, TrainingStep, Work
from vitbench.profiling.timing import MIN_SAMPLES, Interval, Timing, time_in_turn

MOST_COMPILED = 256
"""Compiled candidates in one process; torch's limit is 8 for one function, which all models of one kind share."""


ALL_TOKENS, CLASS_TOKEN = "all tokens", "class token"


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
    """Chosen by the search where there is one."""
    search: str = ""
    """How `batch_size` is chosen: `best`, `max`, or empty for a fixed one."""
    width: int | None = None
    """Channels of a token, which decide the operators that compute."""
    cuda_graphs: bool = False
    """Whether what is compiled is launched as CUDA graphs, a whole pass at once."""
    chooses_attention: bool = False
    """Whether the fastest attention kernel is chosen for it on CUDA, as for a run."""
    last_block: str = ALL_TOKENS
    """Which tokens the last block computes: `ALL_TOKENS` or `CLASS_TOKEN`."""
    is_full: bool = False
    """Whether all tokens are computed on request, where the class token alone would do."""

    @property
    def name(self) -> str:
        search = f" ({self.search})" if self.search else ""
        search += ", all tokens" if self.is_full else ""
        facts = (self.variant, self.implementation, self.mode, self.precision, self.compiled_word)
        return f"{' '.join(facts)} batch {self.batch_size}{search}"

    @property
    def compiled_word(self) -> str:
        """`eager`, `compiled` or `graphs`."""
        return "graphs" if self.cuda_graphs else "compiled" if self.compiled else "eager"


@dataclass(frozen=True)
class Result:
    """What was measured of a candidate, or in `reason` why it was not. Seconds are of one batch."""

    candidate: Candidate
    timing: Timing | None = None
    phases: dict[str, Timing] = field(default_factory=dict)
    """Of a training step: `forward`, `backward`, `optimizer`. Each is synchronised: their sum is more than the step."""
    peak_memory_bytes: int | None = None
    energy: Energy | None = None
    energy_note: str = ""
    """How `energy` was measured, or why it was not."""
    attention: str = ""
    """Which attention kernel was chosen, as `describe_attention` has it."""
    in_turn: bool = True
    """Whether it took turns with the others; False where it did not fit into memory beside them."""
    batch_sizes_tried: tuple[Trial, ...] = ()
    started: str = ""
    """When the measurement of all candidates began: ISO 8601, UTC."""
    state: DeviceState | None = None
    """Of the device before the first and after the last timed call of all that took turns."""
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
        """Of the model: 2 × MACs an image forward, 3 times that for training."""
        rate = self.images_per_second
        return None if rate is None else 2 * self.candidate.macs * FORWARDS[self.candidate.mode] * rate

    @property
    def joules_per_image(self) -> float | None:
        energy = self.energy
        return None if energy is None else energy.joules / (energy.calls * self.candidate.batch_size)

    def mfu(self, ceilings: Ceilings) -> float | None:
        """Share of the rate of matrix products measured on this device at this precision."""
        rate = self.flops_per_second
        return None if rate is None else rate / ceilings.flops_per_second[self.candidate.precision]


def measure(
    candidates: Sequence[Candidate], *, device: Device, max_seconds: float, memory: bool = False
) -> list[Result]:
    """Results in the order of `candidates`. Batch sizes are searched first; then all are timed in turn, for `max_seconds` each
    at most. A failure is a result, too.

    Each search has the device to itself. What does not fit into memory beside the others is timed alone, and its result says
    so. Energy is measured after the timing, each candidate in a loop, and with `memory` the peak memory last; `build` must
    then be picklable.
    """
    started = utc_now()
    results = [_choose_size(candidate, device) for candidate in candidates]
    groups = [[index for index, result in enumerate(results) if not result.reason]]
    while groups:
        group = groups.pop(0)
        for index, result in zip(group, _time([results[index] for index in group], device, max_seconds), strict=True):
            results[index] = result
            if result.timing is None and not result.reason:
                groups.append([index])
        device.release()  # else the next group has less memory
    if memory:
        results = [_with_memory(result, device) for result in results]
    now = device.state()
    state = next((result.state for result in results if result.state), device.state_between(now, now))
    return [replace(result, started=started, state=result.state or state) for result in results]


def prepare(candidate: Candidate, device: Device) -> Work:
    """The candidate's model on the device, with a batch of random images there, ready to be called."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(candidate.batch_size, *candidate.image_shape, generator=generator).to(device.torch_device)
    model: Any = device.place(candidate.build())
    model.train(candidate.mode == "train")
    if candidate.chooses_attention:
        trains, size = candidate.mode == "train", candidate.batch_size
        choose_attention(model, device, precision=candidate.precision, batch_size=size, backward=trains)
    if candidate.compiled:
        torch._dynamo.config.fail_on_recompile_limit_hit = True  # rather than run eagerly under the name of compiled
        # For this batch size, in every row: torch's default compiles the second size that it meets for any size.
        torch._dynamo.config.recompile_limit = MOST_COMPILED
        graphs: dict[str, Any] = {"mode": CudaDevice.compile_mode} if candidate.cuda_graphs else {}
        model = torch.compile(model, dynamic=False, **graphs)
    autocast = partial(device.autocast, candidate.precision)
    if candidate.mode == "infer":
        return InferencePass(model, images, autocast=autocast)
    return TrainingStep(model, images, num_classes=candidate.num_classes, autocast=autocast)


def _choose_size(candidate: Candidate, device: Device) -> Result:
    """A result with its batch size, or with the reason why not even one image runs."""
    if not candidate.search:
        return Result(candidate)

    def release() -> None:
        if candidate.compiled:
            torch._dynamo.reset()  # else each size counts towards the limit of recompilations
        device.release()

    trials = search_batch_size(
        candidate.search, lambda n: prepare(replace(candidate, batch_size=n), device), device=device, release=release
    )
    size = chosen_size(trials)
    reason = trials[0].reason if size is None else ""
    return Result(replace(candidate, batch_size=size or 1), batch_sizes_tried=trials, reason=reason)


def _time(results: Sequence[Result], device: Device, max_seconds: float) -> list[Result]:
    """The results with timings in turn; without timing and reason where memory ran out beside others."""
    results = list(results)
    works: dict[int, Work] = {}
    for index, result in enumerate(results):
        try:
            works[index] = _start(result.candidate, device)
        except Exception as error:  # one candidate's failure is its result, and the others' go on
            results[index] = _not_timed(result, error, alone=not works)
    before = device.state()
    try:
        calls = {str(index): work for index, work in works.items()}
        timings = time_in_turn(calls, device=device, max_seconds=max_seconds * len(works)) if works else {}
        for index, work in works.items():
            energy, note = _energy(work, device)
            timing, phases = timings[str(index)], _phases(work, device)
            result = replace(results[index], timing=timing, phases=phases, energy=energy, energy_note=note)
            results[index] = replace(result, attention=describe_attention(work.model))
    except Exception as error:
        if len(works) > 1 and not is_out_of_memory(error):
            raise  # it cannot be told which candidate failed
        for index in works:
            results[index] = _not_timed(replace(results[index], timing=None), error, alone=len(works) == 1)
    state = device.state_between(before, device.state())
    return [replace(result, state=state) if result.timing else result for result in results]


def _start(candidate: Candidate, device: Device) -> Work:
    """The candidate's work, called once: it compiles, and allocates what stays."""
    work = prepare(candidate, device)
    device.time(work)
    return work


def _not_timed(result: Result, error: Exception, *, alone: bool) -> Result:
    if is_out_of_memory(error) and not alone:
        return replace(result, in_turn=False)
    return replace(result, reason=failure_reason(error, result.candidate.batch_size))


def _energy(work: Work, device: Device) -> tuple[Energy | None, str]:
    """(energy, how it was measured), or (None, why it was not)."""

    def finish() -> None:
        work()
        device.synchronize()

    try:
        counter = device.energy_counter()
        energy = measure_energy(finish, counter)
    except (NotAvailableError, OSError) as error:
        return None, f"not available: {error}"
    return energy, f"{counter.source}, in a loop of {energy.seconds:.1f} s; idle power is not subtracted"


def _with_memory(result: Result, device: Device) -> Result:
    if result.timing is None:
        return result
    try:
        return replace(result, peak_memory_bytes=device.measure_peak_memory(partial(prepare, result.candidate, device)))
    except Exception as error:  # the timing stays
        return replace(result, reason=f"memory: {failure_reason(error, result.candidate.batch_size)}")


def _phases(work: Work, device: Device) -> dict[str, Timing]:
    if not isinstance(work, TrainingStep):
        return {}
    phases = {"forward": work.forward, "backward": work.backward, "optimizer": work.update}
    seconds: dict[str, list[float]] = {name: [] for name in phases}
    for _ in range(MIN_SAMPLES):
        for name, phase in phases.items():
            seconds[name].append(device.time(phase))
    return {name: Timing(tuple(samples), (), settled=False) for name, samples in seconds.items()}
