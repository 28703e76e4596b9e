"""Do several verdicts on an arm say the same? The four words for it, defined once."""

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
        """Opposed: better and worse among them. Open: else, if one is not settled. Alike: all the same. Differs: settled,
        but not the same: better or worse here, equivalent there.
        """
        if {Verdict.BETTER, Verdict.WORSE} <= set(verdicts):
            return cls.OPPOSED
        if not all(verdict.is_settled for verdict in verdicts):
            return cls.OPEN
        return cls.ALIKE if len(set(verdicts)) == 1 else cls.DIFFERS
