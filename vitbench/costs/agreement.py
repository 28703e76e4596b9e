"""Do several counts of one model agree? If not: in which part, and what is each count? Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping

from vitbench.costs.counts import Counts

TOLERANCE = 0.005
"""MACs and activations may differ by this share. Parameters must be equal."""


class CountMismatchError(RuntimeError):
    """Counters of one model disagree: an error in this package or in a counter, not one of the user."""


def check_agreement(counts: Mapping[str, Mapping[str, Counts]]) -> float:
    """The largest relative difference between counters of MACs or activations in any part.

    `counts` are by counter and part; a part that a counter leaves out counts as empty. Raises CountMismatchError, with the
    part and every counter's number, where parameters differ at all or others by more than `TOLERANCE`.
    """
    largest = 0.0
    for part in dict.fromkeys(part for parts in counts.values() for part in parts):
        for quantity, tolerance in (("params", 0.0), ("macs", TOLERANCE), ("activations", TOLERANCE)):
            numbers = {counter: getattr(parts.get(part, Counts()), quantity) for counter, parts in counts.items()}
            spread = max(numbers.values()) - min(numbers.values())
            difference = spread / max(map(abs, numbers.values())) if spread else 0.0
            if difference > tolerance:
                each = ", ".join(f"{number:,} by {counter}" for counter, number in numbers.items())
                raise CountMismatchError(f"counts of {part} disagree: {quantity} are {each}")
            largest = max(largest, difference)
    return largest
