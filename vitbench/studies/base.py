"""What a study is: a question, its source, a baseline arm, the other arms, and how finely each is tuned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from vitbench.config import ModelConfig, TimmConfig, ViTConfig, one_line


class Arm:
    """One setting of the factors under study, as a difference from the base variant: `Arm("gap", pool="gap")`.

    With `timm`, another model in its place, for the same images: `Arm("ResNet-18", timm="resnet18")`, with `options` as
    `config.TimmConfig` takes them. `fraction`: the share of the training images that it trains on, for as many steps.
    `start`: the arm, named before it, from whose weights of the same seed and setting it goes on, head included; `epochs`:
    for how many times the recipe's epochs, 0 to be evaluated as it is. `levels`: what it has of each factor.
    """

    def __init__(
        self,
        name: str,
        *,
        timm: str | None = None,
        options: Mapping[str, Any] | None = None,
        fraction: float = 1.0,
        start: str = "",
        epochs: float = 1.0,
        levels: Mapping[str, str] | None = None,
        **changes: Any,
    ) -> None:
        self.name = name
        self.timm = timm
        self.options = dict(options or {})
        self.fraction = fraction
        self.start = start
        self.epochs = epochs
        self.levels = dict(levels or {})
        self.changes = changes

    def apply(self, base: ViTConfig) -> ModelConfig:
        """The arm's model. Raises ValueError, naming the arm, where the difference has no meaning on this base."""
        try:
            if self.timm is None:
                return base.replace(**self.changes)
            shape = {name: getattr(base, name) for name in ("image_size", "in_channels", "num_classes")}
            return TimmConfig(timm=self.timm, options=self.options, **(shape | self.changes))
        except ValueError as error:
            raise ValueError(f"arm {self.name!r}: {one_line(error)}") from error

    def on(self, fraction: float) -> Arm:
        """The same arm on a share of the training images."""
        name = f"{self.name}, {percent(fraction)}"
        return Arm(name, timm=self.timm, options=self.options, fraction=fraction, **self.changes)

    def __repr__(self) -> str:
        unsaid: dict[str, Any] = {
            "timm": None,
            "options": {},
            "fraction": 1.0,
            "start": "",
            "epochs": 1.0,
            "levels": {},
        }
        said = {name: getattr(self, name) for name in unsaid}
        own = {name: value for name, value in said.items() if value != unsaid[name]}
        return f"Arm({', '.join([repr(self.name), *(f'{k}={v!r}' for k, v in (own | self.changes).items())])})"


def percent(fraction: float) -> str:
    """10 %, 3.16 %."""
    return f"{100 * fraction:.3g} %"


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

    within: Sequence[str] = ()
    """Factors whose level is held: an arm is compared with the one of the baseline's level of all others, and of its own of
    these. Without, with the baseline.
    """

    left_out: Callable[[ViTConfig], Sequence[str]] | None = None
    """Sentences on what `arms` leaves out on a base variant, where that depends on it."""
    fractions: Sequence[float] = ()
    """Shares of the training images, the largest first: every arm on each of them, for as many steps. Without, on all."""
    train: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the recipe in which this study differs from its budget: `{"optimizer": "adamw"}`."""

    def all_arms(self, base: ViTConfig) -> list[Arm]:
        """The baseline, then the others; where there are fractions, each on the largest first.

        Raises ValueError for two arms of one name, and factors that do not fit the arms.
        """
        baseline = self.baseline(base) if callable(self.baseline) else self.baseline
        arms = [baseline, *(self.arms(base) if callable(self.arms) else self.arms)]
        self._check_starts(arms)
        if self.fractions:
            arms = [arm.on(fraction) for fraction in self.fractions for arm in arms]
        names = [arm.name for arm in arms]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"study {self.name!r} has two arms named {name!r}; rename one")
        self._check_factors(arms)
        return arms

    def levels(self, arms: Sequence[Arm]) -> dict[str, dict[str, str]]:
        """The level that each of these arms has of each factor; on fractions, `model` and `images` are the factors."""
        if not self.fractions:
            found = {arm.name: arm.levels or dict(self.factors.get(arm.name, {})) for arm in arms}
            return {name: levels for name, levels in found.items() if levels}
        return {
            arm.name: {"model": arm.name.removesuffix(f", {percent(arm.fraction)}"), "images": percent(arm.fraction)}
            for arm in arms
        }

    def _check_starts(self, arms: Sequence[Arm]) -> None:
        before: set[str] = set()
        for arm in arms:
            if arm.start and self.fractions:
                raise ValueError(f"study {self.name!r}: arm {arm.name!r} has a start, which fractions do not go with")
            if arm.start and arm.start not in before:
                raise ValueError(
                    f"study {self.name!r}: arm {arm.name!r} starts from {arm.start!r}, which is no arm before it"
                )
            if arm.epochs < 0 or (arm.epochs != 1 and not arm.start):
                raise ValueError(
                    f"study {self.name!r}: arm {arm.name!r} has epochs {arm.epochs:g}, which is for arms that go on from "
                    "others, and 0 or more; give it a start or leave it out"
                )
            before.add(arm.name)

    def _check_factors(self, arms: Sequence[Arm]) -> None:
        levels, names = self.levels(arms), [arm.name for arm in arms]
        named = {*self.factors, *levels}
        if not named and self.within:
            raise ValueError(
                f"study {self.name!r} compares within {self.within[0]!r}, but has no factors; give arms their levels"
            )
        if not named:
            return
        if named != set(names):
            odd = sorted(named ^ set(names))[0]
            raise ValueError(
                f"study {self.name!r} has factors or an arm {odd!r}, but not both; give each arm its levels"
            )
        expected = set(levels[names[0]])
        for name in names:
            if set(levels[name]) != expected:
                raise ValueError(
                    f"study {self.name!r}: arm {name!r} has levels of {sorted(levels[name])}, the baseline of "
                    f"{sorted(expected)}; give every arm a level of each factor"
                )
        self._check_within([levels[name] for name in names])

    def _check_within(self, levels: Sequence[Mapping[str, str]]) -> None:
        if odd := [name for name in self.within if name not in levels[0]]:
            raise ValueError(f"study {self.name!r} compares within {odd[0]!r}, which is none of its factors")
        for own in levels if self.within else ():
            wanted = {**levels[0], **{name: own[name] for name in self.within}}
            if wanted not in levels:
                raise ValueError(
                    f"study {self.name!r} has no arm with levels {wanted}, with which others are to be compared; add it"
                )
