"""What does a device's profile hold? Parts that may stand side by side, contests, where the time of traced steps went.

Read from the profile's JSON alone.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitbench.analysis.profile.rows import Heat, Row
from vitbench.analysis.writing.files import remove_stale, write
from vitbench.analysis.writing.words import listed
from vitbench.profiling.profile_store import Part, list_profiles, read_parts
from vitbench.profiling.timing import Interval, Timing, ratio
from vitbench.records import Faults
from vitbench.text import counted

OURS = "vitbench"


@dataclass(frozen=True)
class Profile:
    """The parts of one device that may stand side by side; `left_out` were measured with another torch, or threads."""

    directory: Path
    parts: tuple[Part, ...]
    left_out: tuple[Part, ...] = ()

    @property
    def environment(self) -> Mapping[str, Any]:
        return self.parts[0].environment

    @property
    def device(self) -> str:
        return str(self.environment["device"])

    @property
    def where(self) -> str:
        """Device, threads, torch and days."""
        days = sorted({part.started[:10] for part in self.parts})
        threads = [counted(self.environment["threads"], "thread")] if self.device.startswith("cpu") else []
        measured = " to ".join(dict.fromkeys((days[0], days[-1])))
        return listed([self.device, *threads, f"torch {self.environment['torch']}", f"measured {measured}"])

    def of(self, kind: str) -> list[Part]:
        """The parts of a kind that could be measured."""
        return [part for part in self.parts if part.kind == kind and not part.reason]


def load_profile(directory: Path) -> Profile:
    """The set of parts measured last. Raises ValueError for a file that is no part."""
    parts = read_parts(directory)
    latest = max(parts, key=lambda part: part.finished).set_key
    same = tuple(part for part in parts if part.set_key == latest)
    return Profile(directory, same, tuple(part for part in parts if part.set_key != latest))


def write_of_each_profile(
    store_root: str | Path,
    contents: Callable[[Profile], Mapping[Path, str | bytes]],
    *,
    suffixes: Collection[str],
    faults: Faults | None,
) -> list[Path]:
    """Writes, for every device, what `contents` gives by path, and removes earlier files of these suffixes.

    A profile that is damaged is left as it is; `faults` are told, or stderr.
    """
    faults = Faults() if faults is None else faults
    written: list[Path] = []
    for directory in list_profiles(store_root):
        files: Mapping[Path, str | bytes] | None = None
        with faults.leaving_out(directory):
            files = contents(load_profile(directory))
        if files is not None:
            paths = [write(path, content) for path, content in files.items()]
            remove_stale(directory, written=paths, suffixes=suffixes)
            written += paths
    return written


@dataclass(frozen=True)
class MeasuredContest:
    """A contest between implementations: the rows of its finals, by implementation, and the heats before."""

    part: Part
    rows: Mapping[str, Row]
    heats: tuple[Heat, ...]

    @property
    def identity(self) -> dict[str, str]:
        """The cells that say which it is."""
        request = self.part.request
        return {"model": model_label(self.part), "pooling": str(request["model"]["pool"]), "mode": str(request["mode"])}

    @property
    def name(self) -> str:
        return listed(self.identity.values())

    def against(self, name: str) -> tuple[float, Interval] | None:
        """How many times as fast ours is: (median of the peer's step over ours, round by round; 95 % interval)."""
        ours, peer = self.rows.get(OURS), self.rows.get(name)
        if name == OURS or ours is None or peer is None or not (ours.took_turns and peer.took_turns):
            return None
        return ratio(*(Timing(tuple(row.samples), (), settled=True) for row in (peer, ours)))

    @property
    def best_peer(self) -> str | None:
        """The peer that comes nearest to ours, or is furthest ahead."""
        ratios = {name: against[0] for name in self.rows if (against := self.against(name))}
        return min(ratios, key=ratios.__getitem__, default=None)


def contests_of(profile: Profile) -> list[MeasuredContest]:
    """Those that could be held."""
    return [
        MeasuredContest(
            part, {row.implementation: row for row in rows_of(part)}, tuple(map(Heat.read, part.facts["heats"]))
        )
        for part in profile.of("peers")
    ]


def rows_of(part: Part) -> list[Row]:
    """The rows of a part of kind `throughput` or `peers`."""
    return list(map(Row.read, part.facts["rows"]))


@dataclass(frozen=True)
class Share:
    """What a group of operations takes in one step."""

    seconds: float
    calls: int
    flops: int
    bytes: int

    @property
    def flops_per_second(self) -> float | None:
        return self.flops / self.seconds if self.flops and self.seconds else None

    @property
    def intensity(self) -> float | None:
        """FLOPs a byte."""
        return self.flops / self.bytes if self.flops and self.bytes else None


def shares(part: Part, by: str) -> dict[str, Share]:
    """The rows of a traced step, summed by `kind` of operation, by `block`, or by `role` in a block."""
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for values in part.facts["rows"]:
        row = dict(zip(part.facts["columns"], values, strict=True))
        groups[row[by]].append(row)
    return {
        name: Share(*(sum(row[column] for row in rows) for column in ("seconds", "calls", "flops", "bytes")))
        for name, rows in groups.items()
    }


def is_of_timm(part: Part) -> bool:
    """Whether the model is one of timm's, with parts of its own."""
    return "timm" in part.request["model"]


def model_facts(part: Part) -> dict[str, str]:
    """`variant`: `S/16`, or with the options that make it another model `timm:resnet18 (layers=[1, 1, 1, 1])`; `image_size`:
    `224`, or `28×32`.
    """
    variant, model = part.request["variant"], part.request["model"]
    options = listed(f"{name}={json.dumps(value)}" for name, value in (model.get("options") or {}).items())
    size = model["image_size"]
    return {
        "variant": f"{variant} ({options})" if options else str(variant),
        "image_size": "×".join(map(str, dict.fromkeys(size))) if isinstance(size, list) else str(size),
    }


def model_label(part: Part) -> str:
    """`S/16, 224 px`."""
    return "{variant}, {image_size} px".format(**model_facts(part))


def identity_of(part: Part) -> dict[str, Any]:
    """Which part of which device's profile a row of raw numbers comes from."""
    environment, request = part.environment, part.request
    return {
        "device": environment["device"],
        "torch": environment["torch"],
        "threads": environment["threads"],
        **model_facts(part),
        "pool": request["model"].get("pool"),
        "mode": request["mode"],
        "batch_size": request["batch_size"],
    }
