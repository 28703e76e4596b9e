"""How is a file written so that it is there whole or not at all? One way, used everywhere.

Whoever reads it, now or after a full disk or a kill, finds the earlier content or the new one, never a part.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new empty file beside `path` to write to, in a folder that is made where needed; at the end it takes the place of
    `path`, safely on disk.

    It has the mode that the umask gives, whatever the writer made of it; a link is followed. Where an exception leaves the
    block, `path` is as it was and the new file is gone. Raises OSError where it cannot be written.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    with new.open("xb") as file:
        mode = os.fstat(file.fileno()).st_mode & 0o777
    try:
        yield new
        new.chmod(mode)
        with new.open("rb+") as file:
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_whole(path: Path, content: bytes | str) -> Path:
    """Writes `content`, text as UTF-8, in place of what `path` held; returns `path`. Raises OSError."""
    with replacing(path) as new:
        new.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def leftovers(path: Path) -> list[Path]:
    """What writers of `path` that were killed left half-written beside it."""
    return [one for one in path.parent.glob(".*.tmp") if one.name.startswith(f".{path.name}.")]


def sync_folder(folder: Path) -> None:
    """Puts new names in `folder` safely on disk, where the platform can."""
    if sys.platform == "win32":
        return
    with suppress(OSError):  # some network file systems refuse; the file itself is safe
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def cannot_write(what: str, path: Path, error: Exception, remedy: str = "free space there") -> ValueError:
    """What is said to the user where `path`, a kind of thing `what`, could not be written."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return ValueError(f"{what} {str(path)!r} cannot be written ({reason}); {remedy}")


ANOTHER_RESULTS = "free space there or give another --results"
