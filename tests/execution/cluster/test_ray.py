"""Does a Ray cluster on this machine record what local workers record, and end as they do?"""

from __future__ import annotations

import signal
import sys

import pytest

from tests.execution.cluster.conftest import task_processes
from tests.execution.processes import wait_until
from tests.execution.run_results import bits
from vitbench.execution.claims import JobQueue
from vitbench.execution.cluster import ClusterOptions, RayCluster
from vitbench.execution.run import execute
from vitbench.machine import cpu_cores

SMALL = (
    *("run", "pooling", "--budget", "smoke", "--seeds", "1", "--learning-rate", "1e-3", "--device", "cpu"),
    *("--precision", "fp32", "--threads", "1", "--train-images", "128"),
)


@pytest.fixture(autouse=True)
def quiet_ray(tmp_path, monkeypatch) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (vitbench[ray])")
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray writes a token there
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_worker_niceness", raising=False)
    monkeypatch.setenv("VITBENCH_KERNELS", "torch")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_a_cluster_of_this_machine_records_the_bits_of_this_process_and_tells_how_far_it_is(make_job, tmp_path):
    jobs = [make_job(train={"epochs": 150}), make_job(seed=1)]  # reports come twice in a second
    records, reports, said = {}, [], []
    with RayCluster(ClusterOptions(), device="cpu", jobs="2", threads=1) as cluster:
        assert cluster.device.name.startswith("cpu:") and cluster.machine is None
        assert [cluster.resolve_jobs(pending) for pending in (1, 5)] == [1, 2]
        cluster.run(
            JobQueue(jobs),
            jobs,
            records=[],
            results=tmp_path,
            on_record=lambda job, record: records.update({record.seed: record}),
            on_report=lambda job, report: reports.append(report.fraction),
            say=said.append,
        )
    assert {seed: bits(record) for seed, record in records.items()} == {n: bits(execute(jobs[n])) for n in (0, 1)}
    assert reports and max(reports) <= 1.0
    assert said == []


def test_as_many_runs_as_there_are_cores_for_their_threads(make_job):
    with RayCluster(ClusterOptions(), device="cpu", jobs="auto", threads=cpu_cores()) as cluster:
        assert cluster.resolve_jobs(99) == 1


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds Ray's workers through /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_ends_ray_as_it_ends_local_workers(process, tmp_path, number):
    results = tmp_path / "results"
    child = process(*SMALL, "--epochs", "3000", "--executor", "ray", "--jobs", "1", "--results", results)
    state = results / "checkpoints"
    wait_until(lambda: list(state.glob("*.pt")) and task_processes(child.pid), seconds=240)
    before = next(state.glob("*.pt")).stat().st_mtime_ns
    child.send_signal(number)
    assert child.wait(60) == 128 + number
    how = "interrupted" if number is signal.SIGINT else f"ended by {number.name}"
    said = (tmp_path / "stderr").read_text()
    assert said == f"vitbench: {how}; what was finished is recorded, the same command goes on\n"
    assert not (results / "claims").exists()
    assert next(state.glob("*.pt")).stat().st_mtime_ns > before  # the task got to write its state
    wait_until(lambda: not task_processes(child.pid), seconds=30)
