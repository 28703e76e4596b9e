"""Is a cache entry whole or absent, built once, and where the user wants it?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vitbench.data import cache as decoded
from vitbench.data.info import DataInfo
from vitbench.machine import cache_directory

BUILDER = """
import sys, time
from pathlib import Path
from vitbench.data.cache import build_entry
def build(folder):
    print("building", flush=True)
    time.sleep(0.5)
    (folder / "x.npy").write_bytes(b"12345")
    return {"sha256": "abc"}
print(build_entry(Path(sys.argv[1]), build)["sha256"])
"""


def build_whole(folder: Path) -> dict[str, object]:
    (folder / "x.npy").write_bytes(b"12345")
    return {"mean": [0.5]}


def never(folder: Path) -> dict[str, object]:
    raise AssertionError("built again")


def test_two_processes_at_once_get_one_builder(tmp_path):
    command = [sys.executable, "-c", BUILDER, str(tmp_path / "set" / "8x8")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0].split() for process in processes]
    assert sorted(outputs) == [["abc"], ["building", "abc"]]
    assert [path.name for path in (tmp_path / "set").iterdir() if "building" in path.name] == []


def test_what_was_built_is_not_built_again(tmp_path):
    decoded.build_entry(tmp_path / "set" / "8x8", build_whole)
    assert decoded.build_entry(tmp_path / "set" / "8x8", never)["mean"] == [0.5]


def test_a_failed_build_leaves_nothing_behind(tmp_path):
    def fail(folder: Path) -> dict[str, object]:
        (folder / "x.npy").write_bytes(b"12")
        raise ValueError("image 'a.png' cannot be read")

    with pytest.raises(ValueError, match=r"a\.png"):
        decoded.build_entry(tmp_path / "set" / "8x8", fail)
    assert [path.name for path in (tmp_path / "set").iterdir() if not path.name.endswith(".lock")] == []


@pytest.mark.parametrize("broken", ["x.npy", "meta.json"])
def test_an_entry_with_a_truncated_file_is_not_used_but_built_again(tmp_path, broken):
    entry = tmp_path / "set" / "8x8"
    decoded.build_entry(entry, build_whole)
    (entry / broken).write_bytes((entry / broken).read_bytes()[:3])
    assert decoded.read_entry(entry) is None
    decoded.build_entry(entry, build_whole)
    assert (entry / "x.npy").read_bytes() == b"12345"


def test_leftovers_of_a_killed_builder_are_removed(tmp_path):
    leftover = tmp_path / "set" / ".building-8x8-abc"
    leftover.mkdir(parents=True)
    decoded.build_entry(tmp_path / "set" / "8x8", build_whole)
    assert not leftover.exists()


def test_a_cache_that_cannot_be_written_is_refused_with_the_remedy(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(
        ValueError, match=r"^cache '.*file' cannot be written \(Not a directory\); .*set VITBENCH_CACHE"
    ):
        decoded.build_entry(cache_directory() / "data" / "set" / "8x8", build_whole)


def test_the_cache_lies_where_the_platform_keeps_caches(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("VITBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "vitbench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_directory() == tmp_path / ".cache" / "vitbench"


@pytest.mark.parametrize("text", ["many", "-1", "nan"])
def test_a_limit_that_is_no_size_is_refused(monkeypatch, text):
    monkeypatch.setenv("VITBENCH_CACHE_LIMIT_GB", text)
    with pytest.raises(ValueError, match=f"^VITBENCH_CACHE_LIMIT_GB '{text}' must be gigabytes"):
        decoded.cache_limit_bytes()


@pytest.mark.parametrize("name", ["x.npy", "meta.json"])
def test_an_entry_of_which_one_bit_is_flipped_is_built_again(tmp_path, name):
    entry = tmp_path / "set" / "8x8"
    decoded.build_entry(entry, build_whole)
    content = (entry / name).read_bytes()
    for bit in range(0, 8 * len(content), 5):  # every place within a byte, and every fifth bit of all
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        (entry / name).write_bytes(flipped)
        os.utime(entry / name, ns=(bit, bit))
        assert decoded.read_entry(entry) is None
    decoded.build_entry(entry, build_whole)
    assert (entry / name).read_bytes() == content


def test_what_is_remembered_of_a_data_set_is_found_out_again_where_a_bit_is_flipped(tmp_path):
    info = DataInfo(
        dataset="pets",
        num_classes=10,
        in_channels=3,
        image_size=(8, 8),
        train_images=80,
        test_images=20,
        crop_padding=0,
        flip=False,
    )
    decoded.write_info(tmp_path, info)
    path = tmp_path / "info.json"
    assert decoded.read_info(tmp_path) == info
    path.write_bytes(path.read_bytes().replace(b'"num_classes":10', b'"num_classes":18'))
    assert decoded.read_info(tmp_path) is None


FULL_DISK = """
import resource, sys
from pathlib import Path
from vitbench.data.cache import build_entry
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
def build(folder):
    (folder / "x.npy").write_bytes(b"1" * 1001)
    return {}
try:
    build_entry(Path(sys.argv[1]), build)
except ValueError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no RLIMIT_FSIZE to stand for a full disk")
def test_a_full_disk_leaves_no_entry_and_the_others_as_they_were(tmp_path):
    decoded.build_entry(tmp_path / "set" / "8x8", build_whole)
    said = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "set" / "16x16")], capture_output=True, text=True, check=True
    )
    assert "cannot be written (File too large); free space there or set VITBENCH_CACHE" in said.stdout
    assert sorted(path.name for path in (tmp_path / "set").iterdir() if path.is_dir()) == ["8x8"]
    assert decoded.read_entry(tmp_path / "set" / "8x8") is not None
