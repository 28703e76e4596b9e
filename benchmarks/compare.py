"""Has anything got slower since a saved run? `compare.py OLD NEW [--bound 1.3]`

Every time is in units of the yardstick that was measured around it, so that a slow machine fails nothing. Exit status:
0 nothing is slower than the bound, 1 something is, 2 the two runs cannot be compared, or nothing in them judged.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vitbench.profiling.timing import Interval, percentile_interval, resampled_medians

BOUND = 1.3
MIN_SAMPLES = 5
"""A benchmark with fewer is not judged: they give no interval."""
MAX_CORES_MISSING = 0.25
"""A benchmark is not judged where other processes took more cores from it, in either run."""
CONDITIONS = ("device", "cpu_cores", "threads", "torch", "precision", "kernels")
"""What must be equal in both runs."""


@dataclass(frozen=True)
class Measured:
    """One benchmark: its samples in seconds, and those of the yardstick's parts just before and after them."""

    samples: Sequence[float]
    yardstick: Mapping[str, Sequence[float]]
    cores_missing: float = 0.0
    """Cores that other processes kept from it; 0 also where the platform does not tell."""


@dataclass(frozen=True)
class Run:
    """What one `nox -s benchmarks` measured, and under which conditions. `yardstick` says what its parts are."""

    conditions: Mapping[str, object]
    yardstick: str
    benchmarks: Mapping[str, Measured]


@dataclass(frozen=True)
class Change:
    """Time in yardsticks, new over old, of one benchmark: 2 is twice as slow. The interval is a 95 % bootstrap."""

    name: str
    ratio: float
    interval: Interval
    samples: int
    """In the run that has fewer."""
    cores_missing: float
    """In the run that lacked more."""

    @property
    def not_judged(self) -> str:
        """Why nothing can be concluded; empty where something can."""
        if self.samples < MIN_SAMPLES:
            return f"fewer than {MIN_SAMPLES} samples"
        if self.cores_missing > MAX_CORES_MISSING:
            return f"others kept {self.cores_missing:.1f} cores from it"
        return ""

    def slower_than(self, bound: float) -> bool:
        """Whether the whole interval lies above `bound`."""
        return not self.not_judged and self.interval[0] > bound

    def faster_than(self, bound: float) -> bool:
        """Whether the whole interval lies below 1 / `bound`."""
        return not self.not_judged and self.interval[1] < 1 / bound

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.name}: {self.ratio:.2f} × the time ({low:.2f} to {high:.2f}, n = {self.samples})"


@dataclass(frozen=True)
class Changes:
    """Of all benchmarks that both runs have, and the names of those that only one has."""

    all: tuple[Change, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]
    machine: float
    """Median of the yardstick's time, new over old: 1.3 is a machine that was slower by 30 %."""


