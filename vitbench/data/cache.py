"""Where decoded images are kept between runs: one folder per data set and size, whole or absent.

Two processes that need the same one at once get one builder; nothing half-built is ever read.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock

from vitbench.data.info import DataInfo
from vitbench.data.sources import Source
from vitbench.machine import cache_directory

FORMAT = 2
"""Raised whenever decoding or the layout changes, so that older folders are left alone."""

META = "meta.json"


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


def entry_for(source: Source, size: tuple[int, int], *, streamed: bool) -> Path:
    """The folder of a data set at (height, width): its decoded images, or what was measured of images that are streamed."""
    name = f"{size[0]}x{size[1]}" + ("-streamed" if streamed else "")
    return folder_for(source.dataset, source.fingerprint) / name


def read_info(folder: Path) -> DataInfo | None:
    """What was once found out about a data set, or None."""
    try:
        return DataInfo.model_validate_json((folder / "info.json").read_bytes())
    except (OSError, ValueError):
        return None


def write_info(folder: Path, info: DataInfo) -> None:
    """Remembers it where it can; describing a data set must not need a writable cache."""
    temporary = folder / f".info-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.write_text(info.model_dump_json(), encoding="utf-8")
        temporary.replace(folder / "info.json")
    except OSError:
        return


def read_entry(entry: Path) -> dict[str, Any] | None:
    """The meta data of a whole entry; None where it is absent or a file of it is not as long as it was."""
    try:
        meta: dict[str, Any] = json.loads((entry / META).read_bytes())
        whole = all((entry / name).stat().st_size == size for name, size in meta["files"].items())
    except (OSError, ValueError, KeyError):
        return None
    return meta if whole else None


def build_entry(entry: Path, build: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """The meta data of `entry`, built if it is absent: `build` fills a temporary folder and returns its meta data.

    The folder is moved into place in one step, under a lock. Raises ValueError where the cache cannot be written.
    """
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(entry.parent / f".{entry.name}.lock"):
            meta = read_entry(entry)
            return meta if meta is not None else _build(entry, build)
    except OSError as error:
        remedy = "free space there" if error.errno == errno.ENOSPC else "make it writable"
        raise ValueError(
            f"cache {str(cache_directory())!r} cannot be written ({error.strerror or error}); "
            f"{remedy} or set VITBENCH_CACHE to another folder"
        ) from error


def _build(entry: Path, build: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    prefix = f".building-{entry.name}-"
    # Under the lock nobody else builds this entry: what is left over belongs to a process that was killed.
    for abandoned in [*entry.parent.glob(f"{prefix}*"), entry]:
        shutil.rmtree(abandoned, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=entry.parent))
    try:
        meta = build(temporary)
        meta["files"] = {path.name: path.stat().st_size for path in sorted(temporary.iterdir())}
        (temporary / META).write_text(json.dumps(meta), encoding="utf-8")
        temporary.chmod(0o755)  # mkdtemp keeps others out, a shared cache must not
        temporary.rename(entry)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return meta
