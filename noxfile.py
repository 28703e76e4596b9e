"""What can be done with a checkout: test, lint, run the ablations, rebuild the tables, benchmark.

All sessions share one environment on disk, `.nox/env`: torch alone is 5 GB, and nox by itself would install it once
per session. It is brought up to date when pyproject.toml changes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "tests"]

HERE = Path(__file__).parent
ENVIRONMENT = HERE / ".nox" / "env"
BIN = ENVIRONMENT / ("Scripts" if sys.platform == "win32" else "bin")
STAMP = ENVIRONMENT / "installed.sha256"
EXTRAS = "ray,test,benchmarks,lint,tensorboard,docs,onnx"


@nox.session
def tests(session: nox.Session) -> None:
    """All tests but the slow ones. Arguments go to pytest: `nox -s tests -- -k position`."""
    prepare(session)
    run_tests(session, "not slow", *session.posargs)


@nox.session
def slow_tests(session: nox.Session) -> None:
    """The tests that take minutes, or need data sets that do not ship."""
    prepare(session)
    run_tests(session, "slow", *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Processes killed, memory and disk full, data cut off, …: after each, the next call completes the study to the same bits.

    Then the table of docs/faults.md. Arguments go to pytest: `nox -s faults -- -k disk`.
    """
    prepare(session)
    seen = str(HERE / "docs" / "faults.json")
    command = (tool("python"), "-m", "pytest", "tests/faults", "-m", "slow", *session.posargs)
    session.run(*command, env={"OMP_NUM_THREADS": "1", "VITBENCH_FAULTS_SEEN": seen}, external=True)
    session.run(tool("python"), "-m", "tests.readme", external=True)


def run_tests(session: nox.Session, selection: str, *arguments: str) -> None:
    """One process for each core, four at most, that computes with one thread."""
    processes = min(os.cpu_count() or 1, 4)
    command = (tool("python"), "-m", "pytest", "-n", str(processes), "--dist", "worksteal", "-m", selection)
    session.run(*command, *arguments, env={"OMP_NUM_THREADS": "1"}, external=True)


@nox.session
def ablations(session: nox.Session) -> None:
    """Train what is not yet recorded, then print tables and draw plots. Arguments go to `vitbench run`.

    All studies, unless some are named: `nox -s ablations -- pooling position --budget smoke`.
    """
    prepare(session)
    failed = subprocess.run([tool("vitbench"), "run", *session.posargs], cwd=HERE, check=False).returncode
    if failed not in (0, 1):
        session.error(f"vitbench run ended with exit status {failed}")
    rebuild(session, results_of(session.posargs))
    if failed:
        session.error("some runs failed; their records say why")


@nox.session
def tables(session: nox.Session) -> None:
    """Tables, plots and report again from the records, reference and local; then the tables in README and docs/."""
    prepare(session)
    for results in ("results/reference", "results/local"):
        if any((HERE / results / "records").glob("*.jsonl")):
            rebuild(session, results)
        else:
            session.log(f"{results} has no records: skipped")
    session.run(tool("python"), "-m", "tests.readme", external=True)


@nox.session
def profile(session: nox.Session) -> None:
    """What this device makes of the models, on the GPU where there is one: throughput, peers, FLOPs, traces, roofline.

    Arguments go to `vitbench profile`: `nox -s profile -- --results results/reference`, after which README's table of
    it is written anew. Half an hour; interrupted, the same command goes on.
    """
    prepare(session)
    failed = subprocess.run([tool("vitbench"), "profile", *session.posargs], cwd=HERE, check=False).returncode
    if failed not in (0, 1):
        session.error(f"vitbench profile ended with exit status {failed}")
    session.run(tool("python"), "-m", "tests.readme", external=True)
    if failed:
        session.error("some could not be run; the tables' notes say why")


