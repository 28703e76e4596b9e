"""What the tests of the cluster share: several raylets on this machine, and the processes in which Ray runs tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from vitbench.execution.claims import JobQueue
from vitbench.execution.cluster.mailbox import Mailbox
from vitbench.execution.cluster.nodes import Needs, Nodes
from vitbench.execution.cluster.sweep import Limit, Sweep
from vitbench.execution.cluster.task import Expected
from vitbench.execution.job import Job
from vitbench.records import Record

LACKING = "VITBENCH_TEST_LACKING"
"""Set on one of the two nodes."""


def task_processes(root: int | None = None) -> list[int]:
    """Processes in which Ray runs a task of ours; of those below `root`, a raylet."""
    parents, running = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if (folder / "cmdline").read_bytes().startswith(b"ray::run"):
                running.append(int(folder.name))
        except OSError:
            continue
    return [pid for pid in running if root is None or root in _ancestors(pid, parents)]


def _ancestors(pid: int, parents: dict[int, int]) -> Iterator[int]:
    while pid in parents:
        pid = parents[pid]
        yield pid


def raylet(node: Any) -> int:
    (process,) = node.all_processes["raylet"]
    return int(process.process.pid)


@pytest.fixture(scope="module")
def start_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Starts a head without CPUs, and a node for each dict of its facts."""
    pytest.importorskip("ray", reason="Ray is not installed (vitbench[ray])")
    from ray.cluster_utils import Cluster

    clusters = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))  # Ray writes a token there
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_worker_niceness", "0")  # else 15, and a busy machine starves them
        patch.setenv("VITBENCH_KERNELS", "torch")
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.delenv("RAY_ADDRESS", raising=False)

        def start(*nodes: dict[str, Any]) -> Any:
            clusters.append(Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}))
            for node in nodes:
                clusters[-1].add_node(**node)
            return clusters[-1]

        yield start
        for cluster in clusters:
            cluster.shutdown()


@dataclass
class SweepRun:
    """What a sweep of jobs came to."""

    records: list[Record] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    nodes: Any = None
    mailbox: Any = None
    sweep: Any = None


@pytest.fixture(scope="module")
def cluster(start_cluster: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Of two nodes: one says that it has 4 GPUs, the other is LACKING."""
    other = {LACKING: "1", "VITBENCH_CACHE": str(tmp_path_factory.mktemp("other-cache"))}
    return start_cluster({"num_cpus": 2, "num_gpus": 4}, {"num_cpus": 1, "env_vars": other})


@pytest.fixture(scope="module")
def two_nodes(cluster: Any) -> Iterator[Any]:
    """Ray, connected to the cluster."""
    import ray

    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


@pytest.fixture
def sweep(two_nodes: Any) -> Iterator[Callable[..., SweepRun]]:
    """Runs jobs on the two nodes; `on_report` is called with what is done so far, and the job of the report."""

    mailbox = Mailbox(two_nodes)

    def run(*jobs: Job, share: float | None = None, most: int | None = 2, on_report: Any = None) -> SweepRun:
        done = SweepRun(mailbox=mailbox)
        done.nodes = Nodes(two_nodes, Needs(1, on_gpu=share is not None), done.said.append)
        done.sweep = Sweep(
            two_nodes,
            JobQueue(jobs),
            done.nodes,
            Limit(most, lambda _: share or 1.0),
            Expected("cpu", 1, str(Path.cwd())),
            mailbox,
            on_record=lambda _, record: done.records.append(record),
            on_report=None if on_report is None else lambda job, _: on_report(done, job),
            say=done.said.append,
        )
        done.sweep.run()
        return done

    yield run
    two_nodes.kill(mailbox.actor)
