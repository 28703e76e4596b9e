"""What is an arm: one setting of the factors under study, as a difference from the base variant, recipe and data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict

from vitbench.config import (
    MOST,
    ROLES,
    Config,
    DataConfig,
    ModelConfig,
    ModuleConfig,
    TimmConfig,
    TrainConfig,
    ViTConfig,
    shape_of,
)
from vitbench.refusals import one_line, shortened
from vitbench.studies.field_values import check_value
from vitbench.text import did_you_mean
from vitbench.user_code import is_user_name, register

LONGEST_NAME = 100
"""Letters of an arm's name, which stands in tables and plots."""


def _label(text: str) -> str:
    if not (text.isprintable() and text == text.strip() and 0 < len(text) <= LONGEST_NAME):
        raise ValueError(
            f"give a name of 1 to {LONGEST_NAME} printable characters, on one line, without spaces at its ends"
        )
    return text


Fraction = Annotated[float, Strict(), Field(gt=0, le=1)]
RateScale = Annotated[float, Strict(), Field(gt=0, le=MOST)]


class Arm(BaseModel):
    """One setting of the factors under study, as a difference from the base: `Arm("gap", pool="gap")`.

    It takes fields of the model, the recipe and the data alike: `Arm("no smoothing", label_smoothing=0.0)`. Each field of
    `config.ROLES` also takes a class of the study file (or `package.module:Name`): `Arm("mine", position=MyPosition)`. With
    `timm` or `module`, another model in place of the base, for the same images: `Arm("ResNet-18", timm="resnet18")`,
    `Arm("mine", module=MyModel)`, with `options` as `config.TimmConfig` and `config.ModuleConfig` take them.

    Raises ValueError for a field that is unknown, or that no arm may set.
    """

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    name: Annotated[str, AfterValidator(_label)]
    timm: str | None = None
    module: str | None = None
    """The user's model, as `user_code` names it; given as the class or function itself, or as `package.module:Name`."""
    options: dict[str, Any] = {}
    fraction: Fraction = 1.0
    """The share of the training images that it trains on, for as many steps."""
    start: str = ""
    """The arm, named before it, from whose weights of the same seed and setting it goes on, head included."""
    epochs: float = 1.0
    """For how many times the recipe's epochs it trains; with a `start`, 0 to be evaluated as it is."""
    levels: dict[str, str] = {}
    """Its level of each factor."""
    learning_rate_scale: RateScale = 1.0
    """Its learning rates are the study's times this: SGD needs other rates than AdamW, and as many trials."""
    changes: dict[str, Any] = {}
    """Fields of model, recipe and data in which it differs from the base. They are given by their names: `pool="gap"`."""

    def __init__(self, name: str, **fields: Any) -> None:
        arm_fields = {*type(self).model_fields} - {"changes"}
        try:
            fields = {field: _named_code(field, value) for field, value in fields.items()}
            changes = {field: value for field, value in fields.items() if field not in arm_fields}
            model = _kind_of_model(fields)
            for field, value in changes.items():
                check_value(field, value, _config_of(field, model))
            super().__init__(name=name, changes=changes, **{f: v for f, v in fields.items() if f in arm_fields})
            if self.options and model is ViTConfig:
                raise ValueError(
                    f"options {self.options} are for a model of timm or a module; give timm or module, or leave them out"
                )
            if self.epochs < 0 or (self.epochs == 0 and not self.start):
                raise ValueError(
                    f"epochs {self.epochs:g} is how many times the recipe's it trains; give more than 0, or a start that it "
                    "goes on from, to be evaluated as it is"
                )
            if self.epochs == 0 and self.learning_rate_scale != 1:
                raise ValueError("learning_rate_scale has no meaning at epochs 0, which trains nothing; leave it out")
        except ValueError as error:
            raise ValueError(f"arm {shortened(name)}: {one_line(error)}") from error

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """As it is written: `Arm('gap', pool='gap')`."""
        yield None, self.name
        yield from self.model_dump(exclude={"name", "changes"}, exclude_defaults=True).items()
        yield from self.changes.items()

    def apply(self, base: ViTConfig) -> ModelConfig:
        """The arm's model. Raises ValueError, naming the arm, where the difference has no meaning on this base."""
        with self.named():
            if self.timm is None and self.module is None:
                return base.replace(**self._changes_of(ViTConfig))
            shape = shape_of(base) | self._changes_of(TimmConfig)
            if self.timm is not None:
                return TimmConfig(timm=self.timm, options=self.options, **shape)
            return ModuleConfig.model_validate({"module": self.module, "options": self.options, **shape})

    def recipe(self, base: TrainConfig) -> TrainConfig:
        """The arm's recipe, but for its epochs, which the plan decides. Raises ValueError, naming the arm."""
        with self.named():
            return base.replace(**self._changes_of(TrainConfig))

    def data(self, base: DataConfig) -> DataConfig:
        """How the arm's images are split and augmented. Raises ValueError, naming the arm."""
        with self.named():
            return base.with_fields(**self._changes_of(DataConfig))

    def _changes_of(self, config: type[Config]) -> dict[str, Any]:
        return {field: value for field, value in self.changes.items() if field in config.model_fields}

    @contextmanager
    def named(self) -> Iterator[None]:
        """A ValueError from within names the arm, once."""
        label = f"arm {self.name!r}: "
        try:
            yield
        except ValueError as error:
            if str(error).startswith(label):
                raise
            raise ValueError(f"{label}{one_line(error)}") from error

    def on(self, fraction: float) -> Arm:
        """The same arm on a share of the training images; model and images are its factors."""
        percent = f"{100 * fraction:.3g} %"
        levels = {"model": self.name, "images": percent}
        return self.model_copy(update={"name": f"{self.name}, {percent}", "fraction": fraction, "levels": levels})


