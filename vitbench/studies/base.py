"""What a study is: a question, its source, a baseline arm, the other arms, and how finely each is tuned."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import field
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    Strict,
    model_validator,
)
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs

from vitbench.config import DataConfig, ModelConfig, TimmConfig, TrainConfig, ViTConfig, one_line, shortened
from vitbench.records.schema import STUDY_NAME
from vitbench.signals import Ended
from vitbench.studies.blame import blamed
from vitbench.studies.kinds import check_kind
from vitbench.studies.tunable import check_tuned

LONGEST = 100
"""Letters of an arm's name, which stands in tables and plots."""


def _line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("write it on one line, in printable characters")
    return text


def _label(text: str) -> str:
    if not (text.isprintable() and text == text.strip() and 0 < len(text) <= LONGEST):
        raise ValueError(f"give a name of 1 to {LONGEST} printable characters, on one line, without spaces at its ends")
    return text


def _name(text: str) -> str:
    if text and STUDY_NAME.fullmatch(text) is None:
        raise ValueError("use at most 100 letters, digits, - and _, or leave it out for the file's name")
    return text


Text = Annotated[str, Strict()]
Line = Annotated[Text, AfterValidator(_line)]
Label = Annotated[Text, AfterValidator(_label)]
Number = Annotated[float, Strict()]
Share = Annotated[Number, Field(gt=0, le=1)]


class Arm(BaseModel):
    """One setting of the factors under study, as a difference from the base variant: `Arm("gap", pool="gap")`.

    With `timm`, another model in its place, for the same images: `Arm("ResNet-18", timm="resnet18")`, with `options` as
    `config.TimmConfig` takes them. Raises ValueError for a field that is unknown, or of no meaning on any base.
    """

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    name: Label
    timm: str | None = None
    options: dict[str, Any] = {}
    fraction: Share = 1.0
    """The share of the training images that it trains on, for as many steps."""
    start: str = ""
    """The arm, named before it, from whose weights of the same seed and setting it goes on, head included."""
    epochs: float = 1.0
    """For how many times the recipe's epochs it goes on; 0 to be evaluated as it is."""
    levels: dict[str, str] = {}
    """What it has of each factor."""
    changes: dict[str, Any] = {}
    """Fields of the model in which it differs from the base; given by their names, as in `pool="gap"`."""

    def __init__(self, name: str, **fields: Any) -> None:
        own = {key: value for key, value in fields.items() if key in type(self).model_fields and key != "changes"}
        changes = {key: value for key, value in fields.items() if key not in own}
        try:
            for key in changes:
                model = TimmConfig if fields.get("timm") is not None else ViTConfig
                _check_change(key, model)
                check_kind(key, changes[key], model)
            super().__init__(name=name, changes=changes, **own)
            if self.options and self.timm is None:
                raise ValueError(
                    f"options {self.options} are for a model of timm; give its name as timm, or leave them out"
                )
        except ValueError as error:
            raise ValueError(f"arm {shortened(name)}: {one_line(error)}") from error

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        yield None, self.name
        for key, info in type(self).model_fields.items():
            if key not in ("name", "changes") and getattr(self, key) != info.default:
                yield key, getattr(self, key)
        yield from self.changes.items()

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
        return self.model_copy(update={"name": name, "fraction": fraction, "start": "", "epochs": 1.0, "levels": {}})


def _check_change(name: str, model: type[ViTConfig] | type[TimmConfig]) -> None:
    """Raises ValueError for what is no field of the model, or none that an arm may set."""
    if name in ("in_channels", "num_classes"):
        raise ValueError(f"{name} is decided by the data; leave it out")
    if name in model.model_fields:
        return
    if name in TrainConfig.model_fields or name in DataConfig.model_fields:
        part = "recipe" if name in TrainConfig.model_fields else "data"
        raise ValueError(f"{name} is a field of the {part}, which all arms share; an arm has fields of the model")
    names = [*model.model_fields, *(own for own in Arm.model_fields if own != "changes")]
    close = get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
    raise ValueError(f"{model.__name__} has no field {name!r}; {hint}")


