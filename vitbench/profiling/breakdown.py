"""Where does the time of a step go? In rows by part of the model, kind of operation and phase, which sum to the step.

On CPU a row's time is that of its operators without what they call, on the thread that runs the step; on CUDA it is that of
its kernels, and `idle` is when none ran.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from vitbench.costs.attribution import ELSEWHERE, part_name

BETWEEN = "between"
"""The phase of what ran outside of the others."""
ROW_PHASES = ("data", "forward", "backward", "update", BETWEEN)

ATTENTION = ("attn", "self_attention")
"""What other libraries call a block's attention."""
NORM = re.compile(r"(norm|ln|layer_?norm)(_before|_after|_?\d)?")
CONTAINERS = ("blocks", "layers", "layer", "stages")
OF_TIMM = "timm"
"""The module that holds a model of timm."""
WRAPPERS = ("model", "vit", "transformer", "encoder", OF_TIMM)
"""Names of modules that hold all others."""


@dataclass(frozen=True)
class Row:
    """Seconds, calls of operators, FLOPs and bytes of one part, kind (`operations.KINDS`) and phase in a mean step.

    A sum of rows has "" where the rows differ. FLOPs are 2 × MACs of matrix products, convolutions and attention; bytes are
    those of inputs and outputs, each once. Both are 0 for what the trace does not tell: compiled kernels, the optimizer.
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
        return {"step_seconds": self.step_seconds, "steps": self.steps, "rows": [asdict(row) for row in self.rows]}


@dataclass(frozen=True)
class Operator:
    """An operator or kernel by name, in a mean step. `total_seconds` include what it calls, `self_seconds` do not.

    `device_seconds` are those of the kernels that it launched itself.
    """

    name: str
    kind: str
    calls: float
    self_seconds: float
    total_seconds: float
    device_seconds: float
    flops: int


def block_name(part: str) -> str:
    """`blocks.3.attention` → `blocks.3`, `stem` → `stem`."""
    return re.sub(rf"^((?:{'|'.join(CONTAINERS)})\.\w+)\..*", r"\1", part)


def role_name(part: str) -> str:
    """Of all blocks together: `blocks.3.attention` → `attention`, `blocks.3.norm1` → `norm`, `blocks.3` → `blocks`."""
    block = block_name(part)
    name = part if block.partition(".")[0] not in CONTAINERS else part.removeprefix(block).strip(".")
    if NORM.fullmatch(name):
        return "norm"
    if name in ATTENTION:
        return "attention"
    return "blocks" if name.isdigit() else name or "blocks"


def module_part(place: str) -> str:
    """The part that a module belongs to: in a block, the block's child; else as `attribution.part_name` has it."""
    if place == OF_TIMM:
        return ELSEWHERE
    names = place.split(".")
    while len(names) > 1 and names[0] in WRAPPERS:
        del names[0]
    if "relative" in names:  # blocks may share it, which then has the name of the first
        return "position"
    return ".".join(names[:3]) if names[0] in CONTAINERS else part_name(".".join(names))


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
