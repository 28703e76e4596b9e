"""Whose operators do the runs of a study compute with, native ones or torch's, so that its arms stay comparable?

On each machine as the study's records there have it; without any, as measured, which the machine's cache keeps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib import metadata
from typing import TYPE_CHECKING, Literal

from vitbench.config import RunConfig, block_width
from vitbench.execution.job import SettledOperators
from vitbench.records import Record, describe_environment

if TYPE_CHECKING:
    from vitbench.device import Device

AS_RECORDED = "as the study's earlier runs on this machine"


def recorded_operators(records: Iterable[Record]) -> dict[int, dict[str, Literal["native", "torch"]]]:
    """Width -> machine -> whose operators the earliest run on this torch computed with, of runs that could have either."""
    torch = metadata.version("torch")
    first: dict[int, dict[str, Literal["native", "torch"]]] = defaultdict(dict)
    for record in sorted(records, key=lambda record: record.started):
        environment, width = record.environment, block_width(record.config.model)
        could_be_native = record.is_done and environment.kernels.partition(":")[0] == "native"
        if could_be_native and width is not None and environment.torch == torch:
            first[width].setdefault(environment.machine, "native" if environment.operators == "native" else "torch")
    return first


def settle(
    records: Iterable[Record], configs: Iterable[RunConfig], *, device: Device, threads: int
) -> Mapping[int, Mapping[str, SettledOperators]]:
    """Width -> machine -> operators: of machines with records, and of this one, where they are taken from now on.

    `records`: those of the studies that `configs` are of. Raises ValueError where the user asks for operators that cannot
    compute here.
    """
    import torch

    from vitbench.kernels import choice, native

    if device.torch_device.type != "cpu":
        return {}
    native.check_asked()
    if native.asked() != "auto" or native.state()[0] is None:
        return {}
    settled: dict[int, dict[str, SettledOperators]] = {
        width: {machine: (operators, AS_RECORDED) for machine, operators in machines.items()}
        for width, machines in recorded_operators(records).items()
    }
    here, before = _machine(device.name), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for width in {block_width(config.model) for config in configs if _may_be_native(config, device)}:
            if width is None or not choice.can_be_native(width):
                continue
            machines = settled.setdefault(width, {})
            if here in machines:
                choice.settle(width, *machines[here])
            chosen = choice.chosen(width)
            machines[here] = chosen.operators, chosen.why
    finally:
        torch.set_num_threads(before)
    return settled


def _may_be_native(config: RunConfig, device: Device) -> bool:
    return config.train.compile != "on" and device.resolve_precision(config.train.precision) == "bf16"


@lru_cache(maxsize=8)
def _machine(device: str) -> str:
    return describe_environment(device, precision="", threads=1).machine
