"""What happens on a node: what it is, what it lacks, and one run."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from vitbench import __version__
from vitbench.execution.cluster.mailbox import sender
from vitbench.execution.job import Job
from vitbench.execution.preparation import DataReader
from vitbench.records import Environment, describe_environment

_OF_KIND = ("device", "machine", "torch", "timm", "precision", "kernels")


@dataclass(frozen=True)
class NodeFacts:
    """What a node is, as its records will say it."""

    vitbench: str
    environment: Environment
    """At the precision that `auto` becomes there, with whose operators compute there."""
    device_memory: int | None
    """Bytes, of a GPU."""

    @property
    def kind(self) -> tuple[tuple[str, str], ...]:
        """(name, value) of what tables keep apart."""
        facts = {name: str(getattr(self.environment, name)) for name in _OF_KIND}
        return tuple({"vitbench": self.vitbench, **facts, "kernels": facts["kernels"].partition(":")[0]}.items())


@dataclass(frozen=True)
class Expected:
    """What a task is told besides its jobs."""

    device: str
    """`cpu` or `cuda`."""
    threads: int
    folder: str
    """Working directory of the command, from which relative paths count."""
    marker: Path | None = None
    """A file in the results folder."""
    is_watched: bool = True
    """Whether anyone sees how far runs are."""
    kind: tuple[tuple[str, str], ...] = ()
    """As of `NodeFacts`; empty where it does not matter, as on this machine alone."""


@dataclass(frozen=True)
class Answer:
    """Of a task: the run's record, as JSON, or why this node cannot have it."""

    node: str
    record: str = ""
    unfit: str = ""


def describe_node(expected: Expected) -> NodeFacts:
    """Of the node that this is called on."""
    import torch

    from vitbench.device import open_device
    from vitbench.kernels import native

    torch.set_num_threads(expected.threads)
    device = open_device(expected.device)
    is_cuda = device.torch_device.type == "cuda"
    environment = describe_environment(
        device.name,
        precision=device.resolve_precision("auto"),
        threads=expected.threads,
        kernels="torch" if is_cuda else native.describe(),
    )
    memory = torch.cuda.get_device_properties(device.torch_device).total_memory if is_cuda else None
    return NodeFacts(__version__, environment, memory)


def differences(kind: tuple[tuple[str, str], ...], expected: tuple[tuple[str, str], ...]) -> str:
    """`torch 2.8.0 instead of 2.9.0, …`; empty where a node is of the expected kind."""
    values = dict(expected)
    return ", ".join(f"{name} {value} instead of {values[name]}" for name, value in kind if value != values[name])


def what_lacks(jobs: bytes, expected: Expected) -> tuple[str, bool]:
    """(what this node lacks for these jobs, pickled; empty where it can run them, whether it sees the results folder)."""
    _go_to(expected.folder)
    sees_results = expected.marker is None or expected.marker.exists()
    for job in pickle.loads(jobs):
        if lack := _lacks_data(job) or _lacks_code(job) or _lacks_weights(job, sees_results):
            return lack, sees_results
    return "", sees_results


def _go_to(folder: str) -> None:
    if Path(folder).is_dir():
        os.chdir(folder)


def _lacks_data(job: Job) -> str:
    return _data_lack(job.dataset, job.data_root, job.run.config.model.image_hw, job.data_sha256)


@lru_cache(maxsize=64)
def _data_lack(name: str, root: Path | None, size: tuple[int, int], sha256: str) -> str:
    try:
        current = DataReader(root).decode(name, size)
    except ValueError as error:
        return str(error)
    if sha256 and current != sha256:
        return f"the images of {name!r} are not those of the machine that planned; bring the same files to all"
    return ""


def _lacks_code(job: Job) -> str:
    from vitbench.execution.study_code import CodeError, load_code

    try:
        load_code(job.run.config, job.study_file, variant=job.run.variant)
    except CodeError as error:
        return str(error)
    return ""


def _lacks_weights(job: Job, sees_results: bool) -> str:
    if job.init is not None and not job.init.startswith("timm:") and not Path(job.init).exists():
        return f"weights {job.init!r} are not there; put --results on a file system that all nodes share"
    if job.keep_weights and not sees_results:
        return "its weights would not come to --results; put that on a file system that all nodes share"
    return ""


def run(job: bytes, examined: Sequence[str], slots: dict[str, int], expected: Expected, mailbox: Any) -> Answer:
    """Runs a job, pickled. `examined`: nodes known to have what it needs; `slots`: runs that each node has room for."""
    import ray

    # By Ray's handler, a signal would be an error of the run; by default it ends the process, once the state is saved.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    node = ray.get_runtime_context().get_node_id()
    this: Job = pickle.loads(job)
    send = sender(mailbox, this.run.run_id, node)
    send(None)
    _go_to(expected.folder)
    if node not in examined:  # it has joined since, or was busy
        lack = differences(describe_node(expected).kind, expected.kind) if expected.kind else ""
        lack = lack or what_lacks(pickle.dumps([this]), expected)[0]
        if lack:
            return Answer(node, unfit=lack)
    from vitbench.execution.run import execute

    this = replace(this, workers=min(this.workers, slots.get(node, this.workers)))
    # As JSON, so that what is appended is what a reader will see.
    return Answer(node, record=(execute(this, send) if expected.is_watched else execute(this)).to_json())
