"""What tests of several packages share: a cache of their own, the command line in this process, runs made up or small."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.made_up_records import ENVIRONMENT, NANO
from vitbench.config import DataConfig, RunConfig, TrainConfig
from vitbench.machine import cache_directory
from vitbench.records import Cost, Design, EpochPoint, Record

# A shell's background jobs and nohup ignore these; that is inherited, and what they do could not be tested.
for name, default in {
    "SIGINT": signal.default_int_handler,
    "SIGQUIT": signal.SIG_DFL,
    "SIGHUP": signal.SIG_DFL,
}.items():
    number = getattr(signal, name, None)  # not on every system
    if number is not None and signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, default)


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One for all processes of a run, empty but for the user's compiled operators, which take a minute to compile."""
    folder = tmp_path_factory.getbasetemp()
    cache = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "vitbench-cache"
    compiled = cache_directory() / "kernels"  # where the collection of tests/kernels puts them
    if compiled.is_dir():
        cache.mkdir(exist_ok=True)
        with suppress(FileExistsError):  # another process was first
            (cache / "kernels").symlink_to(compiled)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VITBENCH_CACHE", str(cache))
        yield


@pytest.fixture(scope="session", autouse=True)
def operators_of_the_tests(cache_of_the_tests: None) -> Iterator[None]:
    """Native ones where they can compute: what is measured on a busy machine must decide no test."""
    from vitbench.kernels import native

    with pytest.MonkeyPatch.context() as patch:
        if native.state()[0] is not None:
            patch.setenv(native.SWITCH, "native")
        yield


class CommandResult(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str


@pytest.fixture
def vitbench(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., CommandResult]:
    """Calls the command line as its entry point does, but in this process: importing torch anew takes seconds."""

    def call(*arguments: object) -> CommandResult:
        from vitbench import cli

        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["vitbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return CommandResult(int(end.value.code or 0), *capfd.readouterr())

    return call


@pytest.fixture
def folder_of_images() -> Callable[..., Path]:
    """Writes 8 × 8 grey images: 40 to train on and 10 to test on in each of two classes."""

    def write(folder: Path, *, train: int = 40, test: int = 10) -> Path:
        import numpy as np
        from PIL import Image

        pixels = np.random.default_rng(0)
        for split, count in (("train", train), ("test", test)):
            for name in ("cat", "dog"):
                (folder / split / name).mkdir(parents=True)
                for i in range(count):
                    Image.fromarray(pixels.integers(256, size=(8, 8), dtype=np.uint8)).save(
                        folder / split / name / f"{i}.png"
                    )
        return folder

    return write


@pytest.fixture
def in_this_process(monkeypatch):
    """Runs train here, one after the other: three rounds of worker processes would import torch three times."""
    import torch

    from vitbench.execution import local
    from vitbench.execution.run import execute

    def run_jobs(queue, *, on_record, **_):
        for job in queue:
            on_record(job, execute(job))
            queue.done(job)

    monkeypatch.setattr(local, "run_jobs", run_jobs)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def paint(tmp_path):
    """`paint(SEED)` writes 8 × 8 images, whatever the seed under the same names, of the same sizes and times."""
    import numpy as np
    from PIL import Image

    folder = tmp_path / "pets"

    def write(seed: int, *, train: int = 12, classes: tuple[str, ...] = ("cat", "dog"), where=folder):
        pixels = np.random.default_rng(seed)
        for split, count in (("train", train), ("test", 4)):
            for name in classes:
                for i in range(count):
                    path = where / split / name / f"{i}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    image = Image.fromarray(pixels.integers(256, size=(8, 8), dtype=np.uint8))
                    image.save(path, compress_level=0)
                    os.utime(path, ns=(10**18, 10**18))
        return where

    return write


@pytest.fixture
def made_up() -> Callable[..., Record]:
    """Makes up a record of the study `study`; `environment`, `cost` and `config` replace parts of it."""

    def record(
        *,
        study: str = "pooling",
        arm: str = "cls",
        seed: int = 0,
        config: RunConfig | None = None,
        environment: dict[str, Any] | None = None,
        cost: dict[str, Any] | None = None,
        **fields: Any,
    ) -> Record:
        config = config or RunConfig(
            model=NANO, data=DataConfig(train_images=256), train=TrainConfig(epochs=1, batch_size=64), seed=seed
        )
        values = {
            "run_id": config.run_id,
            "study": study,
            "arm": arm,
            "budget": "smoke",
            "variant": "Nano/2",
            "design": Design(question="?", source="", baseline="cls", arms=("cls", "gap"), learning_rates=(1e-3,)),
            "seed": config.seed,
            "learning_rate": config.train.learning_rate,
            "config": config,
            "outcome": "completed",
            "metrics": {"test_top1": 1 / 3, "val_top1": 0.1},
            "curve": (EpochPoint(epoch=1, train_loss=2.3), EpochPoint(epoch=2, train_loss=None, val_top1=0.1)),
            "correct": "gA==",
            "cost": Cost(**{"params": 26_762, "macs": 475_648, **(cost or {})}),
            "environment": ENVIRONMENT.model_copy(update=environment or {}),
            "started": "2026-11-01T00:00:00.000+00:00",
            "finished": "2026-11-01T00:01:00.000+00:00",
        }
        return Record.model_validate({**values, **fields})

    return record


@pytest.fixture
def unreadable(tmp_path):
    """While `with unreadable(path, mode)` is entered, `path` has that mode, which counts for tests that run as root too."""

    @contextmanager
    def unread(path: Path, mode: int = 0) -> Iterator[None]:
        is_root = os.geteuid() == 0
        private = [folder for folder in (tmp_path, *tmp_path.parents) if folder.stat().st_mode & 0o005 != 0o005]
        folders = private if is_root else []
        modes = {changed: changed.stat().st_mode for changed in (path, *folders)}
        try:
            for folder in folders:
                folder.chmod(0o755)
            path.chmod(mode)
            if is_root:
                os.seteuid(65534)
            yield
        finally:
            if is_root:
                os.seteuid(0)
            for changed, former_mode in modes.items():
                changed.chmod(former_mode)

    return unread
