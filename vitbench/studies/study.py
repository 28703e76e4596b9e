"""What is a study: a question, its source, a baseline arm, the other arms, and how finely each is tuned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, PlainValidator, Strict, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs

from vitbench.config import Config, DataConfig, TrainConfig, ViTConfig, distortion_names
from vitbench.records.metrics import TOP1, metric_named
from vitbench.records.schema import STUDY_NAME
from vitbench.refusals import one_line
from vitbench.studies.arm import Arm, Fraction
from vitbench.studies.field_values import check_value
from vitbench.studies.looks import check_until
from vitbench.studies.tunable import check_tuned
from vitbench.text import did_you_mean
from vitbench.user_code import users_code


def _line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("write it on one line, in printable characters")
    return text


def _name(text: str) -> str:
    if text and STUDY_NAME.fullmatch(text) is None:
        raise ValueError("use at most 100 letters, digits, - and _, or leave it out for the file's name")
    return text


def _metric(name: str) -> str:
    return metric_named(name).name


_NOT_SHARED = {
    "learning_rate": "is tuned by every study; leave it out, and give --learning-rate",
    "dataset": "is what a study is asked on; leave it out, and give --data",
    "train_images": "is the budget's; leave it out, and give --train-images",
    "validation_fraction": "is the same for all studies, so that their records can be compared; leave it out",
}
Text = Annotated[str, Strict()]
Line = Annotated[Text, AfterValidator(_line)]
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
    tune: Mapping[str, Sequence[Annotated[float, Strict()]]] = field(default_factory=dict)
    """Numeric fields that are tuned with the learning rate, in every combination: `{"weight_decay": (0.01, 0.1)}`."""
    factors: Mapping[Text, Mapping[Text, Text]] = field(default_factory=dict)
    """Of a factorial study: arm name to its level of each factor, `{"none, gap": {"position": "none", …}}`."""
    within: tuple[Text, ...] = ()
    """Factors whose level is held: an arm is compared with the one that has its level of these, and the baseline's of all
    others. Empty: with the baseline.
    """
    left_out: Callable[[ViTConfig], Sequence[str]] | None = None
    """Sentences on what `arms` leaves out on a base variant, where that depends on it."""
    fractions: tuple[Fraction, ...] = ()
    """Shares of the training images, the largest first: every arm on each of them, for as many steps. Empty: on all."""
    train: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the recipe in which this study differs from its budget: `{"optimizer": "adamw"}`."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the data, likewise: `{"auto_augment": "3a"}`."""
    until: Annotated[Any, PlainValidator(check_until)] = None
    """`settled`: seeds are added until every arm is settled, as by `--until settled`; or the numbers of seeds at which
    verdicts are looked at. None: a fixed number of seeds.
    """
    evaluate: Annotated[tuple[str, ...], BeforeValidator(distortion_names)] = ()
    """Distortions of test images that every arm is evaluated on too: `("shift", "shuffle")`."""
    metric: Annotated[Text, AfterValidator(_metric)] = TOP1.name
    """By which arms are judged, as `records.metrics` names them; the others are shown beside it, as secondary."""

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, values: Any) -> Any:
        for name in values.kwargs or {} if isinstance(values, ArgsKwargs) else ():
            if name not in (fields := cls.__dataclass_fields__):
                hint = did_you_mean(name, fields, f"its fields are {', '.join(fields)}")
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
        self._check_shared("train", TrainConfig)
        self._check_shared("data", DataConfig)
        return self

    def _check_shared(self, part: str, config: type[Config]) -> None:
        """Raises ValueError for fields that no study may set for all of its arms, and values that they do not take."""
        for name, value in getattr(self, part).items():
            if name in _NOT_SHARED:
                raise ValueError(f"{part} {name!r} {_NOT_SHARED[name]}")
            if name in self.tune:
                raise ValueError(f"{part} {name!r} is tuned too; leave it out of one of them")
            try:
                if name not in config.model_fields:
                    config.model_validate({name: value})  # which says what there is
                check_value(name, value, config)
            except ValueError as error:
                raise ValueError(f"{part}: {one_line(error)}") from error

    @property
    def title(self) -> str:
        """What refusals call it."""
        return f"study {self.name!r}" if self.name else "this study"

    def all_arms(self, base: ViTConfig) -> list[Arm]:
        """The baseline, then the others; where there are fractions, each on the largest first.

        Raises ValueError for two arms of one name, factors that do not fit the arms, and functions that fail.
        """
        return self._checked([self._value("baseline", base, _baseline), *self._value("arms", base, _arms)])

    def remarks(self, base: ViTConfig) -> Sequence[str]:
        """What `left_out` says of a base variant. Raises ValueError where it fails."""
        return self._value("left_out", base, _sentences) or ()

    def _value(self, field: str, base: ViTConfig, check: Callable[[Any], Any]) -> Any:
        """A field's value; where that is a function of the base variant, what it gives, checked. It prints to stderr."""
        function = getattr(self, field)
        if not callable(function):
            return function
        if getattr(function, "__module__", "").startswith("vitbench."):
            return check(function(base))
        file = getattr(getattr(function, "__code__", None), "co_filename", "")
        of = f" of {Path(file).name}" if file else ""
        with users_code(f"{self.title}: {field}{of}", file):
            return check(function(base))

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
        """The level that each of these arms has of each factor, where it has any."""
        levels = {arm.name: arm.levels or dict(self.factors.get(arm.name, {})) for arm in arms}
        return {name: of_arm for name, of_arm in levels.items() if of_arm}

    def _check_starts(self, arms: Sequence[Arm]) -> None:
        before: set[str] = set()
        for arm in arms:
            if arm.start and self.fractions:
                raise ValueError(f"{self.title}: arm {arm.name!r} has a start, which fractions do not go with")
            if arm.start and arm.start not in before:
                raise ValueError(f"{self.title}: arm {arm.name!r} starts from {arm.start!r}, which is no arm before it")
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
        for of_arm in levels if self.within else ():
            wanted = {**levels[0], **{name: of_arm[name] for name in self.within}}
            if wanted not in levels:
                raise ValueError(
                    f"{self.title} has no arm with levels {wanted}, with which others are to be compared; add it"
                )
