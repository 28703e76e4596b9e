"""Where are decoded images kept between runs? In one folder per data set and size, complete or absent.

Of several processes that need the same folder, one builds it; nothing half-built is ever read.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock

from vitbench.config import canonical_json
from vitbench.data.info import DataInfo
from vitbench.data.source import Source
from vitbench.files import cannot_write, sync_folder, write_whole
from vitbench.machine import cache_directory

FORMAT = 2
"""Raised whenever decoding or the layout changes, so that older folders are left alone."""

META, INFO = "meta.json", "info.json"


def cache_limit_bytes() -> float:
    """Decoded sets above this size are streamed: `VITBENCH_CACHE_LIMIT_GB` (1e9 bytes each), 4 by default."""
    text = os.environ.get("VITBENCH_CACHE_LIMIT_GB") or "4"
    try:
        limit = float(text)
    except ValueError:
        limit = -1
    if not limit >= 0:
        raise ValueError(f"VITBENCH_CACHE_LIMIT_GB {text!r} must be gigabytes, 0 or more; leave it out for 4")
    return limit * 1e9


def folder_for(dataset: str, fingerprint: str) -> Path:
    """The data set's folder in the cache. Another Pillow may decode a JPEG to other pixels, so it counts."""
    key = hashlib.sha256(json.dumps([FORMAT, dataset, fingerprint, metadata.version("pillow")]).encode()).hexdigest()
    return cache_directory() / "data" / f"{re.sub(r'[^A-Za-z0-9_.@-]+', '-', dataset)}-{key[:16]}"


def entry_for(source: Source, size: tuple[int, int], *, streamed: bool, resized: tuple[int, int] | None = None) -> Path:
    """The folder of a data set at (height, width): its decoded images, or what was measured of images that are streamed.

    `resized`: what images were resized to cover, if not their size.
    """
    name = f"{size[0]}x{size[1]}" + (f"-of-{resized[0]}x{resized[1]}" if resized else "") + "-streamed" * streamed
    return folder_for(source.dataset, source.fingerprint) / name


def read_info(folder: Path) -> DataInfo | None:
    """What an earlier process found out about a data set; None where that is absent or damaged."""
    try:
        return DataInfo.model_validate(_read_facts(folder / INFO))
    except ValueError:
        return None


def write_info(folder: Path, info: DataInfo) -> None:
    """Keeps `info` for later processes, where the cache can be written: describing a data set must not depend on that."""
    with suppress(OSError):
        _write_facts(folder / INFO, info.model_dump(mode="json"))


def read_entry(entry: Path) -> dict[str, Any] | None:
    """The meta data of an entry; None where it is absent, or where a file of it is not what was written.

    Each file is read through once a process: a flipped bit would be trained on under the digest of the images as they were.
    """
    meta = _read_facts(entry / META)
    try:
        is_intact = meta is not None and all(
            _sha256(entry / name, (entry / name).stat().st_mtime_ns, (entry / name).stat().st_size) == digest
            for name, digest in meta["files"].items()
        )
    except (OSError, KeyError, AttributeError):
        return None
    return meta if is_intact else None


def build_entry(entry: Path, build: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """The meta data of `entry`, built if it is absent: `build` fills a temporary folder and returns its meta data.

    The folder is moved into place in one step, under a lock. Raises ValueError where the cache cannot be written.
    """
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(entry.parent / f".{entry.name}.lock"):
            return read_entry(entry) or _build(entry, build)
    except OSError as error:
        raise cannot_write("cache", cache_directory(), error, "set VITBENCH_CACHE to another folder") from error


def _build(entry: Path, build: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    prefix = f".building-{entry.name}-"
    # Under the lock nobody else builds this entry: what lies there was left by a process that was killed.
    for abandoned in [*entry.parent.glob(f"{prefix}*"), entry]:
        shutil.rmtree(abandoned, ignore_errors=True)
    temporary = entry.parent / f"{prefix}{os.getpid()}"
    temporary.mkdir()
    try:
        meta = build(temporary)
        meta["files"] = {}
        for path in sorted(temporary.iterdir()):
            with path.open("rb") as file:
                meta["files"][path.name] = hashlib.file_digest(file, "sha256").hexdigest()
                os.fsync(file.fileno())
        _write_facts(temporary / META, meta)
        temporary.rename(entry)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(entry.parent)
    return meta


@lru_cache(maxsize=64)
def _sha256(path: Path, _mtime_ns: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_facts(path: Path, facts: dict[str, Any]) -> None:
    """JSON with its own digest, by which a flipped bit does not pass for another number. Raises OSError."""
    write_whole(path, canonical_json({"facts": facts, "sha256": _digest(facts)}))


def _read_facts(path: Path) -> dict[str, Any] | None:
    """What `_write_facts` wrote; None where that is absent or damaged."""
    try:
        content = json.loads(path.read_bytes())
        facts: dict[str, Any] = content["facts"]
        return facts if content["sha256"] == _digest(facts) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _digest(facts: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(facts).encode()).hexdigest()
