"""Are runs given to nodes of one kind that have room, whatever else is in the cluster?"""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.made_up_records import ENVIRONMENT
from vitbench.execution.cluster import nodes as module
from vitbench.execution.cluster.nodes import Needs, Nodes
from vitbench.execution.cluster.task import Expected, NodeFacts

CPU, GPU = {"CPU": 8.0}, {"CPU": 4.0, "GPU": 2.0}


class FakeRay(SimpleNamespace):
    """A cluster as `ray.nodes()` tells of it: name → resources."""

    def __init__(self, **resources) -> None:
        super().__init__(resources=resources)

    def nodes(self):
        return [
            {"NodeID": name, "Alive": bool(has), "NodeManagerAddress": f"10.0.0.{name[-1]}", "Resources": has}
            for name, has in self.resources.items()
        ]


def facts(**environment) -> NodeFacts:
    return NodeFacts("1.0", ENVIRONMENT.model_copy(update=environment), None)


def nodes_of(ray, threads=1, *, on_gpu=False, said=None) -> Nodes:
    return Nodes(ray, Needs(threads, on_gpu), [].append if said is None else said.append)


def describe(nodes, monkeypatch, answers) -> None:
    monkeypatch.setattr(Nodes, "_ask", lambda *_, **__: answers)
    nodes.describe(Expected("cpu", 1, "."))


def test_room_is_counted_in_threads_and_in_shares_of_gpus():
    ray = FakeRay(head0={"memory": 1e9}, a1=CPU, b2=GPU, dead3={})
    assert nodes_of(ray).slots(1.0) == {"a1": 8, "b2": 4}
    assert nodes_of(ray, 3).slots(1.0) == {"a1": 2, "b2": 1}
    assert nodes_of(ray, 5).slots(1.0) == {"a1": 1}
    assert nodes_of(ray, on_gpu=True).slots(1.0) == {"b2": 2}
    assert nodes_of(ray, on_gpu=True).slots(0.3333) == {"b2": 4}  # each needs a CPU, too
    assert nodes_of(ray, on_gpu=True).num_gpus == 2


def test_nodes_of_another_kind_than_most_of_the_room_are_named_with_what_differs(monkeypatch):
    said = []
    nodes = nodes_of(FakeRay(a1=GPU, b2=CPU, c3=GPU), said=said)
    describe(nodes, monkeypatch, {"a1": facts(torch="2.8.0"), "b2": facts(), "c3": facts(torch="2.8.0")})
    # 8 CPUs of b2 are as much as a1 and c3 together; the first that was asked wins
    assert nodes.fit == ["a1", "c3"] and nodes.facts.environment.torch == "2.8.0"
    version = ENVIRONMENT.torch
    assert said == [f"node 10.0.0.2 is given no runs: torch {version} instead of 2.8.0, which tables keep apart"]


def test_other_reasons_for_operators_are_no_other_kind(monkeypatch):
    nodes = nodes_of(FakeRay(a1=CPU, b2=CPU))
    describe(
        nodes, monkeypatch, {"a1": facts(kernels="torch: no compiler"), "b2": facts(kernels="torch: switched off")}
    )
    assert nodes.fit == ["a1", "b2"]


def test_where_no_node_is_fit_the_commonest_reason_is_the_refusal():
    said = []
    nodes = nodes_of(FakeRay(a1=CPU, b2=CPU), said=said)
    nodes.exclude("a1", "dataset 'x' is not there")
    nodes.exclude("a1", "again")
    nodes.require_fit()
    nodes.exclude("b2", "dataset 'x' is not there")
    with pytest.raises(ValueError, match="no node of the cluster can run this: dataset 'x' is not there"):
        nodes.require_fit()
    assert len(said) == 2


def test_tasks_are_kept_from_unfit_nodes_and_if_there_are_others_from_those_to_avoid():
    nodes = nodes_of(FakeRay(a1=CPU, b2=CPU, c3=CPU))
    assert nodes.where() == {}
    assert nodes.where({"a1", "gone"}) == {"label_selector": {"ray.io/node-id": "!in(a1)"}}
    nodes.exclude("b2", "?")
    assert nodes.where({"a1"}) == {"label_selector": {"ray.io/node-id": "!in(a1,b2)"}}
    assert nodes.where({"a1", "c3"}) == {"label_selector": {"ray.io/node-id": "!in(b2)"}}  # there is no other


def test_a_cluster_that_has_lost_all_nodes_is_waited_for_and_that_is_said_once(monkeypatch):
    said = []
    ray = FakeRay(a1=CPU)
    nodes = nodes_of(ray, said=said)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    ray.resources["a1"] = {}
    for _ in range(3):
        nodes._next_look = 0.0
        nodes.look()
        nodes.require_fit()
    assert len(said) == 1 and "waiting for one" in said[0]
    ray.resources["b2"] = CPU
    nodes._next_look = 0.0
    nodes.look()
    nodes.require_fit()
    assert nodes.fit == ["b2"] and len(said) == 1


def test_nodes_at_one_address_are_told_apart():
    ray = FakeRay(aaaaaaaaaa1=CPU, bbbbbbbbbb1=CPU, c2=CPU)
    nodes = nodes_of(ray)
    assert nodes.name("aaaaaaaaaa1") == "node 10.0.0.1 (aaaaaaaa)"
    assert nodes.name("c2") == "node 10.0.0.2"
