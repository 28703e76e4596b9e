"""Where does the time of a step go: by part of the model, kind of operation and phase, in rows that sum to the step.

Computed from the events of a trace. On CPU the time of a row is the time in which its operators ran themselves, on the
thread that runs the step; on CUDA the time in which its kernels ran, and `idle` is when none did.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from vitbench.costs.attribution import ELSEWHERE, part_of
from vitbench.profiling.events import KERNEL, LAUNCH, NODE, OPERATOR, RANGE, Event
from vitbench.profiling.operations import COMPILED, LINEAR, bytes_of, flops_of, kind_of
from vitbench.profiling.ranges import BACKWARD, CLIP, DATA, FORWARD, LOSS, OPTIMIZER, STEP

PHASE_OF = {
    DATA: "data",
    FORWARD: "forward",
    LOSS: "forward",
    BACKWARD: "backward",
    CLIP: "update",
    OPTIMIZER: "update",
}
"""The phase of a row by the range that it ran in."""
BETWEEN = "between"
"""The phase of what ran outside of all these."""
ROW_PHASES = ("data", "forward", "backward", "update", BETWEEN)

ROLES = {"attention": "attention", "attn": "attention", "self_attention": "attention"}
"""What blocks' children do, where the name alone does not say it."""
NORM = re.compile(r"(norm|ln|layer_?norm)(_before|_after|_?\d)?")
CONTAINERS = ("blocks", "layers", "layer", "stages")
OF_TIMM = "timm"
"""The module that holds a model of timm."""
WRAPPERS = ("model", "vit", "transformer", "encoder", OF_TIMM)
"""Modules that hold all others."""


@dataclass(frozen=True)
class Row:
    """One part, kind and phase: mean seconds of a step, and its calls of operators, FLOPs and bytes.

    A group of rows has "" where its rows differ. FLOPs are 2 × MACs of matrix products, convolutions and attention;
    bytes are those of inputs and outputs, each once. Both are 0 where the trace does not tell, as of compiled kernels and
    the optimizer.
    """

    part: str
    kind: str
    phase: str
    seconds: float
    calls: int
    flops: int
    bytes: int

    @property
    def flops_per_second(self) -> float | None:
        return self.flops / self.seconds if self.seconds > 0 and self.flops else None

    @property
    def intensity(self) -> float | None:
        """FLOPs a byte."""
        return self.flops / self.bytes if self.bytes and self.flops else None


@dataclass(frozen=True)
class Breakdown:
    """Rows that sum to `step_seconds`, the mean wall-clock time of `steps` steps under the profiler."""

    rows: tuple[Row, ...]
    step_seconds: float
    steps: int

    def by_kind(self) -> dict[str, Row]:
        """Matrix products of linear layers, attention, norms, …: `operations.KINDS`."""
        return self.grouped(lambda row: row.kind)

    def by_part(self) -> dict[str, Row]:
        """As fine as rows are: `stem`, `blocks.3.attention`, `head`, `loss`, `clip`, `optimizer`, `elsewhere`, …"""
        return self.grouped(lambda row: row.part)

    def by_block(self) -> dict[str, Row]:
        """Whole blocks: `stem`, `blocks.3`, `head`, …"""
        return self.grouped(lambda row: block_of(row.part))

    def by_role(self) -> dict[str, Row]:
        """What all blocks have is one: `attention`, `mlp`, `norm`, beside `stem`, `head`, `loss`, `optimizer`, …"""
        return self.grouped(lambda row: role_of(row.part))

    def grouped(self, key: Callable[[Row], str]) -> dict[str, Row]:
        """Sums of the rows with equal keys, in order of first appearance."""
        groups: dict[str, list[Row]] = defaultdict(list)
        for row in self.rows:
            groups[key(row)].append(row)
        return {name: _sum(rows) for name, rows in groups.items()}

    def of_phase(self, phase: str) -> Breakdown:
        """The rows of one phase; they sum to the time of it."""
        rows = tuple(row for row in self.rows if row.phase == phase)
        return replace(self, rows=rows, step_seconds=sum((row.seconds for row in rows), start=0.0))

    def as_json(self) -> dict[str, Any]:
        return {
            "step_seconds": self.step_seconds,
            "steps": self.steps,
            "rows": [asdict(row) for row in self.rows],
        }

    @staticmethod
    def from_json(facts: dict[str, Any]) -> Breakdown:
        return Breakdown(tuple(Row(**row) for row in facts["rows"]), facts["step_seconds"], facts["steps"])


