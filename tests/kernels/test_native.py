"""What happens where native operators cannot be compiled or loaded, and how are they asked for?"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vitbench.kernels import native
from vitbench.machine import cache_directory

needs_native = pytest.mark.skipif(native.state()[0] is None, reason=f"no native operators: {native.state()[1]}")


def reason_of(environment: dict[str, str]) -> str:
    program = "from vitbench.kernels import native; print(native.describe())"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.strip()


def test_a_machine_without_compiler_says_so_and_computes_with_torch(tmp_path):
    environment = {"PATH": str(tmp_path), "VITBENCH_CACHE": str(tmp_path), "HOME": str(tmp_path)}
    assert reason_of(environment).startswith("torch: ")
    assert native.state()[0] is None or "no C++ compiler" in reason_of(environment)


def test_a_compiler_that_fails_is_quoted(tmp_path):
    compiler = tmp_path / "g++"
    script = (
        "#!/bin/sh\n[ \"$1\" = --version ] && exit 0\necho 'a warning' >&2; echo 'error: no such option' >&2; exit 1\n"
    )
    compiler.write_text(script)
    compiler.chmod(0o755)
    reason = reason_of({"PATH": f"{tmp_path}:/bin:/usr/bin", "VITBENCH_CACHE": str(tmp_path), "HOME": str(tmp_path)})
    assert native.state()[0] is None or reason == "torch: error: no such option"


def test_they_can_be_switched_off():
    assert reason_of({**os.environ, native.SWITCH: "torch"}) == f"torch: {native.SWITCH}=torch"


def test_what_is_asked_for_is_auto_native_or_torch_and_nothing_else(monkeypatch):
    monkeypatch.delenv(native.SWITCH, raising=False)
    assert native.asked() == "auto"
    for name, meant in {"": "auto", "auto": "auto", "native": "native", "torch": "torch"}.items():
        monkeypatch.setenv(native.SWITCH, name)
        assert native.asked() == meant
    monkeypatch.setenv(native.SWITCH, "Native")
    with pytest.raises(ValueError, match=r"VITBENCH_KERNELS 'Native' is not known; set it to native, torch or auto"):
        native.asked()


def test_native_operators_that_cannot_be_had_are_refused_with_the_reason(monkeypatch):
    monkeypatch.setattr(native, "state", lambda: (None, "no C++ compiler found (install g++)"))
    monkeypatch.setenv(native.SWITCH, "native")
    with pytest.raises(
        ValueError, match=r"VITBENCH_KERNELS=native cannot be had: no C\+\+ compiler found .*; unset it"
    ):
        native.check_asked()
    monkeypatch.setenv(native.SWITCH, "auto")
    native.check_asked()


COMPILER = """#!/bin/sh
[ "$1" = --version ] && { echo made up 1.0; exit; }
echo compiled >> "$LOG"
while [ "$1" != -o ]; do shift; done
rm "$2"; head -c 9000 /dev/zero > "$2"
"""


@pytest.fixture
def made_up_compiler(tmp_path, monkeypatch):
    """Compiles anything to 9,000 zeros; gives how often it did."""
    (tmp_path / "c++").write_text(COMPILER)
    (tmp_path / "c++").chmod(0o755)
    (tmp_path / "log").touch()
    monkeypatch.setenv("CXX", str(tmp_path / "c++"))
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))
    return lambda: len((tmp_path / "log").read_text().splitlines())


@pytest.mark.skipif(
    sys.platform == "win32", reason="native operators are for Linux, and the compiler is a shell script"
)
@pytest.mark.parametrize(
    "damage",
    [
        lambda library: os.truncate(library, 4096),
        lambda library: os.truncate(library, 0),
        lambda library: library.write_bytes(library.read_bytes()[:-1] + b"\1"),
        lambda library: library.unlink(),
        lambda library: library.with_suffix(".sha256").unlink(),
        lambda library: library.with_suffix(".sha256").write_bytes(b"\xff"),
    ],
    ids=["truncated", "empty", "flipped", "gone", "without digest", "with a damaged digest"],
)
def test_a_damaged_library_is_compiled_again_and_a_whole_one_is_not(made_up_compiler, damage):
    library = native._build()
    assert library.parent == cache_directory() / "kernels"
    assert native._build() == library and made_up_compiler() == 1
    damage(library)
    assert native._build() == library and made_up_compiler() == 2
    assert library.read_bytes() == bytes(9000)
    assert native._build() == library and made_up_compiler() == 2
    assert {path.suffix for path in library.parent.iterdir()} <= {".so", ".sha256", ".lock"}


@needs_native
def test_a_truncated_library_is_no_crash_of_the_process_that_loads_it(tmp_path):
    library = Path(native.state()[0]._name)
    (tmp_path / "kernels").mkdir()
    for path in (library, library.with_suffix(".sha256")):
        shutil.copy(path, tmp_path / "kernels")
    os.truncate(tmp_path / "kernels" / library.name, 4096)
    # Without a compiler's time: it fails, and torch's own operators are what is left.
    program = (
        "import subprocess; from vitbench.kernels import native; run = subprocess.run\n"
        "def refuse(command, **options):\n"
        "    if '-o' in command: raise OSError('no compiler here')\n"
        "    return run(command, **options)\n"
        "subprocess.run = refuse\n"
        "print(native.describe())"
    )
    environment = {**os.environ, "VITBENCH_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "torch: no compiler here\n")
