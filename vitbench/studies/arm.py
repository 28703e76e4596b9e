"""What is an arm: one setting of the factors under study, as a difference from the base variant."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict

from vitbench.config import DataConfig, ModelConfig, TimmConfig, TrainConfig, ViTConfig, one_line, shortened
from vitbench.studies.kinds import check_kind
from vitbench.text import did_you_mean

LONGEST_NAME = 100
"""Letters of an arm's name, which stands in tables and plots."""


def _label(text: str) -> str:
    if not (text.isprintable() and text == text.strip() and 0 < len(text) <= LONGEST_NAME):
        raise ValueError(
            f"give a name of 1 to {LONGEST_NAME} printable characters, on one line, without spaces at its ends"
        )
    return text


Share = Annotated[float, Strict(), Field(gt=0, le=1)]


class Arm(BaseModel):
    """One setting of the factors under study, as a difference from the base variant: `Arm("gap", pool="gap")`.

    With `timm`, another model in its place, for the same images: `Arm("ResNet-18", timm="resnet18")`, with `options` as
    `config.TimmConfig` takes them. Raises ValueError for a field that is unknown, or of no meaning on any base.
    """

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    name: Annotated[str, AfterValidator(_label)]
    timm: str | None = None
    options: dict[str, Any] = {}
    fraction: Share = 1.0
    """The share of the training images that it trains on, for as many steps."""
    start: str = ""
    """The arm, named before it, from whose weights of the same seed and setting it goes on, head included."""
    epochs: float = 1.0
    """For how many times the recipe's epochs it goes on; 0 to be evaluated as it is."""
    levels: dict[str, str] = {}
    """Its level of each factor."""
    changes: dict[str, Any] = {}
    """Fields of the model in which it differs from the base. They are given by their names, as in `pool="gap"`."""

    def __init__(self, name: str, **fields: Any) -> None:
        arm_fields = {*type(self).model_fields} - {"changes"}
        changes = {field: value for field, value in fields.items() if field not in arm_fields}
        model = TimmConfig if fields.get("timm") is not None else ViTConfig
        try:
            for field, value in changes.items():
                _check_change(field, model)
                check_kind(field, value, model)
            super().__init__(name=name, changes=changes, **{f: v for f, v in fields.items() if f in arm_fields})
            if self.options and self.timm is None:
                raise ValueError(
                    f"options {self.options} are for a model of timm; give its name as timm, or leave them out"
                )
        except ValueError as error:
            raise ValueError(f"arm {shortened(name)}: {one_line(error)}") from error

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """As it is written: `Arm('gap', pool='gap')`."""
        yield None, self.name
        yield from self.model_dump(exclude={"name", "changes"}, exclude_defaults=True).items()
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
        """The same arm on a share of the training images; model and images are its factors."""
        percent = f"{100 * fraction:.3g} %"
        levels = {"model": self.name, "images": percent}
        return self.model_copy(update={"name": f"{self.name}, {percent}", "fraction": fraction, "levels": levels})


def _check_change(field: str, model: type[ViTConfig] | type[TimmConfig]) -> None:
    """Raises ValueError for what is no field of the model, or none that an arm may set."""
    if field in ("in_channels", "num_classes"):
        raise ValueError(f"{field} is decided by the data; leave it out")
    if field in model.model_fields:
        return
    for config, part in ((TrainConfig, "recipe"), (DataConfig, "data")):
        if field in config.model_fields:
            raise ValueError(f"{field} is a field of the {part}, which all arms share; an arm has fields of the model")
    fields = [*model.model_fields, *(name for name in Arm.model_fields if name != "changes")]
    hint = did_you_mean(field, fields, f"there are {', '.join(fields)}")
    raise ValueError(f"{model.__name__} has no field {field!r}; {hint}")
