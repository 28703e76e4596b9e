"""How are derived files written, and those that nothing derives any more removed?

Only files that carry the mark are ever removed: what others put beside them stays.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from vitbench.files import ANOTHER_RESULTS, cannot_write, write_whole

MARK = "written by vitbench from its records"


def write(path: Path, content: str | bytes) -> Path:
    """Writes a file whole or not at all, and its folder where needed; raises ValueError where it cannot."""
    try:
        return write_whole(path, content)
    except OSError as error:
        raise cannot_write("results", path, error, ANOTHER_RESULTS) from error


def write_each(stem: Path, contents: Mapping[str, str | bytes]) -> list[Path]:
    """Writes a file of each suffix, by `write`; returns the paths."""
    return [write(stem.parent / f"{stem.name}.{suffix}", content) for suffix, content in contents.items()]


def remove_stale(
    directory: Path, *, written: Collection[Path], suffixes: Collection[str], unread: Collection[str] = ()
) -> None:
    """Removes from `directory` and its folders what was not written but has the mark, itself or on its Markdown sibling.

    What was made of a source that is `unread` now stays: the folder of that name, and what lies in `directory` itself, which
    is made of all sources. `records` are all of them.
    """
    if not directory.is_dir() or "records" in unread:
        return
    kept = set(written)
    folders = sorted(path for path in directory.glob("*") if path.is_dir() and path.name not in unread)
    for folder in folders if unread else (*folders, directory):
        candidates = sorted(path for path in folder.iterdir() if path.suffix in suffixes and path not in kept)
        for path in [path for path in candidates if is_marked(path) or is_marked(path.with_suffix(".md"))]:
            path.unlink()
        if folder != directory and not any(folder.iterdir()):
            folder.rmdir()


def is_marked(path: Path) -> bool:
    """The mark stands near the start, wherever the format has room for a remark."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return MARK.encode() in file.read(4096)
