"""Does what `pip install` gives work like the checkout: built, installed apart, in an empty folder, killed, on Ray?"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.execution.processes import wait_until
from tests.your_own_question import PAGE, study_of
from vitbench.records import RecordStore

ROOT = Path(__file__).parents[1]
BUILD = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
RUN = ("run", "my_study.py", "--data", "digits", "--budget", "smoke", "--device", "cpu", "--jobs", "2")


def install(*arguments: object) -> subprocess.CompletedProcess[str]:
    """With pip, or with uv in an environment that it has made without pip."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if importlib.util.find_spec("pip") is None:
        uv = shutil.which("uv")
        if uv is None:
            pytest.skip("neither pip nor uv is there to install a wheel with")
        pip = [uv, "pip", "install", "--quiet", "--python", sys.executable]
    return subprocess.run([*pip, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout's, as the build backend makes it."""
    folder = tmp_path_factory.mktemp("wheel")
    environment = {**os.environ}
    if importlib.util.find_spec("hatchling") is None:
        got = install("--target", folder / "backend", "hatchling")
        if got.returncode:
            pytest.skip(f"the build backend, hatchling, cannot be had: {got.stderr.strip().splitlines()[-1]}")
        environment["PYTHONPATH"] = str(folder / "backend")
    command = [sys.executable, "-c", BUILD, str(folder)]
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder / built.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def target(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the wheel is installed, without what it depends on."""
    folder = tmp_path_factory.mktemp("target")
    installed = install("--no-deps", "--target", folder, wheel)
    assert installed.returncode == 0, installed.stderr
    return folder


@pytest.fixture
def start(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the installed `vitbench`, as the leader of a group, in a folder that has nothing but the page's study."""
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "my_study.py").write_text(study_of(PAGE.read_text()))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(target))
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray writes a token there
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    started: list[subprocess.Popen[str]] = []

    def popen(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(target / "bin" / "vitbench"), *arguments]
        with (folder / "log").open("a") as log:
            started.append(
                subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)
            )
        return started[-1]

    yield popen
    for process in started:
        if process.poll() is None:
            kill(process)


def kill(process: subprocess.Popen[str]) -> None:
    """With all that it has started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)


def finished(process: subprocess.Popen[str]) -> str:
    """What it printed. Fails where it did."""
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out + Path("log").read_text()
    return out


def numbers(results: str) -> dict[str, tuple[object, ...]]:
    """By run_id: what the bits of a run decide."""
    records = RecordStore(Path(results)).read("my_study")
    assert len({record.run_id for record in records}) == len(records)
    return {record.run_id: (record.metrics, record.weights_sha256, record.correct) for record in records}


def num_records(results: str) -> int:
    file = Path(results) / "records" / "my_study.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


@pytest.mark.slow
def test_the_wheel_has_every_file_of_the_package_and_nothing_else(wheel):
    packaged = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = (path for path in (ROOT / "vitbench").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert packaged == {path.relative_to(ROOT).as_posix() for path in files}


@pytest.mark.slow
def test_what_runs_is_the_installed_package(start, target, tmp_path):
    where = "import vitbench; print(vitbench.__file__)"
    file = subprocess.run([sys.executable, "-c", where], capture_output=True, text=True, check=True).stdout.strip()
    assert Path(file).is_relative_to(target) and not Path(file).is_relative_to(ROOT)
    probe = "from pathlib import Path\nimport vitbench\nPath('where').write_text(vitbench.__file__)\n"
    Path("my_study.py").write_text(probe + Path("my_study.py").read_text())
    finished(start("plan", "my_study.py", "--data", "digits", "--budget", "smoke"))
    assert Path(Path("where").read_text()).is_relative_to(target)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_study_gives_the_same_bits_whole_killed_and_on_ray(start):
    finished(start("check", "my_study.py", "--data", "digits", "--budget", "smoke"))
    finished(start(*RUN, "--results", "whole"))
    expected = numbers("whole")
    assert len(expected) > 4 and all(all(values) for values in expected.values())

    killed = start(*RUN, "--results", "killed")
    wait_until(lambda: num_records("killed") >= 3 or killed.poll() is not None, seconds=200)
    kill(killed)
    before = num_records("killed")
    assert 3 <= before < len(expected), Path("log").read_text()
    finished(start(*RUN, "--results", "killed"))
    assert numbers("killed") == expected

    for command in ("tables", "report"):
        printed = finished(start(command, "--results", "killed"))
        assert command == "report" or all(arm in printed for arm in ("convolution", "smoothing", "moved"))
    assert Path("killed/report.html").stat().st_size > 10_000

    if importlib.util.find_spec("ray") is None:
        pytest.skip("all but Ray was seen to work, which is not installed (vitbench[ray])")
    finished(start(*RUN, "--results", "on_ray", "--executor", "ray"))
    assert numbers("on_ray") == expected
