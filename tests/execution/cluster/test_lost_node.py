"""A node that dies in the middle of a study: does the table come out as local workers make it?"""

from __future__ import annotations

import sys

import pytest

from tests.execution.cluster.conftest import raylet, task_processes
from tests.execution.processes import IMPATIENT, wait_until
from tests.execution.run_results import bits
from tests.users_study import ONE_RUN
from vitbench.records import RecordStore

STUDY = """
from torch import nn
{impatient}
from vitbench.studies import Arm, Study


class Tanh(nn.Tanh):
    # A part of the user's, so that every worker loads this file.

    def __init__(self, config):
        super().__init__()


STUDY = Study(
    question="?",
    source="",
    baseline=Arm("cls", activation=Tanh),
    arms=[Arm("gap", activation=Tanh, pool="gap"), Arm("map", activation=Tanh, pool="map")],
)
""".format(impatient="\n".join(IMPATIENT.strip().splitlines()[:2]))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds Ray's workers through /proc")
def test_a_node_killed_in_the_middle_costs_no_record_and_changes_no_bit(start_cluster, process, vitbench, tmp_path):
    (tmp_path / "mine.py").write_text(STUDY)
    cluster = start_cluster({"num_cpus": 1}, {"num_cpus": 1})
    victim = next(iter(cluster.worker_nodes))
    request = ("run", tmp_path / "mine.py", *ONE_RUN, "--epochs", "150", "--results")
    results = tmp_path / "ray"
    child = process(*request, results, "--executor", "ray", "--ray-address", cluster.address)

    def is_in_the_middle() -> bool:
        assert child.poll() is None, (tmp_path / "stderr").read_text()
        are_saved = len(list((results / "checkpoints").glob("*.pt"))) >= 2
        return are_saved and bool(task_processes(raylet(victim)))

    wait_until(is_in_the_middle, seconds=900)
    cluster.remove_node(victim, allow_graceful=False)
    assert child.wait(900) == 0, (tmp_path / "stderr").read_text()
    said = (tmp_path / "stderr").read_text()
    assert "died; tried again (1 of 2)" in said

    assert vitbench(*request, tmp_path / "local", "--jobs", "1").status == 0
    on_ray, here = (RecordStore(folder).read("mine") for folder in (results, tmp_path / "local"))
    assert len(on_ray) == len(here) == 3
    assert {record.arm: bits(record) for record in on_ray} == {record.arm: bits(record) for record in here}
    assert any(record.cost.resumed for record in on_ray)
    assert not list((results / "checkpoints").glob("*.pt"))