def read_run(path: Path) -> Run:
    """Raises ValueError where the file is not what `nox -s benchmarks` saves."""
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        benchmarks = saved["benchmarks"]
        machine: dict[str, Any] = saved["machine_info"]
    except OSError as error:
        raise ValueError(
            f"{str(path)!r} cannot be read ({error.strerror}); give a file of nox -s benchmarks"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{str(path)!r} is not what nox -s benchmarks saves; give a file of it") from error
    if "yardstick" not in machine:
        raise ValueError(f"{str(path)!r} has no yardstick, so its times depend on the day; make it anew")
    measured: dict[str, Measured] = {}
    for benchmark in benchmarks:
        name, info = benchmark["fullname"].removeprefix("benchmarks/"), benchmark["extra_info"]
        # What times several things in turn keeps their samples by name; its own time is then how long it went on.
        parts = info.get("samples") or {"": benchmark["stats"]["data"]}
        for part, samples in parts.items():
            measured[f"{name} {part}".rstrip()] = Measured(samples, info["yardstick"], info.get("cores_missing", 0.0))
    return Run(
        {key: str(machine.get(key)).partition(": ")[0] if key == "kernels" else machine.get(key) for key in CONDITIONS},
        machine["yardstick"],
        measured,
    )


def compare(old: Run, new: Run, *, allow_different: bool = False) -> Changes:
    """The ratio of every benchmark that both have.

    Raises ValueError for runs on another device, with another torch or precision, unless `allow_different`; and always
    for runs that have another yardstick, or nothing, in common.
    """
    different = [key for key in CONDITIONS if old.conditions[key] != new.conditions[key]]
    if different and not allow_different:
        key = different[0]
        raise ValueError(
            f"{key} was {old.conditions[key]!r} and is {new.conditions[key]!r}: such times are not compared; "
            "measure both alike, or give --allow-different"
        )
    if old.yardstick != new.yardstick:
        raise ValueError(f"yardstick was {old.yardstick!r} and is {new.yardstick!r}; measure both with the same one")
    shared = [name for name in old.benchmarks if name in new.benchmarks]
    if not shared:
        raise ValueError("the two runs have no benchmark in common; measure the same ones")
    pairs = [(old.benchmarks[name], new.benchmarks[name]) for name in shared]
    return Changes(
        all=tuple(change(name, *pair) for name, pair in zip(shared, pairs, strict=True)),
        only_old=tuple(name for name in old.benchmarks if name not in new.benchmarks),
        only_new=tuple(name for name in new.benchmarks if name not in old.benchmarks),
        machine=float(np.median([_yardstick(after) / _yardstick(before) for before, after in pairs])),
    )


def change(name: str, old: Measured, new: Measured) -> Change:
    """(time / yardstick) now over (time / yardstick) then, each by medians; all samples are resampled for the interval."""
    generator = np.random.default_rng(0)
    resample = partial(resampled_medians, generator=generator)
    draws = _in_yardsticks(new, resample) / _in_yardsticks(old, resample)
    return Change(
        name,
        float(_in_yardsticks(new, np.median) / _in_yardsticks(old, np.median)),
        percentile_interval(draws),
        samples=min(len(old.samples), len(new.samples)),
        cores_missing=max(old.cores_missing, new.cores_missing),
    )


def _in_yardsticks(measured: Measured, median: Callable[[Sequence[float]], Any]) -> Any:
    """Time over that of the yardstick: one number, or as many as `median` gives."""
    yardstick = _yardstick(measured, median)
    return median(measured.samples) / yardstick


def _yardstick(measured: Measured, median: Callable[[Sequence[float]], Any] = np.median) -> Any:
    """Seconds: the geometric mean of the parts' medians. A part of another size would change no ratio."""
    medians = [median(samples) for samples in measured.yardstick.values()]
    return np.prod(medians, axis=0) ** (1 / len(medians))


def report(changes: Changes, *, bound: float) -> list[str]:
    """Lines on what got slower, what got faster, what could not be judged, and how many of each."""
    judged = sorted(changes.all, key=lambda change: -change.ratio)
    slower = [change for change in judged if change.slower_than(bound)]
    faster = [change for change in judged if change.faster_than(bound)]
    unjudged = [change for change in judged if change.not_judged]
    return [
        *(f"SLOWER {change}" for change in slower),
        *(f"faster {change}" for change in reversed(faster)),
        *(f"not judged, {change.not_judged}: {change.name}" for change in unjudged),
        *(f"missing, only in the old run: {name}" for name in changes.only_old),
        *(f"only in the new run: {name}" for name in changes.only_new),
        f"{len(judged)} compared: {len(slower)} slower than {bound:g} ×, {len(faster)} faster than 1 / {bound:g}, "
        f"{len(unjudged)} not judged; {len(changes.only_old)} missing; the yardstick itself took "
        f"{changes.machine:.2f} × its old time",
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status; see above."""
    parser = argparse.ArgumentParser(description="Has anything got slower since a saved run?", allow_abbrev=False)
    parser.add_argument("old", type=Path, help="a file that nox -s benchmarks saved")
    parser.add_argument("new", type=Path)
    parser.add_argument("--bound", type=float, default=BOUND, help="times slower that fail (default %(default)s)")
    parser.add_argument("--allow-different", action="store_true", help="devices, torch or precision may differ")
    chosen = parser.parse_args(arguments)
    if not chosen.bound >= 1:
        print(f"bound {chosen.bound:g} would fail what got faster; give 1 or more", file=sys.stderr)
        return 2
    try:
        old, new = read_run(chosen.old), read_run(chosen.new)
        changes = compare(old, new, allow_different=chosen.allow_different)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(report(changes, bound=chosen.bound)))
    if all(change.not_judged for change in changes.all):
        print("nothing could be judged; measure again on a machine that does nothing else", file=sys.stderr)
        return 2
    return int(any(change.slower_than(chosen.bound) for change in changes.all))


if __name__ == "__main__":
    raise SystemExit(main())
