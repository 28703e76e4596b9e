"""Is every run of a sweep recorded once, whatever becomes of workers, nodes and the actor that reports go through?"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace

import pytest

from tests.execution.cluster.conftest import LACKING, task_processes
from tests.execution.run_results import bits
from vitbench.execution.run import execute
from vitbench.records import Outcome

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds Ray's workers through /proc"),
]

DATA = """
import os, signal
import numpy as np

def data():
    {line}
    images, labels = np.arange(200 * 64).reshape(200, 8, 8) % 251, np.arange(200) % 10
    return {{"train": (images[:150].astype(np.uint8), labels[:150]), "test": (images[150:].astype(np.uint8), labels[150:])}}
"""


def data_that(tmp_path, line: str) -> str:
    path = tmp_path / "mine.py"
    path.write_text(DATA.format(line=line))
    return str(path)


def test_a_worker_that_is_killed_costs_no_record_and_doubles_none(sweep, make_job):
    killed = []

    def kill_once(_, job) -> None:
        if job.run.arm == "victim" and not killed:
            killed.extend(task_processes())
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    victim, other = make_job(arm="victim", train={"epochs": 60}), make_job(arm="other", seed=1)
    done = sweep(victim, other, on_report=kill_once)
    assert killed
    assert sorted(record.arm for record in done.records) == ["other", "victim"]
    assert any(
        "tests, victim, seed 0: its worker process on" in line and "was killed; tried again (1 of 2)" in line
        for line in done.said
    )
    for record in done.records:
        assert bits(record) == bits(execute(victim if record.arm == "victim" else other))


@pytest.mark.parametrize("time", range(5))
def test_a_node_that_is_killed_costs_no_record_and_doubles_none(sweep, make_job, cluster, time):
    jobs = [make_job(arm=str(seed), seed=seed, train={"epochs": 60}) for seed in range(4)]
    node, dead = cluster.add_node(num_cpus=1), []

    def kill_its_node(done, job) -> None:
        if not dead and node.node_id in [
            attempt.node for attempt in done.sweep._pending.values() if attempt.job is job
        ]:
            dead.append(job.run.arm)
            cluster.remove_node(node, allow_graceful=False)

    done = sweep(*jobs, most=4, on_report=kill_its_node)
    assert [line for line in done.said if "died; tried again (1 of 2)" in line]
    assert sorted(record.arm for record in done.records) == ["0", "1", "2", "3"]
    assert {record.arm: bits(record) for record in done.records} == {job.run.arm: bits(execute(job)) for job in jobs}


def test_a_run_that_is_lost_three_times_has_failed_and_says_why(sweep, make_job, tmp_path):
    fatal = replace(make_job(), dataset=data_that(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)"))
    done = sweep(fatal)
    (record,) = done.records
    assert record.outcome is Outcome.FAILED
    assert record.reason.startswith("lost 3 times with its node or worker, at last: its worker process on node")
    assert [line[-20:] for line in done.said] == ["; tried again (1 of 2)"[-20:], "; tried again (2 of 2)"[-20:]]


def test_what_a_run_raises_is_its_failure_at_once(sweep, make_job):
    (record,) = (done := sweep(replace(make_job(), device="cuda:7"))).records
    assert record.outcome is Outcome.FAILED and "no CUDA device" in record.reason
    assert done.said == []


def test_a_node_that_lacks_the_data_is_given_no_runs_and_is_named_once(sweep, make_job, tmp_path):
    name = data_that(tmp_path, f'assert "{LACKING}" not in os.environ, "no such disk"')
    jobs = [replace(make_job(seed=seed), dataset=name) for seed in range(3)]
    done = sweep(*jobs, most=3)
    assert [record.outcome for record in done.records] == [Outcome.COMPLETED] * 3
    assert len(done.nodes.unfit) == len(done.said) == 1
    assert "is given no runs" in done.said[0] and "no such disk" in done.said[0]


def test_other_images_than_those_that_were_planned_with_are_refused(sweep, make_job):
    with pytest.raises(ValueError, match="no node of the cluster can run this: the images of 'digits' are not those"):
        sweep(replace(make_job(), data_sha256="0" * 64))


def test_without_the_actor_that_reports_go_through_runs_go_on(sweep, make_job, two_nodes):
    (before,) = (done := sweep(make_job())).records
    two_nodes.kill(done.mailbox.actor)
    done = sweep(make_job(seed=1), make_job(seed=2))
    assert [record.outcome for record in done.records] == [Outcome.COMPLETED] * 2
    assert before.outcome is Outcome.COMPLETED


def test_a_share_of_a_gpu_brings_runs_to_the_node_that_has_them(sweep, make_job):
    done = sweep(make_job(), make_job(seed=1), share=0.25, most=None)
    (gpu_node,) = done.nodes.fit
    assert done.nodes.num_gpus == 4 and done.nodes.slots(0.25) == {gpu_node: 2}  # it has two CPUs
    assert {record.environment.workers for record in done.records} == {1}
    assert [record.outcome for record in done.records] == [Outcome.COMPLETED] * 2
