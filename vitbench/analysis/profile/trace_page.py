"""What a trace comes to, on one page that fetches nothing from the net: the step's breakdown, operators, kernels, memory.

The views are those of TensorBoard's profiler plugin, whose own page draws nothing without the net, and the tables by block
and by kind of operation. The terminal prints the same tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from vitbench.analysis.writing.files import write
from vitbench.analysis.writing.markup import html_template
from vitbench.profiling.breakdown import ROW_PHASES, Breakdown, Operator, Row
from vitbench.profiling.events import MemoryPoint
from vitbench.profiling.trace import Trace

PAGE_NAME = "trace.html"
MAX_OPERATORS = 60
MAX_MEMORY_POINTS = 800
CHART_WIDTH, CHART_HEIGHT = 1000, 220
"""Of the memory chart, in units of its own."""

EXPLANATIONS = (
    "Seconds are those of a mean step under the profiler. On CPU a row's time is that in which its operators ran themselves, "
    "on the thread of the step; on CUDA that in which its kernels ran, and idle is when none did. Rows sum to the step.",
    "untracked: no operator ran, that is Python and the profiler itself. between: outside of all phases.",
    "FLOPs: 2 × MACs of matrix products, convolutions and attention. Bytes: inputs and outputs of operators, each once; "
    "what a kernel fused by the compiler or the optimizer reads and writes is not told by the trace, and counts as none.",
    "backward: every operator belongs to the module whose forward made its node.",
)


@dataclass(frozen=True)
class Table:
    """A heading and rows of text. `shares` gives each row's share of the step by phase, for a bar beside it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    shares: tuple[dict[str, float], ...] = ()


def write_page(trace: Trace, folder: Path) -> Path:
    """Writes `trace.html` into `folder`; returns its path. Raises ValueError where it cannot be written."""
    analysis = trace.analysis
    html = html_template("trace.html.j2").render(
        title=title(trace),
        facts=facts(trace),
        shares=_shares(analysis.breakdown, lambda rows: rows.grouped(lambda _: "step"))["step"],
        tables=[by_role(analysis.breakdown), by_kind(analysis.breakdown), by_block(analysis.breakdown)],
        operators=operators("Operators", analysis.operators, is_cuda=bool(analysis.kernels)),
        kernels=kernels(analysis.kernels) if analysis.kernels else None,
        steps=[1e3 * seconds for seconds in analysis.step_samples],
        plain=1e3 * median(trace.plain_samples),
        memory=memory_chart(trace.memory),
        explanations=EXPLANATIONS,
    )
    return write(folder / PAGE_NAME, html)


def title(trace: Trace) -> str:
    candidate = trace.candidate
    compiled = "compiled" if candidate.compiled else "eager"
    what = f"{candidate.variant} {candidate.implementation} {candidate.mode} {candidate.precision} {compiled}"
    return f"{what} batch {candidate.batch_size}"


def facts(trace: Trace) -> dict[str, str]:
    """What was recorded, and what recording it cost."""
    analysis = trace.analysis
    flops = sum(row.flops for row in analysis.breakdown.rows)
    step = median(trace.plain_samples)
    return {
        "Device": trace.device,
        "Step under the profiler": f"{1e3 * analysis.breakdown.step_seconds:,.3f} ms, mean of {analysis.breakdown.steps}",
        "Step without": f"{1e3 * step:,.3f} ms, median of {len(trace.plain_samples)}",
        "Ratio of medians": f"{trace.overhead:.2f}",
        "FLOPs of a step": f"{flops / 1e9:,.3f} GFLOP, {flops / step / 1e9:,.1f} GFLOP/s without the profiler",
    }


def by_role(breakdown: Breakdown) -> Table:
    """Attention, MLP and norms of all blocks, stem, head, loss, optimizer: by phase."""
    return _phases("What the time is spent on", "part", breakdown, Breakdown.by_role)


def by_block(breakdown: Breakdown) -> Table:
    return _phases("Blocks", "block", breakdown, Breakdown.by_block)


def by_kind(breakdown: Breakdown) -> Table:
    """Kinds of operations, with their rates."""
    rows, shares = [], _shares(breakdown, Breakdown.by_kind)
    for kind, row in sorted(breakdown.by_kind().items(), key=lambda item: -item[1].seconds):
        rate, intensity = row.flops_per_second, row.intensity
        rows.append(
            (
                kind,
                f"{1e3 * row.seconds:,.3f}",
                _percent(row.seconds, breakdown),
                f"{row.calls:,}" if row.calls else "",
                f"{row.flops / 1e9:,.3f}" if row.flops else "",
                f"{rate / 1e9:,.1f}" if rate else "",
                f"{row.bytes / 2**20:,.2f}" if row.bytes else "",
                f"{intensity:,.1f}" if intensity else "",
            )
        )
    columns = ("kind", "ms", "%", "calls", "GFLOP", "GFLOP/s", "MiB", "FLOP/byte")
    return Table("Kinds of operations", columns, tuple(rows), tuple(shares[row[0]] for row in rows))