_NOT_AN_ARMS = {
    "in_channels": "is decided by the data; leave it out",
    "num_classes": "is decided by the data; leave it out",
    "dataset": "is the same for all arms, which are compared on the same test images; give it with --data",
    "learning_rate": "is tuned for every arm; give learning_rate_scale=10 for a grid of ten times the study's rates",
    "train_images": "is given as a share: fraction=0.5 is half of them for as many steps, with epochs=0.5 for as many passes",
    "validation_fraction": "is the same for all arms, whose settings are chosen on that split; leave it out",
}


_SomeModel = type[ViTConfig] | type[TimmConfig] | type[ModuleConfig]
_WHOSE: dict[_SomeModel, str] = {TimmConfig: "timm's models take", ModuleConfig: "a module takes"}


def _kind_of_model(fields: Mapping[str, Any]) -> _SomeModel:
    """Of an arm with these fields. Raises ValueError for two models."""
    timm, module = fields.get("timm"), fields.get("module")
    if timm is not None and module is not None:
        raise ValueError(f"timm {timm!r} and module {module!r} are two models; leave one out")
    return TimmConfig if timm is not None else ModuleConfig if module is not None else ViTConfig


def _named_code(field: str, value: Any) -> Any:
    """A field's value; of a user's code, the name by which `user_code` knows it from now on."""
    is_path = isinstance(value, str) and ":" in value
    if field in (*ROLES, "module") and (callable(value) or is_path):
        return register(value, field)
    if field == "module" and isinstance(value, str) and not is_user_name(value):
        raise ValueError(f"module {value!r}: give the class or function itself, or package.module:Name")
    if callable(value):
        roles = ", ".join(ROLES)
        raise ValueError(
            f"{field} {shortened(value)}: code can stand for {roles} or module; give a value, or one of these"
        )
    return value


def _config_of(field: str, model: _SomeModel) -> type[Config]:
    """The configuration that has a field. Raises ValueError for what none has, or none that an arm may set."""
    if field in _NOT_AN_ARMS:
        raise ValueError(f"{field} {_NOT_AN_ARMS[field]}")
    configs: tuple[type[Config], ...] = (model, TrainConfig, DataConfig)
    for config in configs:
        if field in config.model_fields:
            return config
    if model in _WHOSE and field in ViTConfig.model_fields:
        raise ValueError(f"{field} is for ViTs, and {_WHOSE[model]} options={{…}} by their own names; leave it out")
    known = [name for name in Arm.model_fields if name != "changes"]
    known += [name for config in configs for name in config.model_fields if name not in {*_NOT_AN_ARMS, *known}]
    hint = did_you_mean(field, known, f"there are {', '.join(known)}")
    raise ValueError(f"no model, recipe or data has a field {field!r}; {hint}")
