"""What all benchmarks share: options, one way of timing a call, the yardstick beside each, and a line per group."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import Any

import pytest
import torch

from benchmarks.yardstick import Yardstick, cores_missing
from vitbench.device import Device, open_device
from vitbench.device.cpu_state import cpu_state
from vitbench.kernels import native
from vitbench.records import describe_environment

MIN_ROUNDS, MAX_ROUNDS = 8, 300
SHORTEST_ROUND = 1e-4
"""Seconds: what takes less is called several times a round."""
WARMUP_CALLS = 3
LONG = 0.5
"""Seconds: what takes as long needs no more calls to be warm."""


@dataclass(frozen=True)
class Line:
    """What a group's line is made of: one benchmark's median, and how many `unit` one call handles."""

    group: str
    label: str
    seconds: float
    items: int
    unit: str


LINES: pytest.StashKey[list[Line]] = pytest.StashKey()
YARDSTICK: pytest.StashKey[Yardstick] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    options = parser.getgroup("vitbench benchmarks")
    options.addoption("--full", action="store_true", help="the large shapes too: hours on a CPU")
    options.addoption("--device", default="cpu", help="cpu, cuda, cuda:N or auto (default cpu)")
    options.addoption("--threads", type=positive, help="threads of CPU computing (default torch's)")
    options.addoption("--precision", default="fp32", choices=("fp32", "bf16"), help="of variants, factors and parts")
    options.addoption("--seconds", type=float, default=0.4, help="spent on each benchmark (default %(default)s)")
    options.addoption("--study-runs", type=positive, help="runs of the study (default 20, with --full 200)")


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} must be 1 or more")
    return number


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LINES] = []
    try:
        open_device(config.getoption("--device"))
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error
    if config.getoption("--threads") is None:
        config.option.threads = torch.get_num_threads()


def pytest_benchmark_generate_machine_info(config: pytest.Config) -> dict[str, Any]:
    """In place of pytest-benchmark's own, which has the host's name and nothing of torch."""
    environment = describe_environment(
        open_device(config.getoption("--device")).name,
        precision=config.getoption("--precision"),
        threads=config.getoption("--threads"),
        kernels=native.describe(),
    )
    return environment.model_dump() | {"yardstick": config.stash[YARDSTICK].description}


@pytest.hookimpl(wrapper=True)
def pytest_benchmark_generate_json(benchmarks: list[Any]) -> Generator[None, Any, Any]:
    """A run that is interrupted keeps what it has measured, without the benchmark that was cut off."""
    for result in benchmarks:
        result.fixture.has_error = result.has_error or not result.stats.data or "yardstick" not in result.extra_info
    return (yield)


@pytest.fixture(scope="session")
def device(pytestconfig: pytest.Config) -> Device:
    return open_device(pytestconfig.getoption("--device"))


@pytest.fixture(scope="session")
def full(pytestconfig: pytest.Config) -> bool:
    return bool(pytestconfig.getoption("--full"))


@pytest.fixture(scope="session")
def precision(pytestconfig: pytest.Config) -> str:
    return str(pytestconfig.getoption("--precision"))


@pytest.fixture(scope="session")
def yardstick(device: Device, pytestconfig: pytest.Config) -> Yardstick:
    torch.set_num_threads(pytestconfig.getoption("--threads"))
    pytestconfig.stash[YARDSTICK] = Yardstick(device)
    return pytestconfig.stash[YARDSTICK]


@pytest.fixture(autouse=True)
def beside_the_yardstick(request: pytest.FixtureRequest) -> Iterator[None]:
    """Measures the yardstick just before and just after a benchmark, and what others did meanwhile."""
    benchmark = request.getfixturevalue("benchmark")
    threads = request.config.getoption("--threads")
    torch.set_num_threads(threads)
    if benchmark.disabled:
        yield
        return
    yardstick = request.getfixturevalue("yardstick")
    start = cpu_state()
    before = yardstick.measure()
    yield
    torch.set_num_threads(threads)  # some benchmarks set another number
    after = yardstick.measure()
    missing = cores_missing(start, cpu_state(), threads=threads)
    if missing is not None:
        benchmark.extra_info["cores_missing"] = missing
    benchmark.extra_info["yardstick"] = {part: before[part] + after[part] for part in before}


class Timed:
    """Times a call, the device's work included: pytest-benchmark by itself knows nothing of CUDA's streams."""

    def __init__(self, benchmark: Any, device: Device, seconds: float, lines: list[Line]) -> None:
        self.benchmark = benchmark
        self.device = device
        self.seconds = seconds
        self.lines = lines

    def __call__(
        self,
        call: Callable[[], object],
        *,
        group: str,
        label: str,
        items: int = 1,
        unit: str = "calls",
        min_rounds: int = MIN_ROUNDS,
    ) -> None:
        """`items` of `unit` are what one call handles: 32 images."""

        def synchronised() -> None:
            call()
            self.device.synchronize()

        self.benchmark.group = group
        self.benchmark.extra_info.update(items=items, unit=unit)
        if self.benchmark.disabled:
            self.benchmark(synchronised)
            return
        synchronised()  # what is done for the first time: allocation, compilation, caches
        seconds = self.device.time(call)
        if seconds < LONG:
            seconds = min(seconds, *(self.device.time(call) for _ in range(WARMUP_CALLS)))
        iterations = ceil(SHORTEST_ROUND / max(seconds, 1e-9))
        rounds = min(MAX_ROUNDS, max(min_rounds, ceil(self.seconds / (seconds * iterations))))
        self.benchmark.pedantic(synchronised, rounds=rounds, iterations=iterations)
        self.lines.append(Line(group, label, self.benchmark.stats["median"], items, unit))


@pytest.fixture
def timed(benchmark: Any, device: Device, pytestconfig: pytest.Config) -> Timed:
    return Timed(benchmark, device, pytestconfig.getoption("--seconds"), pytestconfig.stash[LINES])


@pytest.fixture
def in_turn(benchmark: Any) -> Callable[..., dict[str, list[float]]]:
    """For what times several things in turn by itself: runs it once; keeps, and returns, its samples by name."""

    def keep(measure: Callable[[], dict[str, list[float]]], *, group: str) -> dict[str, list[float]]:
        benchmark.group = group
        samples: dict[str, list[float]] = benchmark.pedantic(measure, rounds=1, iterations=1)
        benchmark.extra_info["samples"] = samples
        return samples

    return keep


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    groups: dict[str, list[Line]] = defaultdict(list)
    for line in config.stash[LINES]:
        groups[line.group].append(line)
    for group, lines in groups.items():
        terminalreporter.write_line(group_line(group, lines))


def group_line(group: str, lines: list[Line]) -> str:
    """`attention, forward: n = 16, from fused 17 fp32 (0.05 ms, …) to matmul 577 fp32 (9 ms, …)`."""
    lines = sorted(lines, key=lambda line: line.seconds)
    base = next((line for line in lines if line.label == "baseline"), None)
    if base is not None:
        ratios = [f"{line.label} {line.seconds / base.seconds:.2f} ×" for line in (lines[0], *lines[-3:])]
        return f"{group}: n = {len(lines)}, baseline {shown(base)}; {', '.join(dict.fromkeys(ratios))}"
    if len(lines) <= 3:
        return f"{group}: " + ", ".join(f"{line.label} {shown(line)}" for line in lines)
    middle = significant(1e3 * median(line.seconds for line in lines))
    ends = " to ".join(f"{line.label} ({shown(line)})" for line in (lines[0], lines[-1]))
    return f"{group}: n = {len(lines)}, from {ends}, median {middle} ms"


def shown(line: Line) -> str:
    rate = f", {significant(line.items / line.seconds)} {line.unit}/s" if line.unit != "calls" else ""
    return f"{significant(1e3 * line.seconds)} ms{rate}"


def significant(value: float) -> str:
    """Three digits, none lost before the decimal point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
