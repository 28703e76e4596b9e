"""By which rule did a comparison get its seeds, and was it fixed before anybody looked?"""

from __future__ import annotations

from collections.abc import Iterator

from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.writing.words import listed
from vitbench.text import agreeing, counted


def seeds_were_added(comparison: Comparison) -> bool:
    """Whether the number of seeds was fixed, and raised once the runs of the first plan had ended.

    Whoever looked at them could go on until they liked what they saw.
    """
    records = comparison.records
    if comparison.design.looks:
        return False
    if _rule_was_given_up(comparison):
        return True
    of_old_records = 1 + max((record.seed for record in records if record.design.seeds is None), default=-1)
    for planned in {record.design.seeds or of_old_records for record in records}:
        ends = [record.finished for record in records if (record.design.seeds or of_old_records) == planned]
        starts = [r.started for r in records if r.seed >= planned and (r.design.seeds or 0) > planned]
        if ends and starts and min(starts) > max(ends):
            return True
    return False


def _rule_was_given_up(comparison: Comparison) -> bool:
    return not comparison.design.looks and any(record.design.looks for record in comparison.records)


def about_looks(comparison: Comparison) -> Iterator[str]:
    """Sentences on the rule by which seeds were added, and what of it was not fixed before."""
    if _rule_was_given_up(comparison):
        yield (
            "Seeds were added after looking: they came by a rule, which was then given up for a fixed number, whose test does "
            "not allow for the looks. `--until settled` takes the rule up again."
        )
    elif seeds_were_added(comparison):
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
        yield f"The rule was fixed when {number} seeds of a fixed number had been run."
    if changed := sorted(others - {()}):
        rules = " and ".join(f"({', '.join(map(str, other))})" for other in changed)
        yield f"The looks were changed on the way: before, they were {rules}."
    if beyond := comparison.runs_beyond:
        do = agreeing(beyond, "does", "do")
        yield f"{counted(beyond, 'run')} beyond the last look {do} not count yet."
