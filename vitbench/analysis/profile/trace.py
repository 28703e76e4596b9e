"""Where did the time of a traced step go? Its tables by role, by kind of operation, by block and by operator."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from vitbench.analysis.writing.table import Table
from vitbench.profiling.breakdown import ROW_PHASES, Breakdown, Operator, Row, block_name, role_name
from vitbench.profiling.trace import Trace

MOST_OPERATORS = 12
Key = Callable[[Row], str]


def title(trace: Trace) -> str:
    """`S/16 vitbench train fp32 eager batch 16`."""
    candidate = trace.candidate
    compiled = "compiled" if candidate.compiled else "eager"
    what = f"{candidate.variant} {candidate.implementation} {candidate.mode} {candidate.precision} {compiled}"
    return f"{what} batch {candidate.batch_size}"


def facts(trace: Trace) -> dict[str, str]:
    """What was recorded, and what recording it cost."""
    breakdown, step = trace.analysis.breakdown, median(trace.plain_samples)
    flops = sum(row.flops for row in breakdown.rows)
    return {
        "Device": trace.device,
        "Step under the profiler": f"{_milliseconds(breakdown.step_seconds)} ms, mean of {breakdown.steps}",
        "Step without": f"{_milliseconds(step)} ms, median of {len(trace.plain_samples)}",
        "Ratio of medians": f"{trace.overhead:.2f}",
        "FLOPs of a step": f"{flops / 1e9:,.3f} GFLOP, {flops / step / 1e9:,.1f} GFLOP/s without the profiler",
    }


def tables_of(trace: Trace) -> list[Table]:
    """By role, by kind of operation, by block, and the operators that take longest by themselves."""
    analysis = trace.analysis
    return [
        by_phase(analysis.breakdown, "What the time is spent on", "part", lambda row: role_name(row.part)),
        by_kind(analysis.breakdown),
        by_phase(analysis.breakdown, "Blocks", "block", lambda row: block_name(row.part)),
        operators(analysis.operators, is_cuda=bool(analysis.kernels)),
    ]


def by_phase(breakdown: Breakdown, heading: str, name: str, key: Key) -> Table:
    """Milliseconds of each group in each phase, and their sums; the rows sum to the step."""
    by_group = {phase: _seconds(breakdown.of_phase(phase), key) for phase in ROW_PHASES}
    phases = [phase for phase in ROW_PHASES if by_group[phase]["step"]]
    rows = []
    for group, seconds in _seconds(breakdown, key).items():
        of_phases = {phase: by_group[phase].get(group) for phase in phases}
        rows.append(
            {
                name: group,
                **{phase: "" if part is None else _milliseconds(part) for phase, part in of_phases.items()},
                "ms": _milliseconds(seconds),
                "%": f"{100 * seconds / breakdown.step_seconds:.1f}",
            }
        )
    return Table(heading, rows, texts=[name])


def _seconds(breakdown: Breakdown, key: Key) -> dict[str, float]:
    """Of each group, the step as the last."""
    return {name: row.seconds for name, row in breakdown.grouped(key).items()} | {"step": breakdown.step_seconds}


def by_kind(breakdown: Breakdown) -> Table:
    """Kinds of operations, with their rates."""
    rows = [
        {
            "kind": kind,
            "ms": _milliseconds(row.seconds),
            "%": f"{100 * row.seconds / breakdown.step_seconds:.1f}",
            "calls": f"{row.calls:,}" if row.calls else "",
            "GFLOP": f"{row.flops / 1e9:,.3f}" if row.flops else "",
            "GFLOP/s": f"{row.flops_per_second / 1e9:,.1f}" if row.flops_per_second else "",
            "MiB": f"{row.bytes / 2**20:,.2f}" if row.bytes else "",
            "FLOP/byte": f"{row.intensity:,.1f}" if row.intensity else "",
        }
        for kind, row in sorted(breakdown.grouped(lambda row: row.kind).items(), key=lambda item: -item[1].seconds)
    ]
    return Table("Kinds of operations", rows, texts=["kind"])


def operators(longest: tuple[Operator, ...], *, is_cuda: bool) -> Table:
    """On CUDA with the time of the kernels that each launched."""
    rows = [
        {
            "operator": operator.name,
            "kind": operator.kind,
            "calls": f"{operator.calls:,.5g}",
            "self ms": _milliseconds(operator.self_seconds),
            "total ms": _milliseconds(operator.total_seconds),
            **({"device ms": _milliseconds(operator.device_seconds)} if is_cuda else {}),
            "GFLOP": f"{operator.flops / 1e9:,.3f}" if operator.flops else "",
        }
        for operator in longest[:MOST_OPERATORS]
    ]
    more = f", the first {MOST_OPERATORS} of {len(longest)}" if len(longest) > MOST_OPERATORS else ""
    return Table(f"Operators{more}", rows, texts=["operator", "kind"])


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:,.3f}"
