"""How is a file written so that it is there whole or not at all? One way, used everywhere.

Whoever reads it, now or after a full disk or a kill, finds the earlier content or the new one, never a part.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ABANDONED_SECONDS = 86_400.0
"""A half-written file of this age has no writer any more, on whichever machine that ran."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new empty file beside `path` to write to; at the end of the block it replaces `path`, safely on disk.

    Its folder is made where needed, and a link is followed. Its mode is that of the earlier file, else what the umask gives,
    whatever the writer makes of it. Where an exception leaves the block, `path` is as it was and the new file is gone. Files
    that killed writers of `path` left half-written are removed once they are a day old.
    Raises OSError where it cannot be written; before the block for a folder or a device of that name.
    """
    path = Path(os.path.realpath(path))
    mode = _permissions(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    with new.open("xb") as file:
        mode = os.fstat(file.fileno()).st_mode & 0o777 if mode is None else mode
    try:
        yield new
        with new.open("rb+") as file:
            new.chmod(mode)  # once it is open: the earlier file may have been read-only
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    remove_leftovers(path, older_than=ABANDONED_SECONDS)


def write_whole(path: Path, content: bytes | str) -> Path:
    """Writes `content` in place of what `path` held; returns `path`. Raises OSError.

    Text is written as UTF-8; bytes of names that are not UTF-8 as `\\udcff`, which JSON reads back.
    """
    with replacing(path) as new:
        new.write_bytes(content.encode(errors="backslashreplace") if isinstance(content, str) else content)
    return path


def remove_leftovers(path: Path, *, older_than: float = 0.0) -> None:
    """Removes what writers of `path` left half-written beside it, if it is `older_than` seconds.

    With the default, nobody may be writing `path`. What cannot be removed stays.
    """
    latest = time.time() - older_than
    with suppress(OSError):
        for half_written in path.parent.glob(".*.tmp"):
            if half_written.name.startswith(f".{path.name}.") and half_written.stat().st_mtime <= latest:
                half_written.unlink(missing_ok=True)


def _permissions(path: Path) -> int | None:
    """The permissions of the file; None where there is no file. Raises OSError for a folder, a device or a pipe."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return mode & 0o777


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


def shown(path: Path) -> str:
    """The path relative to the working directory; as it is on another drive."""
    try:
        return os.path.relpath(path)
    except ValueError:
        return str(path)


def expanded(path: Path) -> Path:
    """With `~` as the home folder, which shells leave as it is after `=`. Raises ValueError for one that is not there."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"path {str(path)!r} begins with a home folder that is not known; write it out") from error


def entries(folder: Path) -> list[Path]:
    """The content of a folder, by name; nothing where there is no folder. Raises OSError where it may not be listed."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def error_reason(error: BaseException) -> str:
    """Why something failed, in one line: the system's words where there are any, else the error's message or its type."""
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""How the system says that a disk, a quota or a limit is exhausted."""
ANOTHER_RESULTS = "give another --results"


def cannot_write(what: str, path: Path, error: Exception, otherwise: str = "") -> ValueError:
    """An error for the user: `path`, which is a `what`, cannot be written, and what to do: mend that, or `otherwise`."""
    mend = "make it writable" if isinstance(error, OSError) and error.errno not in FULL else "free space there"
    remedy = f"{mend} or {otherwise}" if otherwise else mend
    return ValueError(f"{what} {str(path)!r} cannot be written ({error_reason(error)}); {remedy}")
