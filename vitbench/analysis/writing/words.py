"""How is a number or a list written for people?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

ABSENT = "–"


def filled(form: str, value: float | None) -> str:
    """The value in its form, as `{:.2f}`; a dash for none."""
    return ABSENT if value is None else form.format(value)


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


def listed(values: Iterable[Any]) -> str:
    """`a, b, c`."""
    return ", ".join(map(str, values))


def seeds_text(seeds: Sequence[int]) -> str:
    """`seed 0`, `seeds 0, 1`."""
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {listed(seeds)}"


def interval_text(middle: float, low: float, high: float, *, digits: str = ".2f") -> str:
    """`1.42 [1.40, 1.45]`."""
    return f"{middle:{digits}} [{low:{digits}}, {high:{digits}}]"
