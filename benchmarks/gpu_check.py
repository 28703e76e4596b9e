"""What does a GPU make of vitbench, in eight minutes? Checks, doctor, throughput, attention kernels, a study, a trace.

    PYTHONPATH=wheels python benchmarks/gpu_check.py --out gpu-check

Each section runs in a process of its own with a limit of its own: one that fails, hangs or takes the GPU down ends no other.
One that no time is left for is skipped, and says so. OUT gets one JSON file for each section and a README.md with tables.
Without a GPU it runs on the CPU, at small sizes, and says so. docs/scale.md has the whole command line.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.gpu_check_page import page  # noqa: E402 – found once the path above is set

NEEDED = (
    "torch",
    "timm",
    "torchvision",
    "pydantic",
    "typer",
    "einops",
    "filelock",
    "fvcore",
    "pandas",
    "scipy",
    "rich",
    "numpy",
)
"""Without these nothing runs; what else vitbench installs, a section misses by itself."""
MINUTES = 8.0
"""For everything. Limits of sections are for it; with other `--minutes` they are in proportion."""
LEAST = 15.0
"""Seconds that must be left for a section to begin."""
TAIL = 4000
"""Characters of a section's output that its file keeps."""


@dataclass(frozen=True)
class Section:
    """A command of this Python, for `limit` seconds at most; `facts`: whether it prints one JSON document."""

    name: str
    command: tuple[str, ...]
    limit: float
    facts: bool = True
    needs: str = ""
    """A package without which the section is skipped."""


@dataclass
class Outcome:
    """What became of a section: `done`, `failed`, `out of time` or `skipped`, and why."""

    name: str
    outcome: str
    reason: str = ""
    seconds: float = 0.0
    command: str = ""
    facts: Any = None
    output: str = field(default="", repr=False)


def sections(out: Path, *, gpu: bool) -> list[Section]:
    """In the order of what is worth most."""
    vitbench = ("-m", "vitbench")
    own = (str(ROOT / "benchmarks" / "gpu_check_parts.py"), "--device", "cuda" if gpu else "cpu")
    device = ("--device", "cuda" if gpu else "cpu")
    peers = ("--peer", "timm", *(("--peer", "vit-pytorch") if importlib.util.find_spec("vit_pytorch") else ()))
    sizes = (("Micro/4", "512"), ("S/16", "256"), ("B/16", "128")) if gpu else (("Nano/4", "8"), ("Micro/4", "4"))
    compiles = ("--compile", "on", "--compile", "graphs") if gpu else ("--compile", "on")
    seconds = (
        ("--seconds", "1") if gpu else ("--seconds", "0.05", "--no-memory")
    )  # which takes a CPU a process for each row
    jobs = ("1", "8") if gpu else ("1", "2")

    def rate(variant: str, batch: str, *options: str) -> tuple[str, ...]:
        return (*vitbench, "throughput", variant, "--batch-size", batch, *device, *seconds, *options, "--json")

    study = (*vitbench, "run", "pooling", "--budget", "smoke", *device)
    trace = (*vitbench, "trace", "S/16" if gpu else "Nano/4", "--mode", "train", *device, "--steps", "3")
    pytest = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=", "-W", "default")
    tests = (*pytest, "tests/device", "tests/kernels/test_attention_choice.py")
    return [
        Section("doctor", (*vitbench, "doctor", "--json"), 90),
        Section("checks", (*own, "checks"), 90),
        Section("attention", (*own, "attention"), 60),
        *(Section(f"eager {v}", rate(v, batch, *peers, "--full-tokens"), 60) for v, batch in sizes),
        *(
            Section(
                f"study, {n} worker{'s' if n != '1' else ''}",
                (*study, "--jobs", n, "--results", str(out / f"study-{n}")),
                75,
                facts=False,
            )
            for n in jobs
        ),
        Section("trace", (*trace, "--batch-size", "128" if gpu else "4", "--out", str(out / "traces"), "--json"), 60),
        *(
            Section(f"compiled {v}", rate(v, batch, *compiles, "--no-memory"), 90)
            for v, batch in sizes[: None if gpu else 1]
        ),
        *(
            [
                Section(
                    "compiled timm S/16",
                    rate("S/16", "256", *compiles, "--no-memory", "--peer", "timm", "--mode", "train"),
                    90,
                )
            ]
            if gpu
            else []
        ),
        *([Section("tests", (*tests, "-k", "cuda or gpu"), 90, facts=False, needs="pytest")] if gpu else []),
    ]


