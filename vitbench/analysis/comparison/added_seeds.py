"""By which rule did a comparison get its seeds, and was it fixed before anybody looked?"""

from __future__ import annotations

from collections.abc import Iterator

from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.writing.words import listed
from vitbench.text import agreeing, counted


def about_looks(comparison: Comparison) -> Iterator[str]:
    """Sentences on the rule by which seeds were added, and what of it was not fixed before."""
    if comparison.gave_up_its_looks:
        yield (
            "Seeds were added after looking: they came by a rule, which was then given up for a fixed number, whose test does "
            "not allow for the looks. `--until settled` takes the rule up again."
        )
    elif comparison.seeds_were_added:
        yield (
            "Seeds were added after looking: the number of seeds was raised once runs had ended. A test at a fixed number is "
            "then wrong more often than it says; `--until settled` adds seeds by a rule that is not."
        )
    looks = comparison.design.looks
    if not looks:
        return
    last = max(comparison.reached.values(), default=0)
    taken = [look for look in looks if look <= last]
    so_far = f"so far after {listed(taken)}" if taken else "none of them yet"
    yield (
        f"Seeds are added until arms are settled: verdicts are looked at after {listed(looks)} seeds, {so_far}. "
        "Intervals hold at all looks together."
    )
    others = {record.design.looks for record in comparison.records} - {looks}
    if () in others:
        number = max(record.seed for record in comparison.records if not record.design.looks) + 1
        yield f"The rule was fixed when {counted(number, 'seed')} of a fixed number had been run."
    if changed := sorted(others - {()}):
        rules = " and ".join(f"({', '.join(map(str, other))})" for other in changed)
        yield f"The looks were changed on the way: before, they were {rules}."
    if beyond := comparison.runs_beyond:
        do = agreeing(beyond, "does", "do")
        yield f"{counted(beyond, 'run')} beyond the last look {do} not count yet."
