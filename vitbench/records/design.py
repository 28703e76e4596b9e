"""What do tables need of a study besides its numbers: its question, its arms, and in what they differ?"""

from __future__ import annotations

from itertools import product
from typing import Annotated, Any

from pydantic import Field

from vitbench.config.base import SomeConfig
from vitbench.records.stored import Stored


class Design(Stored):
    """The study that a run belongs to, as it was planned: what tables need besides the numbers.

    Fields are as recorded; properties say what follows from them, for plans and tables alike.
    """

    question: str
    source: str
    baseline: str
    """Name of the arm that the others are compared with."""
    arms: tuple[str, ...]
    """Names of all arms, in the study's order, the baseline first."""
    learning_rates: tuple[float, ...]
    """The grid that every arm gets, ascending, with the steps beyond its edges that are planned so far."""
    tuned: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """Values of the other fields that are tuned, ascending; every arm gets every combination with `learning_rates`."""
    tuning_seeds: int | None = None
    """Settings are chosen on the seeds below this; the others run at chosen settings alone. None: on every seed."""
    seeds: int | None = None
    """How many seeds were planned for each arm, of a fixed number. None in older records, and with `looks`."""
    looks: tuple[int, ...] = ()
    """Numbers of seeds at which verdicts are looked at and settled arms stop. Empty where the number of seeds is fixed."""
    match: str = "epochs"
    """What is equal for all arms: `epochs`, `flops` (training FLOPs) or `time` (training time)."""
    epochs: dict[str, float] = Field(default_factory=dict)
    """Epochs of each arm, by name, where `epochs_differ`."""
    fractions: dict[str, float] = Field(default_factory=dict)
    """The share of the training images that each arm, by name, trains on, for as many steps; empty where all train on all."""
    metric: str = "top1"
    """By which arms are judged, a name of `METRICS`: declared before the run. Older records were judged by top-1."""
    factors: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Of a factorial study: the level that each arm, by name, has of each factor."""
    within: tuple[str, ...] = ()
    """Factors whose level is held where arms are compared: see `held_factors`, `compared_with`."""
    starts: dict[str, str] = Field(default_factory=dict)
    """Arm to the arm from whose weights, of the same seed and setting, it went on, its head included."""
    train_images: int | None = None
    """Images of an epoch, without the validation split; fractions are of these. None in older records."""

    changes: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Arm, by name, to the fields of model, recipe and data in which it differs from the base, as JSON values. A class of the
    user's is `NAME@` and 8 hex digits of its source. Epochs and image counts that follow from `match`, `fractions` or `starts`
    are not among them. Empty in older records.
    """
    base: dict[str, Any] = Field(default_factory=dict)
    """The base's values of the fields of recipe and data that `changes` names, as JSON values."""
    learning_rate_scales: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Arm, by name, to the factor by which its learning rates are the grid's; arms that are not in it have the grid's."""

    @property
    def tuned_fields(self) -> tuple[str, ...]:
        """The learning rate, then the other fields that are tuned."""
        return ("learning_rate", *self.tuned)

    @property
    def settings(self) -> tuple[tuple[float, ...], ...]:
        """The grid: every combination of values of the `tuned_fields`, ascending."""
        return tuple(product(self.learning_rates, *self.tuned.values()))

    def settings_of(self, arm: str) -> tuple[tuple[float, ...], ...]:
        """The grid as an arm has it, ascending."""
        return tuple(self.to_arm(arm, setting) for setting in self.settings)

    def to_arm(self, arm: str, setting: tuple[float, ...]) -> tuple[float, ...]:
        """A setting of the grid as an arm has it: its learning rate times the arm's scale, to six significant digits."""
        scale = self.learning_rate_scales.get(arm, 1.0)
        return setting if scale == 1 else (_digits(setting[0] * scale, 6), *setting[1:])

    def to_grid(self, arm: str, setting: tuple[float, ...]) -> tuple[float, ...]:
        """The inverse of `to_arm`, exact for the grid's learning rates and for all of up to four significant digits."""
        scale = self.learning_rate_scales.get(arm, 1.0)
        if scale == 1:
            return setting
        rate = setting[0]
        candidates = (*self.learning_rates, *(_digits(rate / scale, digits) for digits in (4, 6, 8)))
        return next((c for c in candidates if self.to_arm(arm, (c,)) == (rate,)), rate / scale), *setting[1:]

    def base_of(self, arm: str, config: SomeConfig) -> SomeConfig:
        """A part of an arm's configuration as the base has it: with what the arm changes undone."""
        changed = self.changes.get(arm, {}).keys() & type(config).model_fields.keys()
        return config.model_copy(update={name: _hashable(self.base[name]) for name in changed & self.base.keys()})

    @property
    def noun(self) -> str:
        """What an arm has one of: its learning rate, or with other fields tuned too, its setting."""
        return "setting" if self.tuned else "learning rate"

    @property
    def short_noun(self) -> str:
        return "setting" if self.tuned else "rate"

    @property
    def epochs_differ(self) -> bool:
        """Whether arms train for epochs of their own."""
        return self.epochs_are_planned or any("epochs" in of_arm for of_arm in self.changes.values())

    @property
    def epochs_are_planned(self) -> bool:
        """Whether the plan gives arms epochs of their own, which are no change that an arm makes."""
        return self.match != "epochs" or self.images_differ or self.has_starts

    @property
    def images_differ(self) -> bool:
        """Whether arms train on fractions of the training images."""
        return bool(self.fractions)

    @property
    def has_starts(self) -> bool:
        """Whether arms start from the weights of others."""
        return bool(self.starts)

    @property
    def image_sizes_differ(self) -> bool:
        """Whether arms may have other image sizes, and so other hashes of the same images."""
        return self.has_starts or any("image_size" in of_arm for of_arm in self.changes.values())

    @property
    def precisions_differ(self) -> bool:
        """Whether arms compute in other precisions, or are compiled or not, and so run on other kernels."""
        return any({"precision", "compile"} & {*of_arm} for of_arm in self.changes.values())

    @property
    def held_factors(self) -> tuple[str, ...]:
        """Factors whose level is held where arms are compared: `within`, or where arms train on fractions, the images."""
        return ("images",) if self.images_differ else self.within

    @property
    def kind(self) -> tuple[object, ...]:
        """Plans of another kind are compared apart, even where they share runs."""
        epochs = self.epochs.get(self.baseline) if self.epochs_are_planned else None
        return self.match, tuple(sorted(self.tuned)), epochs, self.images_differ, self.has_starts

    @property
    def compared_arms(self) -> tuple[str, ...]:
        """The arms that are compared with another, in the study's order."""
        return tuple(arm for arm in self.arms if self.compared_with(arm) != arm)

    def compared_with(self, arm: str) -> str:
        """The baseline; or with held factors, the arm of its level of these and the baseline's of all others.

        An arm may be its own, and is where none has these levels. Raises KeyError for an arm without levels.
        """
        if not self.held_factors:
            return self.baseline
        held = {name: self.factors[arm][name] for name in self.held_factors}
        wanted = {**self.factors[self.baseline], **held}
        return next((name for name, levels in self.factors.items() if levels == wanted), arm)

    def chosen_with(self, arm: str) -> str:
        """Whose choice of a setting an arm takes: its own, or where it trains nothing, that of the arm it goes on from."""
        return self.chosen_with(self.starts[arm]) if arm in self.starts and self.epochs.get(arm) == 0 else arm


def _hashable(value: Any) -> Any:
    """JSON's lists as tuples, as configurations have them."""
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


def _digits(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")