def run(section: Section, *, seconds_left: float, slowness: float = 1.0) -> Outcome:
    """Runs a section for `slowness` times its limit; ends it, and all that it started, where that is over."""
    if section.needs and importlib.util.find_spec(section.needs) is None:
        return Outcome(section.name, "skipped", f"{section.needs} is not installed")
    limit = min(slowness * section.limit, seconds_left)
    if limit < LEAST:
        return Outcome(
            section.name,
            "skipped",
            f"{max(seconds_left, 0):.0f} s were left, and none begins with less than {LEAST:.0f}",
        )
    start = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
    process = subprocess.Popen(
        [sys.executable, *section.command],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=limit)
        reason = "" if process.returncode == 0 else _last_line(err) or f"exit status {process.returncode}"
        outcome = "failed" if process.returncode else "done"
    except subprocess.TimeoutExpired:
        out, err = _end(process)
        outcome, reason = "out of time", f"ended after {limit:.0f} s"
    except BaseException:
        _end(process)
        raise
    facts = _json(out) if section.facts else None
    if section.facts and outcome == "done" and facts is None:
        outcome, reason = "failed", "printed no JSON document"
    printed = err if facts is not None else f"{out}\n{err}".strip()
    seconds = time.monotonic() - start
    return Outcome(section.name, outcome, reason, seconds, _shown(section.command), facts, printed[-TAIL:])


def _shown(command: Sequence[str]) -> str:
    return " ".join(("python", *command)).replace(f"{ROOT}{os.sep}", "")


def _end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Ends the process and its children, which are a group of their own; gives what they printed."""
    for number, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, None)):
        try:
            os.killpg(process.pid, number)
            return process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            break
    return process.communicate()


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else ""


def _json(text: str) -> Any:
    for line in reversed(text.splitlines()):
        try:
            return json.loads(line)
        except ValueError:
            continue
    return None


def machine() -> dict[str, Any]:
    """What torch says of this machine, asked in a process of its own. Raises ValueError where torch cannot be had."""
    code = (
        "import json, torch; c = torch.cuda.is_available(); print(json.dumps({'torch': torch.__version__, 'gpu': c and "
        "torch.cuda.get_device_name(), 'gpus': torch.cuda.device_count(), 'cuda': torch.version.cuda}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"torch cannot be imported: {_last_line(done.stderr)}")
    facts: dict[str, Any] = _json(done.stdout)
    return {**facts, "cpu_cores": os.cpu_count(), "python": sys.version.split()[0]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--out", type=Path, default=ROOT / "results" / "local" / "gpu-check", help="folder; default: %(default)s"
    )
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for everything; default: %(default)s")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--only", action="append", help="sections whose name begins so; may be given again")
    options = parser.parse_args()
    began, out = time.monotonic(), options.out.expanduser().absolute()
    if not 0 < options.minutes <= 24 * 60:
        parser.error(f"minutes {options.minutes:g} is no time to check in; give more than 0")
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        parser.error(
            f"not installed: {', '.join(missing)}; where there is a network, put them into a folder with `python -m pip "
            "install --target wheels`, for this version of Python, and set PYTHONPATH=wheels (docs/scale.md)"
        )
    try:
        facts = machine()
        out.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    if options.device == "cuda" and not facts["gpu"]:
        parser.error("device cuda is asked for, but torch finds no GPU; use --device cpu")
    gpu = bool(facts["gpu"]) and options.device != "cpu"
    chosen = [s for s in sections(out, gpu=gpu) if not options.only or s.name.startswith(tuple(options.only))]
    if not chosen:
        parser.error(
            f"only {', '.join(options.only)}: no such section; use {', '.join(s.name for s in sections(out, gpu=gpu))}"
        )
    outcomes: list[Outcome] = []
    for section in chosen:
        left = 60 * options.minutes - (time.monotonic() - began)
        outcome = run(section, seconds_left=left, slowness=options.minutes / MINUTES)
        outcomes.append(outcome)
        name = "-".join(outcome.name.lower().replace("/", "-").replace(",", "").split())
        (out / f"{name}.json").write_text(json.dumps(asdict(outcome), indent=1) + "\n", encoding="utf-8")
        (out / "README.md").write_text(page(facts, outcomes, gpu=gpu, minutes=options.minutes), encoding="utf-8")
        why = f": {outcome.reason}" if outcome.reason else ""
        print(f"{outcome.name}: {outcome.outcome}, {outcome.seconds:.0f} s{why}", flush=True)
    print(out / "README.md")
    return int(any(outcome.outcome in ("failed", "out of time") for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
