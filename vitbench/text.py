"""How do words stand in a line? Plurals, errors, and foreign text made safe to print."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches

_JOINERS = "\u200c\u200d"
"""Zero-width, but part of how some scripts are written."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 run`, `2 runs`; `plural` where it is not the noun with an s: `2 processes`."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"


def did_you_mean(name: str, names: Iterable[str], otherwise: str) -> str:
    """`did you mean pool?`, for the nearest of the names; `otherwise` where none is near."""
    close = get_close_matches(name, list(names), n=1)
    return f"did you mean {close[0]}?" if close else otherwise


def error_with_type(error: BaseException) -> str:
    """`ValueError: what it says`, in one line of at most 300 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def say(line: str) -> None:
    """A line on stderr: what is waited for, or what a reader of the answer should know."""
    print(f"vitbench: {printable(' '.join(line.split()))}", file=sys.stderr, flush=True)


def agreeing(number: int, singular: str, plural: str) -> str:
    """The form of a word that goes with the number: `agreeing(2, "is", "are")` is `are`."""
    return singular if number == 1 else plural


def printable(text: str) -> str:
    """Text that others chose, so that it only stands there: no character of it moves the cursor, colours what follows or turns
    the reading direction. Line breaks and tabs become spaces, other such characters are written out as `\\x1b`.
    """
    if text.isprintable():
        return text
    return "".join(map(_printable_character, text))


def _printable_character(character: str) -> str:
    if character in "\n\r\t":
        return " "
    if character in _JOINERS or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return character
    return character.encode("unicode_escape", "surrogatepass").decode()


def duration(seconds: float) -> str:
    """1 h 05 min, 4 min 30 s, 12 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def size_in_bytes(amount: float) -> str:
    """`1.2 GiB`, `34.5 MiB`, `6.78 KiB`."""
    for factor, unit in ((2**30, "GiB"), (2**20, "MiB")):
        if amount >= factor:
            return f"{amount / factor:.3g} {unit}"
    return f"{amount / 2**10:.3g} KiB"
