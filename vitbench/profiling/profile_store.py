"""How is a device's profile kept? One JSON file for each part, so that measuring can stop and go on. Imports no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vitbench.files import ANOTHER_RESULTS, cannot_write, entries, write_whole

SCHEMA = 1
SAME_SET = ("device", "machine", "torch", "threads")
"""Parts are shown together only where these facts of their environments are equal."""


@dataclass(frozen=True)
class Part:
    """One measurement: what was asked, where, for how long, and its facts; `reason` says why there are none."""

    name: str
    """Its path under the device's folder, without `.json`: `throughput/S-16-224px-batch16-infer`."""
    request: Mapping[str, Any]
    environment: Mapping[str, Any]
    seconds: float
    """Time allowed for each row."""
    started: str
    finished: str
    facts: Mapping[str, Any]
    missing: int = 0
    """How many of the things asked could not be run; the facts say why."""
    reason: str = ""

    @property
    def kind(self) -> str:
        """`ceilings`, `flops`, `throughput`, `peers` or `traces`."""
        return self.name.partition("/")[0]

    @property
    def set_key(self) -> tuple[Any, ...]:
        return tuple(self.environment.get(fact) for fact in SAME_SET)

    def settles(self, *, request: Mapping[str, Any], environment: Mapping[str, Any], seconds: float) -> bool:
        """Whether it is the same measurement in an equal environment, with no less time."""
        set_key = tuple(environment.get(fact) for fact in SAME_SET)
        return not self.reason and self.request == request and self.set_key == set_key and self.seconds >= seconds


def profile_directory(results: str | Path, device: str) -> Path:
    """The folder of a device's profile: for `cpu: AMD EPYC 9B45`, `profiles/cpu-amd-epyc-9b45`."""
    return Path(results) / "profiles" / re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def list_profiles(results: str | Path) -> list[Path]:
    """The folders of all devices with a profile, by name."""
    folders = (path for path in entries(Path(results) / "profiles") if path.is_dir())
    return [folder for folder in folders if any(_part_files(folder))]


def read_parts(directory: Path) -> list[Part]:
    """All parts of a device's profile, by name. Raises ValueError for a file that is no part."""
    return [_read(path) for path in sorted(_part_files(directory))]


def find_part(directory: Path, name: str) -> Part | None:
    path = directory / f"{name}.json"
    return _read(path) if path.exists() else None


def write_part(directory: Path, part: Part) -> Path:
    """Writes the part whole or not at all. Raises ValueError where it cannot be written."""
    path = directory / f"{part.name}.json"
    lines = ",\n".join(
        f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}"
        for key, value in {"schema": SCHEMA, **asdict(part)}.items()
    )
    try:
        return write_whole(path, f"{{{lines}}}\n")
    except OSError as error:
        raise cannot_write("results", path, error, ANOTHER_RESULTS) from error


def _part_files(directory: Path) -> list[Path]:
    return [*directory.glob("*.json"), *directory.glob("*/*.json")]


def _read(path: Path) -> Part:
    try:
        if not path.is_file():
            raise OSError(f"{path.name} is no regular file")
        facts = json.loads(path.read_text(encoding="utf-8"))
        schema = facts.pop("schema")
        part = Part(**facts)
    except (ValueError, TypeError, KeyError, AttributeError, OSError, RecursionError) as error:
        raise ValueError(f"profile {str(path)!r} is not a part of a profile ({error}); remove it") from error
    if schema != SCHEMA:
        raise ValueError(f"profile {str(path)!r} has schema {schema}, not {SCHEMA}; measure it again, or remove it")
    return part
