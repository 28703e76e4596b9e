"""How long do the commands that only plan take to answer?"""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import pytest


@pytest.mark.parametrize("arguments", [["list"], ["plan", "all"]], ids=" ".join)
def test_planning_command(timed, arguments, tmp_path):
    command = [sys.executable, "-m", "vitbench", *arguments]
    if arguments[0] == "plan":
        command += ["--results", str(tmp_path)]
    start = partial(subprocess.run, command, check=True, capture_output=True)
    timed(start, group="start-up of commands", label=f"vitbench {' '.join(arguments)}", min_rounds=7)
