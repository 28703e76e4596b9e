"""Where a run happened: what must be equal before two records may be compared, and what helps to reproduce them."""

from __future__ import annotations

import hashlib
import platform
import sys
from importlib import metadata

from pydantic import BaseModel, ConfigDict

from vitbench import __version__
from vitbench.machine import cpu_cores, cpu_name, memory_bytes


class Environment(BaseModel):
    """Recorded beside the numbers. No host names, no user names, no paths."""

    model_config = ConfigDict(frozen=True, extra="allow")

    device: str
    """`cpu` or `cuda`, a colon, and the name that the hardware gives itself."""
    machine: str
    """8 hex digits of a hash over processor, cores, memory and accelerator: one kind of machine, not one host."""
    precision: str
    """What `auto` became: `fp32` or `bf16`."""
    compiled: bool
    compile_note: str = ""
    kernels: str = "torch"
    """Whose operators computed: `native`, or `torch` and, where that is not by choice, a colon and the reason; on CUDA, a
    colon and which attention kernel was fastest: `torch: attention cudnn`.

    `native:` and a reason where torch's computed, but native ones were to be had: of timm's models, `not in this model`;
    of ours, where torch's were measured to be faster. Records of these stand beside those of `native`.
    """
    kernels_note: str = ""
    """Why these, where both could compute: what was measured, what earlier runs of the study used, or what was asked for."""
    kernel_library: str = ""
    """Hash of the native operators that computed: of their sources, compiler and processor. Empty in older records."""
    threads: int
    """Threads that a CPU run computes with."""
    workers: int = 1
    """Runs that shared the machine: images/s and seconds were measured beside them."""
    devices: int = 1
    """That computed the run together, each a part of every batch: GPUs, or processes on CPU. Seconds and images/s are of all
    together, memory is that of the one that needed most.
    """
    torch: str
    timm: str
    numpy: str
    python: str
    vitbench: str
    os: str
    cpu: str
    cpu_cores: int
    memory_bytes: int
    data_sha256: str = ""
    """Hash of the decoded images and labels, in order."""
    micro_batch: int | None = None
    """Images of a training batch whose gradients a device computed at a time, and added up; None where that was its whole
    part of the batch, as in all older records.
    """
    earlier_parts: tuple[str, ...] = ()
    """How earlier parts of an interrupted run computed, where not as the last one did: `in whole batches on 2 devices`, `in
    micro-batches of 32`.
    """
    largest_class: float | None = None
    """Share of the test images that are of the most frequent class: whoever always answers it is right so often. None in older
    records.
    """

    @property
    def comparison_key(self) -> tuple[str, ...]:
        """Records are averaged or subtracted only where this is equal.

        The number of devices is not in it, as that of threads is not: the batch is the same whole batch, and sums are only
        taken in another order.
        """
        compiled = "compiled" if self.compiled else "eager"
        return (
            self.device,
            self.machine,
            self.precision,
            compiled,
            self.torch,
            self.timm,
            self.data_sha256[:16],
            self.kernels.partition(":")[0],
        )

    @property
    def operators(self) -> str:
        """`native` or `torch`: whose operators computed."""
        return "native" if self.kernels == "native" else "torch"

    @property
    def determines_bits(self) -> tuple[str, ...] | None:
        """Where this is equal, a run has the same numbers to the last bit.

        None where nothing makes sure of that: on a GPU, and where parts of a run computed otherwise.
        """
        if self.device.partition(":")[0] != "cpu" or self.earlier_parts:
            return None
        kernels = self.operators, self.kernel_library
        run = (str(self.threads), str(self.devices), str(self.micro_batch), self.numpy, self.python)
        return (*self.comparison_key, *kernels, self.data_sha256, *run)

    @property
    def part(self) -> str:
        """How a part of a run computes that another way of computing may continue; numbers then agree but for rounding."""
        slices = f"in micro-batches of {self.micro_batch}" if self.micro_batch else "in whole batches"
        return f"{slices} on {self.devices} devices" if self.devices > 1 else slices

    @property
    def before_data(self) -> Environment:
        """What is known of it before data are read and the model is compiled."""
        kernels = {"kernels": "torch", "kernels_note": "", "kernel_library": ""}
        return self.model_copy(update={"compiled": False, "data_sha256": "", **kernels})


def describe_environment(
    device: str,
    *,
    precision: str,
    threads: int,
    workers: int = 1,
    devices: int = 1,
    compiled: bool = False,
    compile_note: str = "",
    data_sha256: str = "",
    largest_class: float | None = None,
    kernels: str = "torch",
    micro_batch: int | None = None,
    kernels_note: str = "",
    kernel_library: str = "",
) -> Environment:
    """The environment of a run on `device` (as in `Environment.device`)."""
    cpu, cores, memory = cpu_name(), cpu_cores(), memory_bytes()
    facts = f"{cpu}|{cores}|{round(memory / 2**30)}|{device}|{platform.system()}"
    return Environment(
        device=device,
        machine=hashlib.sha256(facts.encode()).hexdigest()[:8],
        precision=precision,
        compiled=compiled,
        compile_note=compile_note,
        threads=threads,
        workers=workers,
        devices=devices,
        torch=metadata.version("torch"),
        timm=metadata.version("timm"),
        numpy=metadata.version("numpy"),
        python=".".join(map(str, sys.version_info[:3])),
        vitbench=__version__,
        os=f"{platform.system()} {platform.release()}",
        cpu=cpu,
        cpu_cores=cores,
        memory_bytes=memory,
        data_sha256=data_sha256,
        largest_class=largest_class,
        kernels=kernels,
        micro_batch=micro_batch,
        kernels_note=kernels_note,
        kernel_library=kernel_library,
    )
