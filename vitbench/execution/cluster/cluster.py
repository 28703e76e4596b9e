"""What has the cluster that was asked for, and how many runs is there room for? Connected to once, when it is needed."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, cast

from vitbench.config import Precision
from vitbench.execution.claims import JobQueue
from vitbench.execution.cluster.connection import chosen_address, connect, import_ray
from vitbench.execution.cluster.gpu_share import MOST_ON_A_GPU, PeakMemory, gpu_share, parse_gpus_per_run
from vitbench.execution.cluster.mailbox import Mailbox
from vitbench.execution.cluster.nodes import Needs, Nodes, with_kind
from vitbench.execution.cluster.sweep import Limit, Sweep
from vitbench.execution.cluster.task import Expected
from vitbench.execution.job import Job, OnRecord, OnReport
from vitbench.execution.preparation import num_jobs
from vitbench.machine import cpu_cores
from vitbench.records import Environment, Record
from vitbench.text import say

if TYPE_CHECKING:
    import torch

    from vitbench.execution.current_environment import RunDevice


@dataclass(frozen=True)
class ClusterOptions:
    """What the user said of the cluster. `address`: None takes RAY_ADDRESS, else starts a cluster here."""

    address: str | None = None
    gpus_per_run: str = "1"
    """A share, or `auto`."""


@dataclass(frozen=True)
class ClusterDevice:
    """A device of the cluster's nodes, which this machine may not have."""

    name: str
    torch_device: torch.device
    auto_precision: str

    def resolve_precision(self, precision: Precision) -> Literal["fp32", "bf16"]:
        return cast(Literal["fp32", "bf16"], self.auto_precision if precision == "auto" else precision)


class RayCluster:
    """The cluster of one command. Nothing is connected to before it is asked for something; `close` leaves it."""

    def __init__(self, options: ClusterOptions, *, device: str, jobs: str, threads: int) -> None:
        """Raises ValueError without Ray, and for options that have no meaning."""
        if device.startswith("cuda:"):
            raise ValueError(f"device {device!r}: Ray chooses the GPU of each run; give cuda")
        if device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device {device!r} is not known; use auto, cpu or cuda")
        self._gpus_per_run = parse_gpus_per_run(options.gpus_per_run)
        if device == "cpu" and self._gpus_per_run != 1:
            raise ValueError(f"gpus-per-run {options.gpus_per_run!r} has no meaning with --device cpu; leave it out")
        self._most = num_jobs(jobs)
        self._address = chosen_address(options.address)
        self._device, self._threads = device, threads
        self._ray = import_ray()
        self._expected = Expected(device, threads, str(Path.cwd()))
        self._is_connected = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_connected:
            self._ray.shutdown()

    @cached_property
    def _nodes(self) -> Nodes:
        """Connects. Raises ValueError where the cluster does not answer, or has no node for these runs."""
        cores = max(cpu_cores(), self._threads) if self._most is None else self._most * self._threads
        connect(self._ray, self._address, num_cpus=cores)
        self._is_connected = True
        needs = Needs(self._threads, self._on_gpus())
        nodes = Nodes(self._ray, needs, say)
        if not nodes.fit:
            what = f"a GPU and {needs.threads} CPUs" if needs.on_gpu else f"{needs.threads} CPUs, one for each thread"
            raise ValueError(
                f"no node of the cluster has {what}; start Ray there with --num-cpus, or give another --device or --threads"
            )
        if self._address is not None:
            self._expected = Expected(needs.device, self._threads, self._expected.folder)
            nodes.describe(self._expected)
            self._expected = with_kind(self._expected, nodes.facts)
        else:
            nodes.examined.update(nodes.fit)  # this machine is what the command has checked
        return nodes

    @cached_property
    def _mailbox(self) -> Mailbox:
        return Mailbox(self._ray)

    def _on_gpus(self) -> bool:
        if self._device != "auto" or self._address is None:
            from vitbench.device import open_device

            # On a cluster of others, this machine need not have what they have.
            return self._device == "cuda" or (
                self._address is None and open_device(self._device).torch_device.type == "cuda"
            )
        return bool(self._ray.cluster_resources().get("GPU", 0) > 0)

    @cached_property
    def device(self) -> RunDevice:
        """What runs are on. Raises ValueError where no cluster answers."""
        facts = self._nodes.facts
        if facts is None:
            from vitbench.device import open_device

            return open_device(self._device)
        import torch

        kind = facts.environment.device.partition(":")[0]
        # Ray shows a task its own GPU alone, which is then the first.
        torch_device = torch.device("cuda", 0) if kind == "cuda" else torch.device("cpu")
        return ClusterDevice(facts.environment.device, torch_device, facts.environment.precision)

    @property
    def machine(self) -> Environment | None:
        """The nodes', as they described themselves; None where this machine does the runs."""
        return self._nodes.facts.environment if self._nodes.facts else None

    def resolve_jobs(self, pending: int) -> int:
        """How many runs at a time, at most: what was asked for, else what there is room for."""
        share = self._gpus_per_run or 1 / MOST_ON_A_GPU
        self._nodes.look()
        room = self._most or sum(self._nodes.slots(share).values())
        return max(1, min(room, pending))

    def run(
        self,
        queue: JobQueue,
        jobs: Sequence[Job],
        *,
        records: Iterable[Record],
        results: Path,
        on_record: OnRecord,
        on_report: OnReport | None,
        say: Callable[[str], None],
    ) -> None:
        """Runs what the queue hands out of `jobs`. `records`: of earlier runs, whose memory tells what a run needs of a GPU.

        `on_report` None: nobody watches. Raises ValueError where no node has the data or the code.
        """
        nodes = self._nodes
        if self._address is not None:
            with _marker(results) as marker:
                nodes.check(jobs, replace(self._expected, marker=marker))
        peaks = PeakMemory(self.device.name)
        peaks.learn(records)
        if self._gpus_per_run is None:
            peaks.learn_profiles(results)
        memory = nodes.facts.device_memory if nodes.facts else _memory_here() if nodes.needs.on_gpu else None

        def share(job: Job) -> float:
            if not nodes.needs.on_gpu or self._gpus_per_run is not None:
                return self._gpus_per_run or 1.0
            return gpu_share(peaks.of(job.run.config, job.precision), memory)

        def learn(job: Job, record: Record) -> bool | None:
            peaks.learn([record])
            return on_record(job, record)

        limit = Limit(self._most, share)
        expected = replace(self._expected, is_watched=on_report is not None)
        Sweep(
            self._ray, queue, nodes, limit, expected, self._mailbox, on_record=learn, on_report=on_report, say=say
        ).run()


@contextmanager
def _marker(results: Path) -> Iterator[Path]:
    """A file that those nodes see which share the results folder with this machine."""
    marker = results.absolute() / f".shared-{secrets.token_hex(8)}"
    marker.touch()
    try:
        yield marker
    finally:
        marker.unlink(missing_ok=True)


def _memory_here() -> int:
    import torch

    return torch.cuda.get_device_properties(0).total_memory