@dataclass(frozen=True)
class Operator:
    """An operator or kernel by name, over all steps of a trace, a step's mean. Seconds of its own, and with what it calls.

    `device_seconds` are those of the kernels that it launched itself.
    """

    name: str
    kind: str
    calls: float
    self_seconds: float
    total_seconds: float
    device_seconds: float
    flops: int


@dataclass(frozen=True)
class Span:
    """Consecutive nodes of the backward pass that belong to one place; nanoseconds."""

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
    events: Sequence[Event], *, modules: Collection[str], place_of: Callable[[int], str] = lambda _: ELSEWHERE
) -> Analysis:
    """The steps in `events`: whatever ran in a range named `step`, on the thread of that range and on those that ran
    nodes of the backward pass meanwhile (it waits for them).

    `modules` are the names of ranges that are modules, `place_of` gives the module of a backward node's number: see
    `ranges.Ranges`. Raises ValueError where there is no step.
    """
    steps = sorted((e for e in events if e.category == RANGE and e.name == STEP), key=lambda e: e.start)
    if not steps:
        raise ValueError(f"the trace has no range {STEP!r}; record it with vitbench trace")
    threads = {steps[0].thread} | {e.thread for e in events if e.name.startswith(NODE)}
    kernels = [event for event in events if event.category == KERNEL]
    walk = _Walk(set(modules), place_of, is_cuda=bool(kernels))
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
    samples = tuple((step.end - step.start) / 1e9 for step in steps)
    return Analysis(
        breakdown=Breakdown(walk.rows(n), sum(step.end - step.start for step in steps) / 1e9 / n, n),
        step_samples=samples,
        operators=_operators(walk.operators, n),
        kernels=_operators(walk.kernels, n),
        backward=tuple(walk.spans),
    )


def block_of(part: str) -> str:
    """`blocks.3.attention` → `blocks.3`."""
    return re.sub(rf"^((?:{'|'.join(CONTAINERS)})\.\w+)\..*", r"\1", part)


def role_of(part: str) -> str:
    """`blocks.3.attention` → `attention`, `blocks.3.norm1` → `norm`, what a block does itself → `blocks`."""
    block = block_of(part)
    name = part if block.partition(".")[0] not in CONTAINERS else part.removeprefix(block).strip(".")
    if NORM.fullmatch(name):
        return "norm"
    return ROLES.get(name, "blocks" if name.isdigit() else name or "blocks")


def part_of_place(place: str) -> str:
    """The part that a module belongs to: of a block, its child; else as `parts.part_of` has it."""
    if place == OF_TIMM:
        return ELSEWHERE
    names = place.split(".")
    while len(names) > 1 and names[0] in WRAPPERS:
        del names[0]
    if "relative" in names:  # blocks may share it, which then has the name of the first
        return "position"
    return ".".join(names[:3]) if names[0] in CONTAINERS else part_of(".".join(names))


@dataclass
class _Frame:
    """An event that is running, and what holds within it."""

    event: Event
    end: int
    phase: str
    place: str
    kind: str | None
    """Of the operator that does the work, or of the operators that only call it."""
    is_claimed: bool
    """Whether an operator that does the work itself is running."""
    within: int = 0
    """Nanoseconds of what ran within it."""


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
    own: int = 0
    total: int = 0
    device: int = 0
    flops: int = 0


