"""How is each verdict drawn, in every chart? By colour and by shape, so that either is enough."""

from __future__ import annotations

from dataclasses import dataclass

from vitbench.analysis.statistics.verdicts import Verdict


@dataclass(frozen=True)
class VerdictLook:
    """`is_filled`: of a verdict that claims something of the arm."""

    color: str
    marker: str
    is_filled: bool = True


VERDICT_LOOKS = {
    Verdict.BETTER: VerdictLook("#0072b2", "^"),
    Verdict.WORSE: VerdictLook("#d55e00", "v"),
    Verdict.EQUIVALENT: VerdictLook("#009e73", "s"),
    Verdict.OPEN: VerdictLook("#767676", "o", is_filled=False),
    Verdict.AT_CEILING: VerdictLook("#b86a98", "D", is_filled=False),
    Verdict.AT_FLOOR: VerdictLook("#b86a98", "d", is_filled=False),
    Verdict.NONE: VerdictLook("#767676", "x", is_filled=False),
}
"""Colours of Okabe & Ito 2008 (jfly.uni-koeln.de/color), apart from each other also where red or green is not seen; the purple
is darkened, so that every one is at least 3 : 1 on a white and on a dark page (WCAG 2.1, 1.4.11)."""
