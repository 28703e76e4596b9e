"""What do several verdicts on one arm come to, on two data sets, at two sizes, or by two metrics?"""

from __future__ import annotations

from enum import StrEnum

from vitbench.analysis.statistics.verdicts import Verdict


class Together(StrEnum):
    ALIKE = "alike"
    OPPOSED = "opposed"
    DIFFERS = "differs"
    OPEN = "open"

    @classmethod
    def of(cls, *verdicts: Verdict) -> Together:
        """Alike: all settled, and the same. Opposed: one better, one worse. Differs: all settled, not the same, as better and
        equivalent are. Open: one is not settled, which contradicts nothing.
        """
        distinct = {*verdicts}
        if distinct >= {Verdict.BETTER, Verdict.WORSE}:
            return cls.OPPOSED
        if not all(verdict.is_settled for verdict in distinct):
            return cls.OPEN
        return cls.ALIKE if len(distinct) == 1 else cls.DIFFERS