def percent(fraction: float) -> str:
    """10 %, 3.16 %."""
    return f"{100 * fraction:.3g} %"


Arms = Sequence[Arm] | Callable[[ViTConfig], Sequence[Arm]]
Baseline = Arm | Callable[[ViTConfig], Arm]


def _baseline(value: Any) -> Any:
    if not isinstance(value, Arm):
        raise ValueError("give an Arm, or a function from the base variant to one")
    return value


def _arms(value: Any) -> tuple[Arm, ...]:
    if isinstance(value, str | Mapping | Arm) or not isinstance(value, Iterable):
        raise ValueError("give a list of Arms, or a function from the base variant to one")
    arms = tuple(value)
    for arm in arms:
        if not isinstance(arm, Arm):
            raise ValueError(f"{arm!r} is no Arm; give Arm(NAME, field=value)")
    return arms


def _sentences(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError("give a list of sentences")
    return tuple(_line(str(sentence)) for sentence in value)


def _or_function(check: Callable[[Any], Any]) -> PlainValidator:
    return PlainValidator(lambda value: value if callable(value) else check(value))


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Study:
    """`baseline` and `arms` may be functions of the base variant, where what they are depends on the image.

    `tuning`: `grid` gives every arm the budget's grid of learning rates; `short`, the budget's short one.
    `name` may stay empty in a user's file: the file's name is taken. Raises ValueError for what fits no base variant.
    """

    question: Line
    source: Line
    baseline: Annotated[Baseline, _or_function(_baseline)]
    arms: Annotated[Arms, _or_function(_arms)]
    tuning: Literal["grid", "short"] = "short"
    name: Annotated[Text, AfterValidator(_name)] = ""
    tune: Mapping[str, Sequence[Number]] = field(default_factory=dict)
    """Numeric fields that are tuned with the learning rate, in every combination: `{"weight_decay": (0.01, 0.1)}`."""
    factors: Mapping[Text, Mapping[Text, Text]] = field(default_factory=dict)
    """Of a factorial study: arm name to the level that it has of each factor, `{"none, gap": {"position": "none", …}}`."""

    within: tuple[Text, ...] = ()
    """Factors whose level is held: an arm is compared with the one of the baseline's level of all others, and of its own of
    these. Without, with the baseline.
    """

    left_out: Callable[[ViTConfig], Sequence[str]] | None = None
    """Sentences on what `arms` leaves out on a base variant, where that depends on it."""
    fractions: tuple[Share, ...] = ()
    """Shares of the training images, the largest first: every arm on each of them, for as many steps. Without, on all."""
    train: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the recipe in which this study differs from its budget: `{"optimizer": "adamw"}`."""

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, values: Any) -> Any:
        for name in values.kwargs or {} if isinstance(values, ArgsKwargs) else ():
            if name not in cls.__dataclass_fields__:
                close = get_close_matches(name, cls.__dataclass_fields__, n=1)
                hint = f"did you mean {close[0]}?" if close else f"its fields are {', '.join(cls.__dataclass_fields__)}"
                raise ValueError(f"Study has no field {name!r}; {hint}")
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """All that can be known without a base variant."""
        if not callable(self.arms) and not self.arms and not self.fractions:
            raise ValueError("arms are none, so that nothing is compared; give at least one beside the baseline")
        if isinstance(self.baseline, Arm) and not callable(self.arms):
            self._checked([self.baseline, *self.arms])
        if list(self.fractions) != sorted({*self.fractions}, reverse=True):
            raise ValueError(f"fractions {self.fractions} are not the largest first, each once; sort them")
        check_tuned(self.tune, study=self.name, varied=())
        if "learning_rate" in self.train:
            raise ValueError("train 'learning_rate' is tuned by every study; leave it out, and give --learning-rate")
        for name in self.train:
            if name in self.tune:
                raise ValueError(f"train {name!r} is tuned too; leave it out of one of them")
        try:
            TrainConfig.model_validate(dict(self.train))
            for name, value in self.train.items():
                check_kind(name, value, TrainConfig)
        except ValueError as error:
            raise ValueError(f"train: {one_line(error)}") from error
        return self

    @property
    def title(self) -> str:
        """What refusals call it."""
        return f"study {self.name!r}" if self.name else "this study"

    def all_arms(self, base: ViTConfig) -> list[Arm]:
        """The baseline, then the others; where there are fractions, each on the largest first.

        Raises ValueError for two arms of one name, factors that do not fit the arms, and functions that fail.
        """
        baseline = self._of(base, self.baseline, "baseline", _baseline) if callable(self.baseline) else self.baseline
        arms = self._of(base, self.arms, "arms", _arms) if callable(self.arms) else self.arms
        return self._checked([baseline, *arms])

    def remarks(self, base: ViTConfig) -> Sequence[str]:
        """What `left_out` says of a base variant. Raises ValueError where it fails."""
        return self._of(base, self.left_out, "left_out", _sentences) if self.left_out else ()

    def _of(
        self, base: ViTConfig, function: Callable[[ViTConfig], Any], field: str, check: Callable[[Any], Any]
    ) -> Any:
        """What a function in one of the fields gives for a base variant, checked; what it prints goes to stderr."""
        try:
            with redirect_stdout(sys.stderr):
                return check(function(base))
        except (KeyboardInterrupt, Ended):
            raise
        except BaseException as error:  # whatever a user's function raises, SystemExit too, it is what must be mended
            if isinstance(error, ValueError) and getattr(function, "__module__", "").startswith("vitbench."):
                raise
            file = getattr(getattr(function, "__code__", None), "co_filename", "")
            of = f" of {Path(file).name}" if file else ""
            raise ValueError(f"{self.title}: {field}{of}{blamed(error, file)}") from error

    def _checked(self, arms: list[Arm]) -> list[Arm]:
        self._check_starts(arms)
        if self.fractions:
            arms = [arm.on(fraction) for fraction in self.fractions for arm in arms]
        names = [arm.name for arm in arms]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{self.title} has two arms named {name!r}; rename one")
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
                raise ValueError(f"{self.title}: arm {arm.name!r} has a start, which fractions do not go with")
            if arm.start and arm.start not in before:
                raise ValueError(f"{self.title}: arm {arm.name!r} starts from {arm.start!r}, which is no arm before it")
            if arm.epochs < 0 or (arm.epochs != 1 and not arm.start):
                raise ValueError(
                    f"{self.title}: arm {arm.name!r} has epochs {arm.epochs:g}, which is for arms that go on from "
                    "others, and 0 or more; give it a start or leave it out"
                )
            before.add(arm.name)

    def _check_factors(self, arms: Sequence[Arm]) -> None:
        levels, names = self.levels(arms), [arm.name for arm in arms]
        named = {*self.factors, *levels}
        if not named and self.within:
            raise ValueError(
                f"{self.title} compares within {self.within[0]!r}, but has no factors; give arms their levels"
            )
        if not named:
            return
        if named != set(names):
            odd = sorted(named ^ set(names))[0]
            raise ValueError(f"{self.title} has factors or an arm {odd!r}, but not both; give each arm its levels")
        expected = set(levels.get(names[0], {}))
        for name in names:
            if not levels.get(name):
                raise ValueError(
                    f"{self.title}: arm {name!r} has no level of any factor; give every arm a level of each"
                )
            if set(levels[name]) != expected:
                raise ValueError(
                    f"{self.title}: arm {name!r} has levels of {sorted(levels[name])}, the baseline of "
                    f"{sorted(expected)}; give every arm a level of each factor"
                )
        self._check_within([levels[name] for name in names])

    def _check_within(self, levels: Sequence[Mapping[str, str]]) -> None:
        if odd := [name for name in self.within if name not in levels[0]]:
            raise ValueError(f"{self.title} compares within {odd[0]!r}, which is none of its factors")
        for own in levels if self.within else ():
            wanted = {**levels[0], **{name: own[name] for name in self.within}}
            if wanted not in levels:
                raise ValueError(
                    f"{self.title} has no arm with levels {wanted}, with which others are to be compared; add it"
                )
