"""Which part, kind and phase does each nanosecond of a trace belong to? One walk through its nested events.

Makes the rows of a `Breakdown`, and the tables of operators and kernels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from vitbench.costs.attribution import ELSEWHERE
from vitbench.profiling.breakdown import BETWEEN, Breakdown, Operator, Row, module_part
from vitbench.profiling.events import KERNEL, LAUNCH, NODE, OPERATOR, RANGE, Event
from vitbench.profiling.operations import COMPILED, LINEAR, operator_bytes, operator_flops, operator_kind
from vitbench.profiling.ranges import BACKWARD, CLIP, DATA, FORWARD, LOSS, OPTIMIZER, STEP

PHASE_OF = {
    DATA: "data",
    FORWARD: "forward",
    LOSS: "forward",
    BACKWARD: "backward",
    CLIP: "update",
    OPTIMIZER: "update",
}
"""The phase of a row, by the range in which it ran."""


@dataclass(frozen=True)
class Span:
    """Consecutive nodes of the backward pass that belong to one module or phase; nanoseconds."""

    place: str
    start: int
    end: int
    thread: str


@dataclass(frozen=True)
class Analysis:
    """All that is computed from the events of a trace."""

    breakdown: Breakdown
    step_samples: tuple[float, ...]
    """Seconds of every step."""
    operators: tuple[Operator, ...]
    kernels: tuple[Operator, ...]
    backward: tuple[Span, ...]


def analyse(
    events: Sequence[Event], *, modules: Collection[str], node_place: Callable[[int], str] = lambda _: ELSEWHERE
) -> Analysis:
    """The steps in `events`: what ran in ranges named `step`, on the thread of that range and on those that ran nodes of the
    backward pass (it waits for them).

    `modules` are the names of ranges that are modules, `node_place` gives the module or phase of a backward node's number: see
    `ranges.Ranges`. Raises ValueError where there is no step.
    """
    steps = sorted((e for e in events if e.category == RANGE and e.name == STEP), key=lambda e: e.start)
    if not steps:
        raise ValueError(f"the trace has no range {STEP!r}; record it with vitbench trace")
    threads = {steps[0].thread} | {e.thread for e in events if e.name.startswith(NODE)}
    kernels = [event for event in events if event.category == KERNEL]
    walk = _Walk(set(modules), node_place, is_cuda=bool(kernels))
    walk.run(
        event
        for event in events
        if event.category != KERNEL
        and event.thread in threads
        and any(step.start <= event.start < step.end for step in steps)
    )
    for step in steps:
        walk.run_kernels([e for e in kernels if step.start <= e.start < step.end], step)
    n = len(steps)
    nanoseconds = [step.end - step.start for step in steps]
    return Analysis(
        breakdown=Breakdown(walk.rows(n), sum(nanoseconds) / 1e9 / n, n),
        step_samples=tuple(duration / 1e9 for duration in nanoseconds),
        operators=_operators(walk.operators, n),
        kernels=_operators(walk.kernels, n),
        backward=tuple(walk.spans),
    )


@dataclass
class _Frame:
    """An event that is running, and where: phase, module and kind hold for what runs within it."""

    event: Event
    end: int
    phase: str
    place: str
    kind: str | None
    """Of the operator that computes, or of those that only call it."""
    is_claimed: bool
    """Whether an operator that computes is running."""
    nested: int = 0
    """Nanoseconds of the events within it."""


@dataclass
class _Cell:
    nanoseconds: int = 0
    calls: int = 0
    flops: int = 0
    bytes: int = 0


@dataclass
class _Tally:
    kind: str
    calls: int = 0
    self_time: int = 0
    total: int = 0
    device: int = 0
    flops: int = 0


@dataclass
class _Walk:
    """Goes through nested events once, and gives every nanosecond to one row."""

    modules: set[str]
    node_place: Callable[[int], str]
    is_cuda: bool
    cells: dict[tuple[str, str, str], _Cell] = field(default_factory=lambda: defaultdict(_Cell))
    operators: dict[str, _Tally] = field(default_factory=dict)
    kernels: dict[str, _Tally] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    launched: dict[int, tuple[tuple[str, str, str], str]] = field(default_factory=dict)
    """Row and operator of a launch, by its correlation."""
    _stack: list[_Frame] = field(default_factory=list)
    _place: str = ELSEWHERE
    """That of the last node: gradients are added up right after the node that they come from."""

    def run(self, events: Iterable[Event]) -> None:
        for event in sorted(events, key=lambda event: (event.start, -event.end)):
            while self._stack and self._stack[-1].end <= event.start:
                self._leave()
            self._enter(event)
        while self._stack:
            self._leave()

    def run_kernels(self, kernels: list[Event], step: Event) -> None:
        """Gives the step's time to the kernel that started first of those that run, and to `idle` where none does."""
        if not self.is_cuda:
            return
        now = step.start
        for kernel in sorted(kernels, key=lambda kernel: kernel.start):
            key, operator = self.launched.get(kernel.correlation or -1, ((ELSEWHERE, "other", BETWEEN), ""))
            start, end = min(max(kernel.start, now), step.end), min(kernel.end, step.end)
            self.cells[ELSEWHERE, "idle", BETWEEN].nanoseconds += start - now
            self.cells[key].nanoseconds += max(end - start, 0)
            now = max(start, end)
            duration = kernel.end - kernel.start
            tally = self.kernels.setdefault(kernel.name, _Tally(key[1]))
            tally.calls += 1
            tally.self_time += duration
            tally.total += duration
            if operator in self.operators:
                self.operators[operator].device += duration
        self.cells[ELSEWHERE, "idle", BETWEEN].nanoseconds += step.end - now

    def rows(self, steps: int) -> tuple[Row, ...]:
        return tuple(
            Row(*key, cell.nanoseconds / 1e9 / steps, cell.calls // steps, cell.flops // steps, cell.bytes // steps)
            for key, cell in self.cells.items()
            if cell != _Cell()
        )

    def _enter(self, event: Event) -> None:
        parent = self._stack[-1] if self._stack else _Frame(event, event.end, BETWEEN, ELSEWHERE, None, False)
        # The trace rounds to nanoseconds, so that a child may seem to outlive its parent by one.
        frame = replace(parent, event=event, end=min(event.end, parent.end), nested=0)
        if event.category == RANGE:
            self._enter_range(frame)
        elif event.category == LAUNCH and event.correlation is not None:
            operators = (outer.event.name for outer in reversed(self._stack) if outer.event.category == OPERATOR)
            self.launched[event.correlation] = self._key(frame), next(operators, "")
        elif event.category == OPERATOR:
            self._enter_operator(frame)
        self._stack.append(frame)

    def _enter_range(self, frame: _Frame) -> None:
        name = frame.event.name
        if name in self.modules:
            frame.place = name
        elif name in PHASE_OF:
            frame.phase = PHASE_OF[name]
            frame.place = name if name not in (FORWARD, BACKWARD) else ELSEWHERE
        elif name.startswith(COMPILED) and not frame.is_claimed:
            frame.kind = "compiled"

    def _enter_operator(self, frame: _Frame) -> None:
        event = frame.event
        if event.name.startswith(NODE):
            if event.sequence is not None:
                self._place = self.node_place(event.sequence)
            frame.place = self._place
            self._note_span(frame)
        tally = self.operators.setdefault(event.name, _Tally(operator_kind(event) or "other"))
        tally.calls += 1
        # An operator that calls itself counts once.
        if not any(outer.event.name == event.name for outer in self._stack):
            tally.total += frame.end - event.start
        if frame.is_claimed:
            return
        kind = operator_kind(event)
        if kind == "attention" and any(outer.event.name == LINEAR for outer in self._stack):
            kind = "linear"
        if kind is not None:
            frame.kind, frame.is_claimed = kind, True
            cell, flops = self.cells[self._key(frame)], operator_flops(event)
            cell.calls += 1
            cell.flops += flops
            cell.bytes += operator_bytes(event) if frame.phase != "update" else 0  # see operator_bytes
            tally.flops += flops
        elif frame.kind is None:
            frame.kind = "other"

    def _leave(self) -> None:
        frame = self._stack.pop()
        duration = frame.end - frame.event.start
        self_time = duration - frame.nested
        if self._stack:
            self._stack[-1].nested += duration
        if frame.event.category == OPERATOR:
            self.operators[frame.event.name].self_time += self_time
        if not self.is_cuda:
            self.cells[self._key(frame)].nanoseconds += self_time

    def _key(self, frame: _Frame) -> tuple[str, str, str]:
        kind = frame.kind or "untracked"
        if frame.phase == "update" and kind != "untracked":
            kind = "optimizer"
        return module_part(frame.place), kind, frame.phase

    def _note_span(self, frame: _Frame) -> None:
        span = Span(frame.place, frame.event.start, frame.end, frame.event.thread)
        last = self.spans[-1] if self.spans else span
        is_same_step = all(outer.event.start < last.end for outer in self._stack)
        if self.spans and is_same_step and (last.place, last.thread) == (span.place, span.thread):
            self.spans[-1] = replace(last, end=span.end)
        else:
            self.spans.append(span)


def _operators(tallies: dict[str, _Tally], steps: int) -> tuple[Operator, ...]:
    operators = (
        Operator(
            name=name,
            kind=tally.kind,
            calls=tally.calls / steps,
            self_seconds=tally.self_time / 1e9 / steps,
            total_seconds=tally.total / 1e9 / steps,
            device_seconds=tally.device / 1e9 / steps,
            flops=tally.flops // steps,
        )
        for name, tally in tallies.items()
    )
    return tuple(sorted(operators, key=lambda o: -max(o.self_seconds, o.device_seconds)))
