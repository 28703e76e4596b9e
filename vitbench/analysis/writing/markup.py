"""How does text that others chose stay text in Markdown, LaTeX, CSV and HTML?"""

from __future__ import annotations

import re
from typing import Any

from vitbench.text import printable


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, in a table cell or at the beginning of a line too, and makes no link of."""
    escaped = re.sub(r"([\\`*_|<>\[\]~#&$]|:(?=//)|(?<=www)\.)", r"\\\1", _one_line(text))
    return re.sub(r"^(\d*)([-+.)=])(?= |[-=]*$)", r"\1\\\2", escaped)


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
    return "".join(_LATEX.get(character, character) for character in _one_line(text))


def escape_csv(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: text that begins like one, and is no number, gets an apostrophe."""
    if not isinstance(value, str):
        return value
    text = _one_line(value)
    if not text.startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠")) or _NUMBER.fullmatch(text):
        return text
    return f"'{text}"


_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")


def html_id(*parts: str) -> str:
    """An id of letters, digits, dots and dashes; the same parts give the same."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", "-".join(parts))
