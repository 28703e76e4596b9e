"""Would a run that is recorded stand in one table with what this command records?"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING, Literal

from vitbench.config import block_width
from vitbench.execution.job import images_a_device
from vitbench.records import Environment, Record, describe_environment

if TYPE_CHECKING:
    from vitbench.device import Device

PARTS = ("device", "machine", "torch", "timm", "precision", "compiled", "kernels")
"""Of `Environment.comparison_key`, all that can be known before a run."""


class CurrentEnvironment:
    """This machine, as far as a command knows it.

    Without a device, as in `plan`, which imports no torch, a record of any device of this machine is of this environment.
    """

    def __init__(
        self,
        device: Device | None = None,
        *,
        threads: int = 1,
        devices: int = 1,
        micro_batch: int | Literal["auto"] | None = None,
    ) -> None:
        """`micro_batch`: what is asked for; with `auto` the free memory decides, so that any is what it may come to."""
        self._device = device
        self.threads, self.devices, self.micro_batch = threads, devices, micro_batch
        self._operators = cache(self._operators_used)
        if device is not None:
            self._resolve_precision = cache(device.resolve_precision)  # which reads a file each time

    def would_repeat(self, record: Record) -> bool:
        """Whether the same run would have the same bits now, by all that is known before it runs."""
        recorded, size = record.environment, self.micro_batch
        if size != "auto":
            is_whole = size is None or size >= images_a_device(record.config.train.batch_size, self.devices)
            if recorded.micro_batch != (None if is_whole else size) or recorded.earlier_parts:
                return False
        is_alike = (recorded.threads, recorded.devices) == (self.threads, self.devices)
        if not is_alike or self.differs(record):
            return False
        if self._device is None or not record.is_done:
            return True
        precision = self._resolve_precision(record.config.train.precision)
        kernels = self._kernels(precision, recorded.compiled, block_width(record.config.model))
        return recorded.model_copy(update={"kernels": kernels}).operators == recorded.operators

    def differs(self, record: Record) -> tuple[str, ...]:
        """The parts of `Environment.comparison_key` in which a record is not what the same run would have now.

        As far as they are known before it runs: without the hash of the data, and of a failed run, which may have
        recorded neither, without compilation and kernels.
        """
        recorded = record.environment
        current = _machine(recorded.device if self._device is None else self._device.name)
        differing = [name for name in PARTS[:4] if getattr(current, name) != getattr(recorded, name)]
        if self._device is not None:
            train, width = record.config.train, block_width(record.config.model)
            precision = self._resolve_precision(train.precision)
            if precision != recorded.precision:
                differing.append("precision")
            if record.is_done:
                on_cpu = self._device.torch_device.type == "cpu"
                # Where native operators compute, `auto` compiles nothing; elsewhere only trying tells.
                eagerly = on_cpu and train.compile == "auto" and self._operators(precision, False, width) == "native"
                if eagerly and recorded.compiled:
                    differing.append("compiled")
                elif self._operators(precision, recorded.compiled, width) != recorded.kernels.partition(":")[0]:
                    differing.append("kernels")
        return tuple(differing)

    def _operators_used(self, precision: str, compiled: bool, width: int | None) -> str:
        """`native` or `torch`: the first word of `Environment.kernels`."""
        return self._kernels(precision, compiled, width).partition(":")[0]

    def _kernels(self, precision: str, compiled: bool, width: int | None) -> str:
        """As `Environment.kernels` has it: whose operators a worker computes with, with its number of threads."""
        import torch

        from vitbench.kernels.choice import describe_use

        assert self._device is not None
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            return describe_use(self._device.torch_device.type, precision=precision, compiled=compiled, width=width)
        finally:
            torch.set_num_threads(before)


@lru_cache(maxsize=8)
def _machine(device: str) -> Environment:
    return describe_environment(device, precision="", threads=1)
