"""Which model is it? A Vision Transformer of ours (`ViTConfig`), one of timm's (`TimmConfig`) or a user's (`ModuleConfig`)."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar

from pydantic import Discriminator, Field, Tag, field_validator

from vitbench.config.base import MOST, Config, Extent, Size, as_pair
from vitbench.config.vit import UserPart, ViTConfig
from vitbench.user_code import ROLES, SHAPE, is_user_name


class WholeModelConfig(Config):
    """A model that is not made of our parts: from pixels to logits. `options` are keyword arguments, as JSON has them."""

    image_size: Size = 224
    in_channels: Extent = 3
    num_classes: Annotated[int, Field(gt=0, le=MOST)] = 1000
    options: dict[str, Any] = Field(default_factory=dict)

    named_by: ClassVar[str]
    """The field that names the model."""
    whose: ClassVar[str]
    refused_options: ClassVar[dict[str, str]]
    """Options that are none, each with the reason."""
    other_fields: ClassVar[str]
    """What to do with a field of `ViTConfig`."""

    @classmethod
    def _instead_of(cls, name: str) -> str:
        return cls.other_fields if name in ViTConfig.model_fields else super()._instead_of(name)

    @field_validator("options")
    @classmethod
    def _as_json(cls, options: dict[str, Any]) -> dict[str, Any]:
        for name in options:
            if name in cls.refused_options:
                raise ValueError(f"option {name!r} {cls.refused_options[name]}; leave it out")
        return _canonical_options(options)

    def __hash__(self) -> int:
        return hash(self.canonical_json())

    @property
    def image_hw(self) -> tuple[int, int]:
        """(height, width) of the image in pixels."""
        return as_pair(self.image_size)

    @property
    def model_name(self) -> str:
        """`resnet18`, `MyModel@1a2b3c4d`."""
        return str(getattr(self, self.named_by))

    @property
    def title(self) -> str:
        """`timm's resnet18`, `the user's MyModel@1a2b3c4d`."""
        return f"{self.whose} {self.model_name}"


class TimmConfig(WholeModelConfig):
    """A model of timm (Wightman 2019), to compare ViTs with. Sizes are pixels.

    `timm` is a name that `timm.create_model` knows (`resnet18`), or a class of one of timm's modules
    (`resnetv2.ResNetV2`), whose every argument is then an option.
    """

    timm: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:/-]*$")]

    named_by: ClassVar[str] = "timm"
    whose: ClassVar[str] = "timm's"
    refused_options: ClassVar[dict[str, str]] = {
        "img_size": "is said by image_size",
        "in_chans": "is said by in_channels",
        "num_classes": "is said by itself",
        **dict.fromkeys(
            ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path"),
            "gives weights that the run would not name",
        ),
        "features_only": "gives a model without logits",
    }
    other_fields: ClassVar[str] = (
        "give an argument that timm's model takes, by timm's name: --model-kwargs KEY=VALUE (options in Python)"
    )


class ModuleConfig(WholeModelConfig):
    """A user's whole model: what `module` names is called with image_size, in_channels, num_classes and `options`, by name.

    `image_size` is pixels, an int or (height, width).
    """

    module: UserPart

    named_by: ClassVar[str] = "module"
    whose: ClassVar[str] = "the user's"
    refused_options: ClassVar[dict[str, str]] = dict.fromkeys(SHAPE, "is told to every module")
    other_fields: ClassVar[str] = "give an argument that the module takes, by its name, in options"


def shape_of(model: ViTConfig | WholeModelConfig) -> dict[str, Any]:
    """The fields of a model that its images and labels decide."""
    return {name: getattr(model, name) for name in SHAPE}


def block_width(config: ViTConfig | WholeModelConfig) -> int | None:
    """Channels of the tokens in our own blocks; None for a model without them."""
    return config.width if isinstance(config, ViTConfig) else None


def _canonical_options(options: dict[str, Any]) -> dict[str, Any]:
    """One canonical form: lists, not tuples, and whole numbers as ints. Raises ValueError for what JSON cannot hold."""
    try:
        return dict(_whole_numbers(json.loads(json.dumps(options, allow_nan=False))))
    except (TypeError, ValueError) as error:
        raise ValueError(f"an option's value is no JSON ({error}); give numbers, text and lists") from error


def _whole_numbers(value: Any) -> Any:
    """1.0 is 1, so that equal options have equal ids."""
    if isinstance(value, dict):
        return {name: _whole_numbers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _kind_of_model(values: Any) -> str:
    if not isinstance(values, dict):
        return type(values).__name__ if isinstance(values, WholeModelConfig) else "ViTConfig"
    return "TimmConfig" if "timm" in values else "ModuleConfig" if "module" in values else "ViTConfig"


ModelConfig = Annotated[
    Annotated[ViTConfig, Tag("ViTConfig")]
    | Annotated[TimmConfig, Tag("TimmConfig")]
    | Annotated[ModuleConfig, Tag("ModuleConfig")],
    Discriminator(_kind_of_model),
]


def user_names(model: ViTConfig | WholeModelConfig) -> tuple[str, ...]:
    """Names of the user's code that a model has, by role."""
    values = (getattr(model, role, None) for role in (*ROLES, "module"))
    return tuple(str(value) for value in values if is_user_name(value))
