"""At how many seeds is a study looked at that adds them until its arms are settled, and what is asked of whoever looks?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from vitbench.config import MOST_SEEDS

LOOKS = (5, 8, 12, 18, 27, 40)
"""Seeds: each about half as many again, as fewer would come to the same."""
SETTLED = "settled"


@dataclass(frozen=True)
class LookedAt:
    """What the records of one study on one data set come to, by the names of its arms."""

    look: int
    """The latest that is over, in seeds; 0 before the first."""
    wanted: Mapping[str, int]
    """How many seeds each arm that is compared is to have by now."""
    open: Mapping[str, float | None]
    """Arms that may want more, to the seeds that they will have in the end, were what their seeds show the truth; None before
    the first look."""
    verdicts: Mapping[str, str] = field(default_factory=dict)
    """Of the arms that are compared, at their looks."""

    def sentence(self, study: str, dataset: str) -> str:
        """`pooling on digits after 8 seeds. Better: gap. Worse: map. Open, to 12 seeds: mean_all`; arms may have commas."""
        where = f"{study} on {dataset}"
        if not self.look:
            return f"{where} is first looked at after {max(self.wanted.values(), default=0)} seeds"
        by_verdict: dict[str, list[str]] = {}
        for arm, verdict in self.verdicts.items():
            if arm not in self.open:
                is_open = verdict.startswith("open")
                by_verdict.setdefault("open at the last look" if is_open else verdict, []).append(arm)
        if self.open:
            by_verdict[f"open, to {max(self.wanted[arm] for arm in self.open)} seeds"] = [*self.open]
        parts = [f"{verdict.capitalize()}: {'; '.join(arms)}" for verdict, arms in by_verdict.items()]
        return ". ".join([f"{where} after {self.look} seeds", *parts])


Until = Literal["settled"] | tuple[int, ...] | None
"""A rule for stopping: the usual looks, or others; None where the number of seeds is fixed."""


FEWEST = 3
"""Seeds of a verdict."""


def check_until(value: Any) -> Until:
    """Of a study: `settled`, or the looks themselves. Raises ValueError for anything else."""
    if value is None:
        return None
    if value == SETTLED:
        return "settled"
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    if not is_list or not value or any(type(look) is not int for look in value) or [*value] != sorted({*value}):
        raise ValueError(f"{value!r} is no rule; give 'settled', or ascending numbers of seeds: (5, 8, 12)")
    if value[0] < FEWEST:
        raise ValueError(f"the first look, at {value[0]} seeds, is too early for a verdict; give {FEWEST} or more")
    if value[-1] > MOST_SEEDS:
        raise ValueError(f"the last look, at {value[-1]} seeds, is too late; give {MOST_SEEDS} or fewer")
    return tuple(value)


def parse_until(text: str) -> Until:
    """`settled`, or `5,8,12`. Raises ValueError for anything else."""
    try:
        return check_until(text if text == SETTLED else [int(look) for look in text.split(",")])
    except ValueError as error:
        rule = str(error) if error.args and "look" in str(error) else f"{text!r} is no rule; give settled, or 5,8,12"
        raise ValueError(f"until: {rule}") from error


def looks_of(until: Until, *, seeds: int | None = None, max_seeds: int | None = None) -> tuple[int, ...]:
    """Of a rule, to `max_seeds`; empty for a fixed number of seeds. Raises ValueError for what contradicts itself."""
    if until is None:
        if max_seeds is not None:
            raise ValueError(f"max_seeds {max_seeds} is for --until settled; give --seeds for a fixed number")
        return ()
    if seeds is not None:
        raise ValueError(f"seeds {seeds} does not go with --until, whose looks decide; give --max-seeds")
    looks = LOOKS if isinstance(until, str) else until
    if max_seeds is None:
        return looks
    if max_seeds < looks[0]:
        raise ValueError(f"max_seeds {max_seeds} is less than the first look, {looks[0]} seeds; give more")
    return (*(look for look in looks if look < max_seeds), max_seeds)
