"""How long do the commands that only plan take to answer?"""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("arguments", [["list"], ["plan", "all"]], ids=" ".join)
def test_planning_command(benchmark, arguments, tmp_path):
    command = [sys.executable, "-m", "vitbench", *arguments]
    if arguments[0] == "plan":
        command += ["--results", str(tmp_path)]
    benchmark.pedantic(subprocess.run, (command,), {"check": True, "capture_output": True}, rounds=7, warmup_rounds=1)
    print(f"\nvitbench {' '.join(arguments)}: median {benchmark.stats['median']:.2f} s")
