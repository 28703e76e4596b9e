"""Is a cluster that is not there, or a wish that has no meaning, refused in one line, and soon?"""

from __future__ import annotations

import os
import socket
import sys
import time

import pytest

from vitbench.execution.cluster import ClusterOptions, RayCluster, connection

RUN = ("run", "pooling", "--budget", "smoke", "--train-images", "128", "--results")
RAY = ("--executor", "ray")


@pytest.fixture(autouse=True)
def needs_ray(monkeypatch) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (vitbench[ray])")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture
def silent_port():
    """Of a server that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_an_address_where_nobody_listens_is_one_line_within_15_seconds(vitbench, tmp_path, closed_port):
    started = time.monotonic()
    said = vitbench(*RUN, tmp_path, *RAY, "--ray-address", f"127.0.0.1:{closed_port}")
    assert said.status == 2 and time.monotonic() - started < 15
    (line,) = said.err.splitlines()
    assert f"ray-address '127.0.0.1:{closed_port}' cannot be reached" in line and "ray start --head" in line
    assert not (tmp_path / "claims").exists()


def test_an_address_where_no_ray_answers_is_one_line(vitbench, tmp_path, silent_port, monkeypatch):
    assert connection.TCP_SECONDS + connection.PROBE_SECONDS < 15
    monkeypatch.setattr(connection, "PROBE_SECONDS", 1.0)
    said = vitbench(*RUN, tmp_path, *RAY, "--ray-address", f"127.0.0.1:{silent_port}")
    assert said.status == 2
    (line,) = said.err.splitlines()
    assert "no cluster of Ray" in line and "answers there" in line


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ((*RAY, "--ray-address", "somewhere"), "ray-address 'somewhere' is no address; give HOST:PORT"),
        ((*RAY, "--ray-address", "host:1:x"), "ray-address 'host:1:x' is no address; give HOST:PORT"),
        ((*RAY, "--ray-address", "ray://host:10001"), "is Ray Client's; give the cluster's own, HOST:6379"),
        (("--ray-address", "host:1"), "add --executor ray, or leave them out"),
        (("--gpus-per-run", "0.5"), "add --executor ray, or leave them out"),
        ((*RAY, "--gpus-per-run", "2"), "gpus-per-run '2' is no share of a GPU"),
        ((*RAY, "--gpus-per-run", "auto", "--device", "cpu"), "has no meaning with --device cpu; leave it out"),
        ((*RAY, "--device", "cuda:1"), "device 'cuda:1': Ray chooses the GPU of each run; give cuda"),
        ((*RAY, "--device", "tpu"), "device 'tpu' is not known; use auto, cpu or cuda"),
        ((*RAY, "--jobs", "none"), "jobs 'none' is not a number"),
    ],
)
def test_what_has_no_meaning_is_refused_in_one_line(vitbench, tmp_path, options, complaint):
    said = vitbench(*RUN, tmp_path, *options)
    assert said.status == 2
    (line,) = said.err.splitlines()
    assert complaint in line


def test_the_option_comes_before_the_variable_and_local_is_this_machine(monkeypatch):
    assert connection.chosen_address(None) is None
    monkeypatch.setenv("RAY_ADDRESS", "other:6379")
    assert connection.chosen_address(None) == "other:6379"
    assert connection.chosen_address("this:6379") == "this:6379"
    assert connection.chosen_address("local") is None


def test_without_ray_the_executor_is_refused_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # importing it is then an ImportError
    with pytest.raises(ValueError, match=r"vitbench\[ray\]"):
        RayCluster(ClusterOptions(), device="cpu", jobs="1", threads=1)


def test_nothing_is_started_for_a_study_that_is_recorded(monkeypatch):
    with RayCluster(ClusterOptions("127.0.0.1:1"), device="cpu", jobs="1", threads=1):
        pass
    assert not os.environ.get("RAY_ADDRESS")