@dataclass
class _Walk:
    """Goes through nested events once, and gives every nanosecond to one row."""

    modules: set[str]
    place_of: Callable[[int], str]
    is_cuda: bool
    cells: dict[tuple[str, str, str], _Cell] = field(default_factory=lambda: defaultdict(_Cell))
    operators: dict[str, _Tally] = field(default_factory=dict)
    kernels: dict[str, _Tally] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    launched: dict[int, tuple[tuple[str, str, str], str]] = field(default_factory=dict)
    """Of a launch's correlation: its row, and the operator that launched."""
    _stack: list[_Frame] = field(default_factory=list)
    _place: str = ELSEWHERE
    """Of the last node: gradients are added up right after the node that they come from."""

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
            seen, end = min(max(kernel.start, now), step.end), min(kernel.end, step.end)
            self.cells[ELSEWHERE, "idle", BETWEEN].nanoseconds += seen - now
            own = max(end - seen, 0)
            self.cells[key].nanoseconds += own
            now = seen + own
            tally = self.kernels.setdefault(kernel.name, _Tally(key[1]))
            tally.calls += 1
            tally.own += kernel.end - kernel.start
            tally.total += kernel.end - kernel.start
            if operator in self.operators:
                self.operators[operator].device += kernel.end - kernel.start
        self.cells[ELSEWHERE, "idle", BETWEEN].nanoseconds += step.end - now

    def rows(self, steps: int) -> tuple[Row, ...]:
        return tuple(
            Row(*key, cell.nanoseconds / 1e9 / steps, cell.calls // steps, cell.flops // steps, cell.bytes // steps)
            for key, cell in self.cells.items()
            if cell != _Cell()
        )

    def _enter(self, event: Event) -> None:
        around = self._stack[-1] if self._stack else _Frame(event, event.end, BETWEEN, ELSEWHERE, None, False)
        # The trace rounds to nanoseconds, so that a child may seem to outlive its parent by one.
        frame = replace(around, event=event, end=min(event.end, around.end), within=0)
        if event.category == RANGE:
            self._enter_range(frame)
        elif event.category == LAUNCH and event.correlation is not None:
            self.launched[event.correlation] = (self._key(frame), self._innermost_operator())
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
                self._place = self.place_of(event.sequence)
            frame.place = self._place
            self._note_span(frame)
        tally = self.operators.setdefault(event.name, _Tally(kind_of(event) or "other"))
        tally.calls += 1
        # An operator that calls itself is there twice.
        if not any(outer.event.name == event.name for outer in self._stack):
            tally.total += frame.end - event.start
        if frame.is_claimed:
            return
        kind = kind_of(event)
        if kind == "attention" and any(outer.event.name == LINEAR for outer in self._stack):
            kind = "linear"
        if kind is not None:
            frame.kind, frame.is_claimed = kind, True
            cell, flops = self.cells[self._key(frame)], flops_of(event)
            cell.calls += 1
            cell.flops += flops
            cell.bytes += bytes_of(event) if frame.phase != "update" else 0  # see bytes_of
            tally.flops += flops
        elif frame.kind is None:
            frame.kind = "other"

    def _leave(self) -> None:
        frame = self._stack.pop()
        lasted = frame.end - frame.event.start
        own = lasted - frame.within
        if self._stack:
            self._stack[-1].within += lasted
        if frame.event.category == OPERATOR:
            self.operators[frame.event.name].own += own
        if not self.is_cuda:
            self.cells[self._key(frame)].nanoseconds += own

    def _key(self, frame: _Frame) -> tuple[str, str, str]:
        kind = frame.kind or "untracked"
        if frame.phase == "update" and kind != "untracked":
            kind = "optimizer"
        return part_of_place(frame.place), kind, frame.phase

    def _innermost_operator(self) -> str:
        names = (frame.event.name for frame in reversed(self._stack) if frame.event.category == OPERATOR)
        return next(names, "")

    def _note_span(self, frame: _Frame) -> None:
        last = self.spans[-1] if self.spans else None
        if last is not None and (last.place, last.thread) == (frame.place, frame.event.thread):
            is_same_step = all(outer.event.start < last.end for outer in self._stack)
            if is_same_step:
                self.spans[-1] = replace(last, end=frame.end)
                return
        self.spans.append(Span(frame.place, frame.event.start, frame.end, frame.event.thread))


def _operators(tallies: dict[str, _Tally], steps: int) -> tuple[Operator, ...]:
    operators = (
        Operator(
            name=name,
            kind=tally.kind,
            calls=tally.calls / steps,
            self_seconds=tally.own / 1e9 / steps,
            total_seconds=tally.total / 1e9 / steps,
            device_seconds=tally.device / 1e9 / steps,
            flops=tally.flops // steps,
        )
        for name, tally in tallies.items()
    )
    return tuple(sorted(operators, key=lambda o: -max(o.self_seconds, o.device_seconds)))


def _sum(rows: list[Row]) -> Row:
    def shared(values: set[str]) -> str:
        return values.pop() if len(values) == 1 else ""

    return Row(
        part=shared({row.part for row in rows}),
        kind=shared({row.kind for row in rows}),
        phase=shared({row.phase for row in rows}),
        seconds=sum(row.seconds for row in rows),
        calls=sum(row.calls for row in rows),
        flops=sum(row.flops for row in rows),
        bytes=sum(row.bytes for row in rows),
    )
