"""Is a file the earlier one or the new one, whatever happens to its writer?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vitbench.files import ABANDONED_SECONDS, cannot_write, remove_leftovers, replacing, write_whole

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask, RLIMIT_FSIZE, pipes or SIGKILL")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def python(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, check=True, timeout=60
    )


def test_what_is_written_is_what_is_read_and_folders_are_made(tmp_path):
    path = tmp_path / "new" / "folder" / "table.md"
    assert write_whole(path, "± 0.5\r\n") == path
    assert path.read_bytes() == b"\xc2\xb1 0.5\r\n"
    write_whole(path, b"\0")
    assert path.read_bytes() == b"\0" and names(path.parent) == ["table.md"]


def test_an_exception_leaves_the_earlier_content_and_nothing_else(tmp_path):
    path = write_whole(tmp_path / "table.md", "earlier")

    def interrupted() -> None:
        with replacing(path) as new:
            new.write_text("half a ta")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "earlier" and names(tmp_path) == ["table.md"]


def test_readers_see_the_earlier_content_until_the_writer_is_done(tmp_path):
    path = write_whole(tmp_path / "table.md", "earlier")
    with replacing(path) as new:
        new.write_text("later")
        assert path.read_text() == "earlier"
    assert path.read_text() == "later"


FULL_DISK = """
import resource, sys
from pathlib import Path
from vitbench.files import write_whole
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_whole(Path(sys.argv[1]), b"x" * 1001)
except OSError as error:
    print(error.strerror)
"""


@posix
def test_a_full_disk_leaves_the_earlier_content_and_nothing_else(tmp_path):
    path = write_whole(tmp_path / "report.html", "earlier")
    assert python(FULL_DISK, path).stdout == "File too large\n"
    assert path.read_text() == "earlier" and names(tmp_path) == ["report.html"]


KILLED = """
import os, signal, sys
from pathlib import Path
from vitbench.files import replacing
with replacing(Path(sys.argv[1])) as new:
    new.write_text("half a ta")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@posix
def test_a_killed_writer_leaves_the_earlier_content_and_its_leftovers_go_after_a_day(tmp_path):
    path = write_whole(tmp_path / "table.md", "earlier")
    with pytest.raises(subprocess.CalledProcessError) as end:
        python(KILLED, path)
    assert end.value.returncode == -signal.SIGKILL
    assert path.read_text() == "earlier"
    (leftover,) = (entry for entry in tmp_path.iterdir() if entry != path)
    write_whole(path, "later")
    assert leftover.exists()  # its writer might still be at work, on another machine
    a_day_ago = time.time() - ABANDONED_SECONDS - 1
    os.utime(leftover, (a_day_ago, a_day_ago))
    write_whole(path, "last")
    assert names(tmp_path) == ["table.md"]


def test_leftovers_of_other_files_are_not_removed(tmp_path):
    theirs = [".table.md.mine", ".table.md.csv.1-0.tmp.bak", ".other.md.1-0.tmp", "table.md.1-0.tmp"]
    for name in [*theirs, ".table.md.4711-0a1b2c3d.tmp"]:
        (tmp_path / name).write_text("")
    remove_leftovers(tmp_path / "table.md")
    assert names(tmp_path) == sorted(theirs)


@posix
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_the_mode_is_what_the_umask_gives_whatever_the_writer_makes_of_it(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with replacing(tmp_path / "weights") as new:
            new.unlink()
            new.touch(mode=0o600)  # as a library does that writes to a temporary file of its own
    finally:
        os.umask(before)
    assert (tmp_path / "weights").stat().st_mode & 0o777 == mode


@posix
@pytest.mark.parametrize("mode", [0o664, 0o600, 0o444])
def test_a_file_that_is_replaced_keeps_its_mode_whatever_the_umask(tmp_path, mode):
    path = write_whole(tmp_path / "pooling.jsonl", "earlier")
    path.chmod(mode)
    before = os.umask(0o077)
    try:
        write_whole(path, "later")
    finally:
        os.umask(before)
    assert path.read_text() == "later" and path.stat().st_mode & 0o777 == mode


@posix
def test_a_link_stays_a_link_and_what_it_points_to_is_replaced(tmp_path):
    write_whole(tmp_path / "elsewhere" / "table.md", "earlier")
    (tmp_path / "table.md").symlink_to(Path("elsewhere") / "table.md")
    write_whole(tmp_path / "table.md", "later")
    assert (tmp_path / "table.md").is_symlink()
    assert (tmp_path / "elsewhere" / "table.md").read_text() == "later"


@posix
def test_a_folder_a_pipe_and_a_device_are_refused_and_stay(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "folder", tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(OSError, match=r"Is a directory|not a regular file"):
            write_whole(path, "text")
    assert names(tmp_path) == ["folder", "pipe"] and Path("/dev/null").is_char_device()


WRITER = """
import sys
from pathlib import Path
from vitbench.files import write_whole
for _ in range(50):
    write_whole(Path(sys.argv[1]), sys.argv[2] * 100_000)
"""


def test_of_concurrent_writers_one_is_read_whole_at_any_moment(tmp_path):
    path = write_whole(tmp_path / "table.md", "a" * 100_000)
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), letter]) for letter in "ab"]
    while any(writer.poll() is None for writer in writers):
        content = path.read_text()
        assert len(content) == 100_000 and len(set(content)) == 1
    assert [writer.wait() for writer in writers] == [0, 0]
    assert names(tmp_path) == ["table.md"]


def test_what_cannot_be_written_is_said_with_path_reason_and_remedy():
    error = OSError(28, "No space left on device")
    assert str(cannot_write("weights", Path("a b"), error)) == (
        "weights 'a b' cannot be written (No space left on device); free space there"
    )
    assert "(out of memory)" in str(cannot_write("cache", Path("a"), MemoryError("out of memory"), "x"))
    assert "(MemoryError)" in str(cannot_write("cache", Path("a"), MemoryError(), "x"))
