"""What a study is: a question, its source, a baseline arm, the other arms, and how finely each is tuned."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from vitbench.config import ViTConfig, one_line


class Arm:
    """One setting of the factors under study, as a difference from the base variant: `Arm("gap", pool="gap")`."""

    def __init__(self, name: str, **changes: Any) -> None:
        self.name = name
        self.changes = changes

    def apply(self, base: ViTConfig) -> ViTConfig:
        """The arm's model. Raises ValueError, naming the arm, where the difference has no meaning on this base."""
        try:
            return base.replace(**self.changes)
        except ValueError as error:
            raise ValueError(f"arm {self.name!r}: {one_line(error)}") from error

    def __repr__(self) -> str:
        return f"Arm({', '.join([repr(self.name), *(f'{k}={v!r}' for k, v in self.changes.items())])})"


Arms = Sequence[Arm] | Callable[[ViTConfig], Sequence[Arm]]
Baseline = Arm | Callable[[ViTConfig], Arm]


@dataclass(frozen=True)
class Study:
    """`baseline` and `arms` may be functions of the base variant, where what they are depends on the image.

    `tuning`: `grid` gives every arm the budget's grid of learning rates; `short`, the budget's short one.
    `name` may stay empty in a user's file: the file's name is taken.
    """

    question: str
    source: str
    baseline: Baseline
    arms: Arms
    tuning: Literal["grid", "short"] = "short"
    name: str = field(default="")
    tune: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Numeric fields that are tuned with the learning rate, in every combination: `{"weight_decay": (0.01, 0.1)}`."""
    factors: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Of a factorial study: arm name to the level that it has of each factor, `{"none, gap": {"position": "none", …}}`."""

    def all_arms(self, base: ViTConfig) -> list[Arm]:
        """The baseline, then the others. Raises ValueError for two arms of one name, and factors that do not fit the arms."""
        baseline = self.baseline(base) if callable(self.baseline) else self.baseline
        arms = [baseline, *(self.arms(base) if callable(self.arms) else self.arms)]
        names = [arm.name for arm in arms]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"study {self.name!r} has two arms named {name!r}; rename one")
        self._check_factors(names)
        return arms

    def _check_factors(self, names: Sequence[str]) -> None:
        if not self.factors:
            return
        if set(self.factors) != set(names):
            odd = sorted(set(self.factors) ^ set(names))[0]
            raise ValueError(
                f"study {self.name!r} has factors or an arm {odd!r}, but not both; give each arm its levels"
            )
        expected = set(self.factors[names[0]])
        for name in names:
            if set(self.factors[name]) != expected:
                raise ValueError(
                    f"study {self.name!r}: arm {name!r} has levels of {sorted(self.factors[name])}, the baseline of "
                    f"{sorted(expected)}; give every arm a level of each factor"
                )


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""Study names become file names."""
