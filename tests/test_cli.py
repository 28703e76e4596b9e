"""Does every command end in one line and the right status, whatever the system does to it?"""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from vitbench import cli
from vitbench.records import RecordStore

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no /dev/full, umask or user ids")

COMMAND = [sys.executable, "-W", "error", "-m", "vitbench"]


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "check": False, "timeout": 60}
    return subprocess.run([*COMMAND, *map(str, arguments)], **{**settings, **options})


@pytest.mark.parametrize(
    "arguments",
    [("list",), ("list", "--json"), ("plan", "pooling", "--json"), ("--version",), ("--help",)],
    ids=" ".join,
)
def test_output_to_a_full_disk_is_one_line_and_status_1(arguments):
    with Path("/dev/full").open("w") as full:
        said = run(*arguments, stdout=full)
    assert (said.returncode, said.stderr) == (
        1,
        "vitbench: output cannot be written (No space left on device); free space there\n",
    )


def test_where_errors_go_to_a_full_disk_the_status_still_tells():
    with Path("/dev/full").open("w") as full:
        assert run("plan", "poling", stderr=full).returncode == 2


def test_a_reader_that_has_gone_is_not_complained_about():
    reading, writing = os.pipe()
    os.close(reading)
    try:
        said = run("list", stdout=writing)
    finally:
        os.close(writing)
    assert (said.returncode, said.stderr) == (1, "")


def test_a_closed_output_is_as_good_as_none(tmp_path):
    said = subprocess.run(
        ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *COMMAND, "list"], stdout=subprocess.PIPE, check=False, timeout=60
    )
    assert said.returncode == 0


def test_a_working_directory_that_is_gone_is_said_before_any_library_ends_the_process(tmp_path):
    (tmp_path / "gone").mkdir()
    script = 'cd "$0" && rmdir "$0" && exec "$@"'
    for arguments in (("flops", "Micro/2"), ("list",)):
        (tmp_path / "gone").mkdir(exist_ok=True)
        said = subprocess.run(
            ["sh", "-c", script, str(tmp_path / "gone"), *COMMAND[:1], *COMMAND[3:], *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])},
        )
        assert (said.returncode, said.stdout, said.stderr) == (
            2,
            "",
            "vitbench: the working directory is gone; change to one that exists\n",
        )


RAISED = {
    "another's folder": (PermissionError(13, "Permission denied", "/data"), 2, "'/data': Permission denied; make it"),
    "a file that is gone": (FileNotFoundError(2, "No such file or directory", "x"), 2, "'x': No such file"),
    "a name in another encoding": (NotADirectoryError(20, "Not a directory", b"\xff"), 2, r"'\udcff': Not a directory"),
    "too many open files": (OSError(24, "Too many open files"), 1, "Too many open files; VITBENCH_TRACEBACK=1 shows"),
    "memory": (
        MemoryError("Unable to allocate 1.2 TiB"),
        1,
        "out of memory (Unable to allocate 1.2 TiB); give a smaller",
    ),
    "torch's memory": (
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes\nmore"),
        1,
        "out of memory ([enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes); give a smaller",
    ),
    "a wrong request": (ValueError("width 3\nis odd"), 2, "width 3 is odd"),
}


@pytest.mark.parametrize(("error", "status", "line"), RAISED.values(), ids=RAISED)
def test_what_the_system_refuses_is_one_line_and_a_status(vitbench, monkeypatch, error, status, line):
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr("vitbench.costs.count", refuse)
    said = vitbench("list")
    assert said.status == status and said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith(f"vitbench: {line}")


@pytest.mark.parametrize("error", [KeyError("arm"), RuntimeError("half an assumption"), AssertionError("never")])
def test_a_bug_keeps_its_traceback(vitbench, monkeypatch, error):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("vitbench.costs.count", fail)
    monkeypatch.setattr(sys, "argv", ["vitbench", "list"])
    with pytest.raises(type(error)):
        cli.main()


def test_with_the_switch_every_error_keeps_its_traceback(monkeypatch):
    monkeypatch.setenv("VITBENCH_TRACEBACK", "1")
    monkeypatch.setattr(sys, "argv", ["vitbench", "plan", "poling"])
    with pytest.raises(ValueError, match="poling"):
        cli.main()