def operators(heading: str, found: Sequence[Operator], *, is_cuda: bool, limit: int = MAX_OPERATORS) -> Table:
    """The operators that take longest by themselves; on CUDA by the kernels that they launched."""
    device = ("device ms",) if is_cuda else ()
    rows = tuple(
        (
            operator.name,
            operator.kind,
            f"{operator.calls:,.5g}",
            f"{1e3 * operator.self_seconds:,.3f}",
            f"{1e3 * operator.total_seconds:,.3f}",
            *((f"{1e3 * operator.device_seconds:,.3f}",) if is_cuda else ()),
            f"{operator.flops / 1e9:,.3f}" if operator.flops else "",
        )
        for operator in found[:limit]
    )
    more = f", the first {limit} of {len(found)}" if len(found) > limit else ""
    return Table(heading + more, ("operator", "kind", "calls", "self ms", "total ms", *device, "GFLOP"), rows)


def kernels(found: Sequence[Operator], *, limit: int = MAX_OPERATORS) -> Table:
    rows = tuple(
        (kernel.name, kernel.kind, f"{kernel.calls:,.5g}", f"{1e3 * kernel.self_seconds:,.3f}")
        for kernel in found[:limit]
    )
    return Table("Kernels", ("kernel", "kind", "calls", "ms"), rows)


@dataclass(frozen=True)
class MemoryChart:
    """Bytes allocated over time, as the points of a line in a box of CHART_WIDTH × CHART_HEIGHT."""

    device: str
    points: str
    low_bytes: int
    peak_bytes: int
    milliseconds: float
    width: int = CHART_WIDTH
    height: int = CHART_HEIGHT


def memory_chart(memory: Sequence[MemoryPoint]) -> MemoryChart | None:
    """Of the device that allocates more; None where nothing was allocated. The peak is always among the points."""
    devices = {point.device for point in memory}
    points = [point for point in memory if point.device == ("cuda" if "cuda" in devices else "cpu")]
    if len(points) < 2:
        return None
    start, length = points[0].time, max(points[-1].time - points[0].time, 1)
    low, peak = min(p.allocated for p in points), max(p.allocated for p in points)
    size = -(-len(points) // (MAX_MEMORY_POINTS // 2))
    chosen = []
    for i in range(0, len(points), size):
        bucket = points[i : i + size]
        extremes = {min(bucket, key=_allocated), max(bucket, key=_allocated)}
        chosen += sorted(extremes, key=lambda point: point.time)
    corners: list[str] = []
    height = float(CHART_HEIGHT)
    for point in chosen:  # what is allocated stays so until the next event: a line of steps
        x = CHART_WIDTH * (point.time - start) / length
        y = CHART_HEIGHT * (peak - point.allocated) / max(peak - low, 1)
        corners += [f"{x:.1f},{height:.1f}", f"{x:.1f},{y:.1f}"]
        height = y
    line = " ".join(corners)
    return MemoryChart(points[0].device, line, low, peak, length / 1e6)


Grouping = Callable[[Breakdown], dict[str, Row]]


def _phases(heading: str, name: str, breakdown: Breakdown, grouping: Grouping) -> Table:
    by_phase = {phase: breakdown.of_phase(phase) for phase in ROW_PHASES}
    shown = {phase: grouping(rows) for phase, rows in by_phase.items() if rows.step_seconds}
    shares = _shares(breakdown, grouping)
    rows = []
    for group, row in grouping(breakdown).items():
        found = (groups.get(group) for groups in shown.values())
        cells = (f"{1e3 * each.seconds:,.3f}" if each else "" for each in found)
        rows.append((group, *cells, f"{1e3 * row.seconds:,.3f}", _percent(row.seconds, breakdown)))
    totals = (f"{1e3 * by_phase[phase].step_seconds:,.3f}" for phase in shown)
    step = breakdown.step_seconds
    rows.append(("step", *totals, f"{1e3 * step:,.3f}", _percent(step, breakdown)))
    return Table(heading, (name, *shown, "ms", "%"), tuple(rows), tuple(shares.get(row[0], {}) for row in rows))


def _shares(breakdown: Breakdown, grouping: Grouping) -> dict[str, dict[str, float]]:
    """Of every group, percent of the step by phase."""
    shares: dict[str, dict[str, float]] = {group: {} for group in grouping(breakdown)}
    for phase in ROW_PHASES:
        for group, row in grouping(breakdown.of_phase(phase)).items():
            if row.seconds:
                shares[group][phase] = 100 * row.seconds / breakdown.step_seconds
    return shares


def _percent(seconds: float, breakdown: Breakdown) -> str:
    return f"{100 * seconds / breakdown.step_seconds:.1f}"


def _allocated(point: MemoryPoint) -> int:
    return point.allocated
