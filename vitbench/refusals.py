"""How is a refusal told? In one line with field, value and remedy."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError

from vitbench.text import printable

LONGEST_VALUE = 120
"""Letters of a refused value that are shown."""
LONGEST_LINE = 600
"""Letters of a refusal; the middle of a longer one is left out."""
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+(?=>)")
"""In `<Foo object at 0x7f…>`: it changes from process to process, and helps nobody."""
_BRANCH = re.compile(r"(constrained-)?(int|str)|(tuple|literal)\[.*|ViTConfig|TimmConfig|ModuleConfig")

TRACEBACK = "VITBENCH_TRACEBACK"
"""Set in the environment, errors keep their traceback."""


def one_line(error: ValueError) -> str:
    """The first complaint of a ValueError or pydantic ValidationError as one line: field, value, remedy."""
    line = printable(_ADDRESS.sub("", _complaint(error)))
    if len(line) <= LONGEST_LINE:
        return line
    end = LONGEST_LINE // 3  # where the remedy is
    return f"{line[: LONGEST_LINE - end - 3]} … {line[-end:]}"


def _complaint(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return " ".join(str(error).split())
    complaints = error.errors()
    # Of the branches of a union, report the one that got furthest: the one that the value was meant for.
    same_field = [c for c in complaints if _field(c["loc"]) == _field(complaints[0]["loc"])]
    first = max(same_field, key=lambda c: (len(c["loc"]), c["type"] == "too_long"))
    message = without_prefix(str(first["msg"]))
    where = _field(first["loc"])
    if first["type"].startswith("missing"):  # its input is all that was given instead
        if not isinstance(first["loc"][-1], int):
            return f"{where} is missing; give one"
        message = f"It has too few values; give {'one number or two' if len(same_field) > 1 else 'two numbers'}"
    return f"{where} {shortened(first['input'])}: {message}" if where else message


def without_prefix(message: str) -> str:
    """What a ValueError of ours or of typer's says, without pydantic's words for that it is one."""
    return message.removeprefix("Value error, ")


def shortened(value: Any) -> str:
    """A value as in Python, up to LONGEST_VALUE letters."""
    text = _ADDRESS.sub("", repr(value))
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"


def _field(location: tuple[int | str, ...]) -> str:
    """The name of the field, without what pydantic adds: indices, and the branch of a union ("constrained-int")."""
    return ".".join(part for part in location if isinstance(part, str) and not _BRANCH.fullmatch(part))
