"""What is said of a call's waves of runs, in lines."""

from __future__ import annotations

from collections.abc import Iterable

from vitbench.execution.pretraining import Wave
from vitbench.execution.standing import Standing
from vitbench.text import agreeing, counted, printable


def print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(printable(line), flush=True)


def about_wave(standing: Standing, wave: Wave) -> list[str]:
    lines = []
    if standing.later is not None:
        most = standing.later.runs
        likely = f"; by the mean and spread so far, expect {standing.expected.runs}" if standing.expected else ""
        lines.append(f"then at most {counted(most, 'more run', 'more runs')}: results decide how many{likely}")
    if kept := len(wave.kept):
        lines.append(f"{kept} of them {agreeing(kept, 'comes', 'come')} before others, which go on from their weights")
    if again := len(wave.again):
        are, their, run = agreeing(again, "is", "are"), agreeing(again, "its", "their"), agreeing(again, "runs", "run")
        lines.append(f"{again} of these {are} recorded without {their} weights, and {run} again for them")
    return lines


def about_other_studies(ready: int, left: int, distinct: int) -> list[str]:
    lines = []
    if shared := left - distinct:
        are, is_once = agreeing(shared, "is a run", "are runs"), agreeing(shared, "is", "are")
        lines.append(f"{shared} of them {are} of another study too, and {is_once} trained once")
    if taken := ready - left:
        lines.append(f"{taken} of them {agreeing(taken, 'is', 'are')} taken over from the records of another study")
    return lines