@pytest.mark.parametrize("place", ["results", "results/records", "results/records/pooling.jsonl"])
@pytest.mark.parametrize("command", [("plan", "pooling", "--budget", "smoke"), ("tables",), ("plots",), ("report",)])
def test_results_that_may_not_be_read_are_said_and_no_traceback(
    vitbench, unreadable, tmp_path, monkeypatch, made_up, command, place
):
    monkeypatch.chdir(tmp_path)
    RecordStore(tmp_path / "results").append(made_up(seed=0))
    vitbench(command[0], "--help")
    vitbench(*command, "--results", "results")  # what it imports may not be readable any more afterwards
    with unreadable(tmp_path / place):
        said = vitbench(*command, "--results", "results")
    assert said.status in (1, 2), said
    assert "Permission denied" in said.err and "Traceback" not in said.err
    assert all(line.startswith("vitbench: ") for line in said.err.splitlines())


def test_weights_that_may_not_be_read_are_not_called_missing(vitbench, unreadable, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VITBENCH_KERNELS", "torch")
    trained = vitbench("train", "Nano/2", "--epochs", "1", "--results", "results", "--json")
    run_id = json.loads(trained.out)["run_id"]
    arguments = ("figures", run_id, "--only", "filters", "--results", "results")
    assert vitbench(*arguments).status == 0
    with unreadable(tmp_path / "results" / "checkpoints" / f"{run_id}.safetensors"):
        said = vitbench(*arguments)
    assert said.status == 2 and "cannot be read: Permission denied" in said.err and said.err.count("\n") == 1


def test_a_folder_of_weights_that_may_not_be_listed_is_not_called_empty(vitbench, unreadable, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results" / "checkpoints").mkdir(parents=True)
    arguments = ("figures", "0123abcd", "--only", "filters", "--results", "results")
    assert "there are none" in vitbench(*arguments).err
    with unreadable(tmp_path / "results" / "checkpoints"):
        said = vitbench(*arguments)
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert said.err.startswith("vitbench: 'results/checkpoints': Permission denied")


def test_a_data_set_whose_folder_s_name_is_not_utf_8_is_trained_on_and_reported(
    vitbench, tmp_path, monkeypatch, folder_of_images
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VITBENCH_KERNELS", "torch")
    results = os.fsdecode(b"r\xe9sultats")
    try:
        folder_of_images(tmp_path / os.fsdecode(b"caf\xe9"))
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    trained = vitbench(
        *("train", "Nano/2", "--epochs", "1", "--batch-size", "16", "--precision", "fp32", "--json"),
        *("--data", os.fsdecode(b"caf\xe9"), "--results", results),
    )
    assert trained.status == 0, trained.err
    assert json.loads(trained.out)["config"]["data"]["dataset"].startswith(r"caf\udce9@")
    for command in ("tables", "report"):
        said = vitbench(command, "--results", results)
        assert (said.status, said.err) == (0, "")
        assert r"r\udce9sultats" in said.out


def test_a_name_that_is_not_utf_8_is_printed_with_its_odd_bytes_spelt_out(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    said = subprocess.run([*COMMAND, "plan", "pooling", "--data", folder], capture_output=True, check=False, timeout=60)
    assert said.returncode == 2 and said.stderr.count(b"\n") == 1
    assert rb"caf\udce9" in said.stderr or rb"caf\\udce9" in said.stderr


def test_a_user_without_home_or_account_is_asked_for_a_cache_only_where_one_is_needed(
    vitbench, tmp_path, monkeypatch, folder_of_images
):
    def unknown(user: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {user}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "VITBENCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VITBENCH_KERNELS", "torch")
    monkeypatch.chdir(tmp_path)
    told = vitbench("doctor")
    assert (
        told.status == 0
        and "cache       none: there is no home folder to keep the cache in; set VITBENCH_CACHE" in told.out
    )
    folder_of_images(tmp_path / "pets")
    assert vitbench("plan", "pooling", "--budget", "smoke").status == 0
    told = vitbench("plan", "pooling", "--budget", "smoke", "--data", "pets")
    assert (told.status, told.err.count("\n")) == (2, 1) and "set VITBENCH_CACHE to a folder" in told.err
