"""Which machines of a cluster may be given runs? Those of one kind, that have the data and the code; who may not is told."""

from __future__ import annotations

import pickle
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vitbench.execution.cluster import task
from vitbench.execution.cluster.task import Expected, NodeFacts, differences
from vitbench.execution.job import Job
from vitbench.text import counted

PATIENCE_SECONDS = 60.0
"""So long do nodes that are busy have to answer after the first one has; they are asked again with their first run."""
LOOK_SECONDS = 2.0
"""Between two looks at which nodes are alive."""
_GLIMPSE = 0.001
"""Of a GPU: enough to see it."""


@dataclass(frozen=True)
class Needs:
    """Of a run: CPUs, as threads, and whether it is on a GPU."""

    threads: int
    on_gpu: bool

    @property
    def device(self) -> str:
        return "cuda" if self.on_gpu else "cpu"


class Nodes:
    """The living nodes that have what a run needs, and those of them that are fit."""

    def __init__(self, ray: Any, needs: Needs, say: Callable[[str], None]) -> None:
        self._ray, self.needs, self._say = ray, needs, say
        self.unfit: dict[str, str] = {}
        """Node → why it is given no runs."""
        self.examined: set[str] = set()
        """Nodes of which it is known that they have what the runs need."""
        self.facts: NodeFacts | None = None
        """Of all fit nodes; None where they were not asked, as on this machine alone."""
        self._alive: dict[str, Mapping[str, Any]] = {}
        self._next_look = 0.0
        self._has_told_of_none = False
        self._told_not_to_see_results: set[str] = set()
        self._checked: set[object] = set()
        self.look()

    def look(self) -> None:
        """Sees which nodes are alive, as of the last seconds."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_SECONDS
        resource = "GPU" if self.needs.on_gpu else "CPU"
        self._alive = {
            node["NodeID"]: node
            for node in self._ray.nodes()
            if node["Alive"]
            and node["Resources"].get(resource, 0) > 0
            and node["Resources"].get("CPU", 0) >= self.needs.threads
        }

    @property
    def fit(self) -> list[str]:
        return [node for node in self._alive if node not in self.unfit]

    @property
    def num_gpus(self) -> float:
        """Of all fit nodes."""
        return float(sum(self._alive[node]["Resources"].get("GPU", 0.0) for node in self.fit))

    def slots(self, share: float) -> dict[str, int]:
        """How many runs there is room for on each fit node, where each takes `share` of a GPU."""
        return {node: self._slots(node, share) for node in self.fit}

    def _slots(self, node: str, share: float) -> int:
        resources = self._alive[node]["Resources"]
        by_cpu = int(resources["CPU"] // self.needs.threads)
        return max(1, min(by_cpu, int(resources["GPU"] / share + 1e-6)) if self.needs.on_gpu else by_cpu)

    def name(self, node: str) -> str:
        """Its address, and where several have one, the beginning of its id."""
        address = self._alive.get(node, {}).get("NodeManagerAddress") or ""
        same = sum(other["NodeManagerAddress"] == address for other in self._alive.values())
        return f"node {address} ({node[:8]})" if same != 1 else f"node {address}"

    def exclude(self, node: str, reason: str) -> None:
        """Has a node given no runs, and says why, once."""
        if node not in self.unfit:
            self.unfit[node] = reason
            self._say(f"{self.name(node)} is given no runs: {reason}")

    def require_fit(self) -> None:
        """Raises ValueError where nodes are alive, and none of them is fit; says so, once, where none is alive."""
        if self.fit:
            self._has_told_of_none = False
            return
        if self._alive:
            reasons = Counter(self.unfit[node] for node in self._alive)
            raise ValueError(f"no node of the cluster can run this: {reasons.most_common(1)[0][0]}")
        if not self._has_told_of_none:
            self._has_told_of_none = True
            self._say("no node of the cluster is left to run on: waiting for one (Ctrl-C keeps what is recorded)")

    def where(self, avoid: Collection[str] = ()) -> dict[str, Any]:
        """Ray's options by which a task comes to fit nodes alone, and if there are others, to none of `avoid`."""
        avoided = set(avoid) & set(self.fit)
        banned = (set(self.unfit) | (avoided if len(avoided) < len(self.fit) else set())) & set(self._alive)
        return {"label_selector": {"ray.io/node-id": f"!in({','.join(sorted(banned))})"}} if banned else {}

    def describe(self, expected: Expected) -> None:
        """Asks every node what it is; those of another kind than most runs would be on are unfit. Raises ValueError."""
        facts = self._ask(task.describe_node, expected, nodes=self.fit)
        room: Counter[tuple[tuple[str, str], ...]] = Counter()
        for node, node_facts in facts.items():
            room[node_facts.kind] += self._slots(node, 1.0)
        if room:
            kind = room.most_common(1)[0][0]
            for node, node_facts in facts.items():
                if differing := differences(node_facts.kind, kind):
                    self.exclude(node, f"{differing}, which tables keep apart")
            self.facts = next(node_facts for node_facts in facts.values() if node_facts.kind == kind)
        self.require_fit()

    def check(self, jobs: Sequence[Job], expected: Expected) -> None:
        """Asks every fit node for data, code and weights of the jobs, as far as it was not asked; raises ValueError where none
        has them.
        """
        samples = {_needed(job): job for job in jobs}
        new = [job for needed, job in samples.items() if needed not in self._checked]
        self._checked |= samples.keys()
        if not new:
            return
        self.examined.clear()
        answers = self._ask(task.what_lacks, pickle.dumps(new), expected, nodes=self.fit)
        for node, (lack, sees_results) in answers.items():
            if lack:
                self.exclude(node, lack)
                continue
            self.examined.add(node)
            if not sees_results and node not in self._told_not_to_see_results:
                self._told_not_to_see_results.add(node)
                self._say(
                    f"{self.name(node)} does not see --results: a run that is lost there starts from the beginning"
                )
        self.require_fit()

    def _ask(self, function: Callable[..., Any], *arguments: object, nodes: Iterable[str]) -> dict[str, Any]:
        """What `function` gives on each of the nodes that answers; a node on which it fails becomes unfit."""
        ray = self._ray
        affinity = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        remote = ray.remote(num_cpus=0, num_gpus=_GLIMPSE if self.needs.on_gpu else 0, max_retries=2)(function)
        asked = {
            remote.options(scheduling_strategy=affinity(node, soft=False), **with_threads(self.needs)).remote(
                *arguments
            ): node
            for node in nodes
        }
        answers, waiting, until = {}, list(asked), float("inf")
        tell_at = time.monotonic() + PATIENCE_SECONDS
        while waiting and time.monotonic() < until:
            if until == float("inf") and time.monotonic() > tell_at:
                self._say("no node of the cluster has answered yet: waiting (Ctrl-C ends)")
                tell_at = float("inf")
            done, waiting = ray.wait(waiting, timeout=1.0)
            for reference in done:
                node = asked[reference]
                try:
                    answers[node] = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    self.exclude(node, str(error).splitlines()[-1].strip())
                except ray.exceptions.RayError:  # it has died, or cannot be asked now
                    continue
                until = min(until, time.monotonic() + PATIENCE_SECONDS)
        for reference in waiting:
            ray.cancel(reference)
        if waiting:
            self._say(
                f"{counted(len(waiting), 'node')} of the cluster are busy, and will be asked with their first run"
            )
        return answers


def with_threads(needs: Needs) -> dict[str, Any]:
    """Ray's option for a process that computes with so many threads: OpenMP reads it when torch is imported."""
    return {"runtime_env": {"env_vars": {"OMP_NUM_THREADS": str(needs.threads)}}}


def _needed(job: Job) -> tuple[object, ...]:
    """What a node must have for the job."""
    config = job.run.config
    return (
        *(job.dataset, config.model.image_hw, job.data_sha256, job.study_file, config.user_code),
        *(job.init, job.keep_weights),
    )


def with_kind(expected: Expected, facts: NodeFacts | None) -> Expected:
    return replace(expected, kind=facts.kind if facts else ())
