"""What does a Chrome trace of torch.profiler say: which ranges, operators, launches and kernels, when, of which shapes?

The trace format is documented at https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

OPERATOR, RANGE, LAUNCH, KERNEL = "operator", "range", "launch", "kernel"
CATEGORIES = {
    "cpu_op": OPERATOR,
    "user_annotation": RANGE,
    "cuda_runtime": LAUNCH,
    "cuda_driver": LAUNCH,
    "kernel": KERNEL,
    "gpu_memcpy": KERNEL,
    "gpu_memset": KERNEL,
}
"""Events are read that have one of these categories of torch's."""

NODE = "autograd::engine::evaluate_function: "
"""The name of the operator that torch records around each node of the backward pass begins like this."""
NATIVE = "vitbench::"
"""The names of vitbench's operators begin like this. Their outputs are among their inputs."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Event:
    """Something that took time. `start` and `end` are in nanoseconds.

    `shapes`, `strides` and `types` are those of the inputs, in order. An input has one shape if it is a tensor, one for each
    if it is a list of tensors, and else none.
    """

    name: str
    category: str
    start: int
    end: int
    thread: str = ""
    sequence: int | None = None
    """Number of the node of the backward pass that an operator makes, or that it is."""
    correlation: int | None = None
    """Equal in a kernel and its launch."""
    shapes: tuple[tuple[Shape, ...], ...] = ()
    strides: tuple[tuple[Shape, ...], ...] = ()
    types: tuple[str, ...] = ()
    flops: int | None = None
    """Of operators that tell them, as vitbench's do."""
    values: tuple[str, ...] = ()
    """Inputs that are no tensors, as text: `[4, 4]`."""


def read_events(trace: dict[str, Any]) -> list[Event]:
    """The ranges, operators, launches and kernels of a trace, as torch wrote it."""
    return [
        _event(event)
        for event in trace["traceEvents"]
        if event.get("ph") == "X" and event.get("cat") in CATEGORIES and "dur" in event
    ]


def _event(event: dict[str, Any]) -> Event:
    arguments = event.get("args", {})
    start = round(1e3 * event["ts"])
    sequence = arguments.get("Sequence number")
    return Event(
        name=event["name"],
        category=OPERATOR if event["name"].startswith(NATIVE) else CATEGORIES[event["cat"]],
        start=start,
        end=start + round(1e3 * event["dur"]),
        thread=str(event["tid"]),
        sequence=sequence if sequence is None or sequence >= 0 else None,
        correlation=arguments.get("correlation"),
        flops=arguments.get("flops"),
        shapes=tuple(map(_tensors, arguments.get("Input Dims", ()))),
        strides=tuple(map(_tensors, arguments.get("Input Strides", ()))),
        types=tuple(arguments.get("Input type", ())),
        values=tuple(map(str, arguments.get("Concrete Inputs", ()))),
    )


def _tensors(sizes: Iterable[Any]) -> tuple[Shape, ...]:
    """[2, 3] is one tensor, [[2, 3], [4]] two. [] is none: a number, or a tensor that holds one number."""
    sizes = tuple(sizes)
    if not sizes:
        return ()
    return tuple(map(tuple, sizes)) if isinstance(sizes[0], list) else (sizes,)
