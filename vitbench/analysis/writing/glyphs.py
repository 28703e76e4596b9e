"""How is a name drawn whose letters the figures' font lacks? In another font, else spelled out, with a line on stderr."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import matplotlib as mpl
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text

from vitbench.text import say

Drawn = TypeVar("Drawn")

LONGEST_LINE = 60
"""Letters of a line in which letters are spelled out, each with six or more."""

_FONTS_LOG = logging.getLogger("matplotlib.font_manager")

_lacking: set[str] = set()
"""Letters that the figure that is being drawn has spelled out."""
_reported: list[str] = []
"""Letters that stderr named; once in a process."""


def legibly(draw: Callable[[], Drawn]) -> Drawn:
    """What `draw` gives, with every letter in a font that has it; matplotlib warns of none.

    It is called again where fonts that are installed have what the first lacks. What none has is spelled out (`\\u732b`), with
    a line on stderr once in a process.
    """
    with _spelling():
        drawn = draw()
    if not _lacking:
        return drawn
    if families := _families(frozenset(_lacking)):
        with mpl.rc_context({"font.family": [*mpl.rcParams["font.family"], *families]}), _spelling():
            drawn = draw()
    if _lacking and not _reported:
        _reported.extend(sorted(_lacking))
        some = " ".join(_escaped(letter) for letter in _reported[:5])
        say(
            f"no installed font has {some}{' …' if len(_reported) > 5 else ''}: plots spell such letters out, tables and "
            "numbers.json keep them; install a font that has them, such as Noto Sans CJK"
        )
    return drawn


def spelled(text: str) -> str:
    """The text with every letter that no font has as `\\u732b`; lines that become too long for it are cut."""
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    missing = {letter for letter in text if not _has(letter, tuple(mpl.rcParams["font.family"]))}
    if not missing:
        return text
    _lacking.update(missing)
    lines = ("".join(_escaped(letter) if letter in missing else letter for letter in line) for line in text.split("\n"))
    return "\n".join(line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 1]}…" for line in lines)


def brief(name: str, width: int) -> str:
    """A name of at most `width` letters, Chinese ones counted twice: what is too long is left out of its middle."""
    name = spelled(name)
    if _columns(name) <= width:
        return name
    end, start = "", ""
    for first, last in zip(name, reversed(name), strict=True):
        if _columns(start + first + end) >= width:
            break
        start += first
        if len(end) < width // 3 and _columns(start + last + end) < width:
            end = last + end
    return f"{start}…{end}"


def _columns(text: str) -> int:
    return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text)


def _escaped(letter: str) -> str:
    return letter.encode("ascii", "backslashreplace").decode() if letter > "\x7f" else f"\\x{ord(letter):02x}"


@dataclass
class Letters:
    """Whether the font had every letter of what was drawn; known at the end."""

    all_there: bool = False


@contextmanager
def has_all_letters() -> Iterator[Letters]:
    """For what is drawn in the block. Where not all are there, it is drawn anew, by `legibly`."""
    letters = Letters()
    with _spelling():
        yield letters
        letters.all_there = not _lacking


@contextmanager
def _spelling() -> Iterator[None]:
    """All that is drawn is spelled out where it must be: every text of matplotlib's goes through this one method."""
    _lacking.clear()
    texts: Any = Text
    set_text = texts.set_text

    def set_spelled(self: Text, text: Any) -> None:
        set_text(self, None if text is None else spelled(str(text)))

    level = _FONTS_LOG.level
    texts.set_text = set_spelled
    _FONTS_LOG.setLevel(logging.ERROR)  # that a font has no bold is nobody's concern
    try:
        yield
    finally:
        texts.set_text = set_text
        _FONTS_LOG.setLevel(level)


@lru_cache(maxsize=4096)
def _has(letter: str, families: tuple[str, ...]) -> bool:
    files = (findfont(FontProperties(family=[family])) for family in families)
    return letter.isspace() or any(_drawable(file, frozenset(letter)) for file in files)


@lru_cache(maxsize=64)
def _families(letters: frozenset[str]) -> tuple[str, ...]:
    """Installed fonts that together have as many of these letters as can be had; the fewest, by name where it is open."""
    having: dict[str, set[str]] = {}
    for entry in sorted(fontManager.ttflist, key=lambda entry: (entry.name, entry.style != "normal", entry.fname)):
        if entry.name not in having and not entry.name.startswith("Last Resort"):  # a box for every letter
            having[entry.name] = _drawable(entry.fname, letters)
    chosen, left = [], set(letters)
    while having and (best := max(sorted(having), key=lambda name: len(having[name] & left))):
        if not having[best] & left:
            break
        chosen.append(best)
        left -= having[best]
    return tuple(chosen)


def _drawable(file: Any, letters: frozenset[str]) -> set[str]:
    """The letters of which a font has an outline: pictures, as fonts of emoji have them, are not drawn."""
    drawable = set()
    with suppress(Exception):  # a font that cannot be read has no letters; what FreeType raises is anything
        font = get_font(file)
        for letter in letters:
            if font.get_char_index(ord(letter)):
                font.load_char(ord(letter))
                if len(font.get_path()[0]):
                    drawable.add(letter)
    return drawable
