"""What the tests of execution share: the smallest jobs there are, and the command line as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.execution.processes import group
from vitbench.config import DataConfig, RunConfig, TrainConfig
from vitbench.execution import Job
from vitbench.records import Design
from vitbench.studies import PlannedRun
from vitbench.variants import variant

SHAPES = {
    "digits": {"image_size": 8, "in_channels": 1, "num_classes": 10},
    "shapes": {"image_size": 32, "in_channels": 1, "num_classes": 4},
}


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_job() -> Callable[..., Job]:
    """A job on CPU: by itself one epoch of Nano/2 on 128 digits. `model` and `train` are fields to set."""

    def job(
        name: str = "Nano/2",
        *,
        arm: str = "arm",
        dataset: str = "digits",
        train_images: int | None = 128,
        seed: int = 0,
        model: dict[str, Any] | None = None,
        train: dict[str, Any] | None = None,
    ) -> Job:
        config = RunConfig(
            model=variant(name, **{**SHAPES[dataset], **(model or {})}),
            data=DataConfig(dataset=dataset, train_images=train_images),
            train=TrainConfig(**{"epochs": 1, "batch_size": 64, "precision": "fp32", **(train or {})}),
            seed=seed,
        )
        design = Design(
            question="?", source="", baseline=arm, arms=(arm,), learning_rates=(config.train.learning_rate,)
        )
        run = PlannedRun("tests", arm, "smoke", name, design, config, train_images or 1000)
        return Job(run, dataset, None, "cpu", "cpu: Example CPU", "fp32", 1, 1)

    return job


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `vitbench`, or a script that does, as the leader of a process group; what is left is killed in the end."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object, script: Path | None = None) -> subprocess.Popen[str]:
        errors = (tmp_path / "stderr").open("w")
        with errors:
            child = subprocess.Popen(
                [sys.executable, *(["-m", "vitbench"] if script is None else [str(script)]), *map(str, arguments)],
                stdout=subprocess.DEVNULL,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        started.append(child)
        return child

    yield start
    for child in started:
        for pid in [child.pid, *group(child.pid)]:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue
        child.wait()