@nox.session
def benchmarks(session: nox.Session) -> None:
    """pytest-benchmark suites, raw samples saved as JSON under results/local/benchmarks/. Arguments go to pytest.

    `nox -s benchmarks -- --against FILE` then fails on what got slower than in that saved run, by ratio (`--bound 1.3`):
    benchmarks/README.md.
    """
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument("--against")
    options.add_argument("--bound", default="1.3")
    comparison, arguments = options.parse_known_args(session.posargs)
    if comparison.against and not (HERE / comparison.against).is_file():
        session.error(f"{comparison.against!r} is not a file; give one of results/local/benchmarks")
    prepare(session)
    folder = HERE / "results" / "local" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    session.run(
        tool("python"),
        "-m",
        "pytest",
        "benchmarks",
        "-s",
        f"--benchmark-json={output}",
        "--benchmark-group-by=group",
        "--benchmark-columns=min,median,iqr,rounds",
        *arguments,
        external=True,
    )
    session.log(f"samples: {output.relative_to(HERE)}")
    if comparison.against:
        command = [tool("python"), "benchmarks/compare.py", comparison.against, str(output)]
        session.run(*command, "--bound", comparison.bound, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Format, lint, types, and the order of imports."""
    prepare(session)
    session.run(tool("ruff"), "format", "--check", external=True)
    session.run(tool("ruff"), "check", external=True)
    session.run(tool("mypy"), external=True)
    session.run(tool("lint-imports"), external=True)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation as a site, in .nox/docs/site; a dead link or any other warning fails."""
    prepare(session)
    session.run(tool("python"), "docs/site/assemble.py", external=True)
    command = (tool("mkdocs"), "build", "--strict", "--quiet", "--config-file", "docs/site/mkdocs.yml")
    session.run(*command, env={"NO_MKDOCS_2_WARNING": "1"}, external=True)
    session.log("the site: .nox/docs/site/index.html")


def rebuild(session: nox.Session, results: str) -> None:
    """All three, even where a damaged record is left out, which ends each with 1."""
    commands = [[tool("vitbench"), command, "--results", results] for command in ("tables", "plots", "report")]
    statuses = [subprocess.run(command, cwd=HERE, check=False).returncode for command in commands]
    if any(statuses):
        session.error(f"{results}: some records were left out, as said above; `vitbench records check` lists them")


def results_of(arguments: list[str]) -> str:
    for i, argument in enumerate(arguments):
        if argument == "--results" and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith("--results="):
            return argument.partition("=")[2]
    return "results/local"


def tool(name: str) -> str:
    return str(BIN / name)


def prepare(session: nox.Session) -> None:
    """The shared environment, made with uv where there is one and with pip where not; ready ones cost nothing."""
    if sys.version_info < (3, 11):
        session.error(f"vitbench needs Python 3.11 or newer; this nox runs on {sys.version.split()[0]}")
    # The path too: an environment that was copied along with its checkout runs the original's code.
    identity = f"{EXTRAS} {HERE} {sys.version_info[:2]}".encode()
    wanted = hashlib.sha256((HERE / "pyproject.toml").read_bytes() + identity).hexdigest()
    usable = Path(tool("python")).exists() and (ENVIRONMENT / "pyvenv.cfg").exists()
    if usable and STAMP.exists() and STAMP.read_text() == wanted:
        return
    session.log(f"installing into {ENVIRONMENT.relative_to(HERE)}: torch and its libraries, 5 to 6 GB, once")
    requirement = f"-e{HERE}[{EXTRAS}]"
    uv = shutil.which("uv")
    if uv and not os.environ.get("VITBENCH_NO_UV"):
        if not usable:
            shutil.rmtree(ENVIRONMENT, ignore_errors=True)
            session.run(uv, "venv", "--python", sys.executable, str(ENVIRONMENT), external=True)
        session.run(uv, "pip", "install", "--python", tool("python"), requirement, external=True)
    else:
        if not (usable and (Path(tool("pip")).exists() or Path(tool("pip.exe")).exists())):
            session.run(sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT), external=True)
        session.run(tool("python"), "-m", "pip", "install", "--quiet", requirement, external=True)
    STAMP.write_text(wanted)
