"""Do our records agree with what the literature says? In direction: published numbers are from other data at other scale."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from math import nan
from typing import NamedTuple

from vitbench.analysis.comparison.published import CLAIMS, BySize, Claim
from vitbench.analysis.comparison.wording import difference_text, verdict_text
from vitbench.analysis.statistics.interactions import Cell
from vitbench.analysis.statistics.verdicts import Decision, Verdict
from vitbench.text import counted


class Judgement(StrEnum):
    AGREES = "agrees"
    DISAGREES = "disagrees"
    OPEN = "open"
    NOT_COMPARABLE = "not comparable"

    @property
    def sentence(self) -> str:
        """Of the paper and of what was found here."""
        return {
            Judgement.AGREES: "Both agree.",
            Judgement.DISAGREES: "They disagree.",
            Judgement.OPEN: "Whether they agree is not known yet.",
            Judgement.NOT_COMPARABLE: "They cannot be compared.",
        }[self]


def judge(claim: Claim, decision: Decision | None) -> Judgement:
    """Whether the verdict on a claim's subject is what the claim expects. The first case that applies, of:

    1. not comparable: the claim says why no study here can tell, or its subject was not run (None).
    2. open: the verdict claims nothing; or another learning rate, beyond the grid, could turn it.
    3. agrees: equivalence is expected and was shown within the margin, significant or not; or better or worse is
       expected and the verdict is that, however small; or 'not better' is expected and the verdict is worse, or
       equivalence was shown within the margin, significant or not.
    4. disagrees: all else. A significant difference not shown within the margin contradicts 'equivalent', one for the
       better 'not better'; equivalence and the opposite sign contradict 'better' and 'worse'.
    """
    if claim.not_comparable or decision is None:
        return Judgement.NOT_COMPARABLE
    if not decision.verdict.is_settled or decision.caveats.edge_may_turn(decision.verdict):
        return Judgement.OPEN
    agrees = {
        "better": decision.verdict is Verdict.BETTER,
        "worse": decision.verdict is Verdict.WORSE,
        "equivalent": decision.within_margin,
        "not better": decision.within_margin or decision.verdict is Verdict.WORSE,
    }[claim.expected]
    return Judgement.AGREES if agrees else Judgement.DISAGREES


class ClaimRow(NamedTuple):
    """A claim, the paper's numbers, ours, and whether they agree."""

    claim: str
    paper: str
    ours: str
    judgement: Judgement


def claim_rows(
    claims: Iterable[Claim],
    arms: Mapping[str, Decision],
    *,
    at_baseline_setting: Mapping[str, Decision] | None = None,
    interactions: Mapping[Cell, Decision] | None = None,
    baseline: str = "",
) -> list[ClaimRow]:
    """The claims beside what a study decided: on arms by name, each at its own setting and at the baseline's, and on
    interactions by levels. `baseline` is the name of its arm.
    """
    rows = []
    for claim in claims:
        by_name = arms if claim.at == "own setting" else at_baseline_setting or {}
        if isinstance(claim.subject, tuple):
            decision = (interactions or {}).get(claim.subject)
        else:
            decision = by_name.get(_arm_name(claim.subject, by_name, baseline))
        paper = f"{claim.paper} ({claim.source})"
        rows.append(ClaimRow(claim.text, paper, _our_result(claim, decision), judge(claim, decision)))
    return rows


def claims_of(study: str) -> list[Claim]:
    """The claims about a study, by its name; none for a study that nobody wrote about."""
    return [claim for claim in CLAIMS if claim.study == study]


def _our_result(claim: Claim, decision: Decision | None) -> str:
    if claim.not_comparable:
        return claim.not_comparable
    if decision is None:
        return "not run"
    if decision.difference is None:
        return "no seed in common with the baseline"
    verdict = verdict_text(decision, edges=decision.caveats.edge_may_turn(decision.verdict))
    return f"{difference_text(decision)} points, {counted(decision.difference.n, 'seed')}: {verdict}"


def _arm_name(subject: str | BySize, names: Iterable[str], baseline: str) -> str:
    """The arm that a subject stands for; empty where it was not run."""
    if isinstance(subject, str):
        return subject
    by_size = _numbers(names, subject.name)
    size = next(iter(_numbers([baseline], subject.baseline)), nan) if subject.baseline else nan
    chosen = {
        "smallest": min(by_size, default=nan),
        "next smaller": max((other for other in by_size if other < size), default=nan),
        "next larger": min((other for other in by_size if other > size), default=nan),
    }[subject.which]
    return by_size.get(chosen, "")


def _numbers(names: Iterable[str], pattern: str) -> dict[float, str]:
    """4 → `4 px` of the names that have a number at the pattern's `#`; 4 × 8 px are no number."""
    named = re.compile(re.escape(pattern).replace(r"\#", r"(\d+(?:\.\d+)?)"))
    return {float(match[1]): name for name in names if (match := named.fullmatch(name))}
