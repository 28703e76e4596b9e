"""How a number and a text are written for people: in Markdown, in LaTeX, with three significant digits."""

from __future__ import annotations

import math
import re

ABSENT = "–"


def significant(value: float | None) -> str:
    """Three significant digits, none lost before the decimal point: 17.6, 0.00312, 1,234."""
    if value is None:
        return ABSENT
    decimals = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{max(0, decimals)}f}"


def count_text(count: int) -> str:
    """86.6M, 201k, 950."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{significant(count / size)}{unit}"
    return str(count) if count else ABSENT


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, in a table cell too."""
    return re.sub(r"([\\`*_|<>\[\]~#])", r"\\\1", " ".join(text.split()))


_LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": "$-$",
    "–": "--",
    "→": r"$\to$",
    # A bracket after a line break would be read as that command's argument.
    "[": "{[}",
    "]": "{]}",
}


def escape_latex(text: str) -> str:
    """Text that LaTeX sets as it is."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))
