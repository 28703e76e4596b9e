"""What docs/your-own-question.md says is printed: from its own study and commands, run in an empty folder, never typed.

`python -m tests.your_own_question` writes it anew, which takes minutes.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "your-own-question.md"
EDIT = ("block != 1", "block != 2")
_FENCED = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_PRINTED = re.compile(r"(<!-- printed: (?P<what>.*?) -->\n).*?(<!-- end of printed -->)", re.DOTALL)
AFTER_AN_EDIT = "after an edit: "


def study_of(page: str) -> str:
    """The study file that the page has its reader save."""
    (study,) = (code for language, code in _FENCED.findall(page) if language == "python")
    return study


def commands_of(page: str) -> list[str]:
    """Its commands of vitbench, in order."""
    lines = [line for language, code in _FENCED.findall(page) if language == "sh" for line in code.splitlines()]
    return [line for line in lines if line.startswith("vitbench ")]


def walk(page: str, folder: Path, vitbench: Callable[[list[str]], str]) -> dict[str, str]:
    """What each marked block of the page should hold, after all that the page has its reader do in that folder.

    `vitbench` gets the arguments of a command that was started there, and gives what it prints.
    """
    study = folder / "my_study.py"
    study.write_text(study_of(page))
    printed = {command: vitbench(command.split()[1:]) for command in commands_of(page)}
    study.write_text(study_of(page).replace(*EDIT))
    for what in (match["what"] for match in _PRINTED.finditer(page)):
        if what.startswith(AFTER_AN_EDIT):
            printed[what] = vitbench(what.removeprefix(AFTER_AN_EDIT).split()[1:])
    return printed


def printed_on(page: str) -> dict[str, str]:
    """What stands in its marked blocks."""
    return {match["what"]: match[0] for match in _PRINTED.finditer(page)}


def renewed(page: str, printed: dict[str, str]) -> str:
    """The page with these outputs in its marked blocks."""

    def block(match: re.Match[str]) -> str:
        text = "\n".join(line.rstrip() for line in printed[match["what"]].strip("\n").splitlines())
        return f"{match[1]}\n```text\n{text}\n```\n\n{match[3]}"

    return _PRINTED.sub(block, page)


def _called(folder: Path) -> Callable[[list[str]], str]:
    def vitbench(arguments: list[str]) -> str:
        command = [sys.executable, "-m", "vitbench", *arguments]
        return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout

    return vitbench


if __name__ == "__main__":
    text = PAGE.read_text()
    with tempfile.TemporaryDirectory() as temporary:
        PAGE.write_text(renewed(text, walk(text, Path(temporary), _called(Path(temporary)))))
