"""Which model is it? A Vision Transformer of ours (`ViTConfig`), one of timm's (`TimmConfig`) or a user's (`ModuleConfig`)."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, field_validator

from vitbench.config.base import MOST, Config, Extent, Size, as_pair
from vitbench.config.vit import UserPart, ViTConfig
from vitbench.user_code import ROLES, is_user_name


class TimmConfig(Config):
    """A model of timm (Wightman 2019), to compare ViTs with. Sizes are pixels.

    `timm` is a name that `timm.create_model` knows (`resnet18`), or a class of one of timm's modules
    (`resnetv2.ResNetV2`), whose every argument is then an option. `options` are its keyword arguments, as JSON has them.
    """

    timm: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:/-]*$")]
    image_size: Size = 224
    in_channels: Extent = 3
    num_classes: Annotated[int, Field(gt=0, le=MOST)] = 1000
    options: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def _instead_of(cls, name: str) -> str:
        if name not in ViTConfig.model_fields:
            return super()._instead_of(name)
        return "give an argument that timm's model takes, by timm's name: --model-kwargs KEY=VALUE (options in Python)"

    @field_validator("options")
    @classmethod
    def _as_json(cls, options: dict[str, Any]) -> dict[str, Any]:
        for name in options:
            if name in _REFUSED_OPTIONS:
                raise ValueError(f"option {name!r} {_REFUSED_OPTIONS[name]}; leave it out")
        return _canonical_options(options)

    def __hash__(self) -> int:
        return hash(self.canonical_json())

    @property
    def image_hw(self) -> tuple[int, int]:
        """(height, width) of the image in pixels."""
        return as_pair(self.image_size)


class ModuleConfig(Config):
    """A user's whole model: what `module` names is called with image_size, in_channels, num_classes and `options`, by name.

    `image_size` is pixels, an int or (height, width). `options` are JSON.
    """

    module: UserPart
    image_size: Size = 224
    in_channels: Extent = 3
    num_classes: Annotated[int, Field(gt=0, le=MOST)] = 1000
    options: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def _instead_of(cls, name: str) -> str:
        if name not in ViTConfig.model_fields:
            return super()._instead_of(name)
        return "give an argument that the module takes, by its name, in options"

    @field_validator("options")
    @classmethod
    def _as_json(cls, options: dict[str, Any]) -> dict[str, Any]:
        for name in options:
            if name in ("image_size", "in_channels", "num_classes"):
                raise ValueError(f"option {name!r} is told to every module; leave it out")
        return _canonical_options(options)

    def __hash__(self) -> int:
        return hash(self.canonical_json())

    @property
    def image_hw(self) -> tuple[int, int]:
        """(height, width) of the image in pixels."""
        return as_pair(self.image_size)


def block_width(config: ViTConfig | TimmConfig | ModuleConfig) -> int | None:
    """Channels of the tokens in our own blocks; None for a model without them."""
    return config.width if isinstance(config, ViTConfig) else None


_REFUSED_OPTIONS = {
    "img_size": "is said by image_size",
    "in_chans": "is said by in_channels",
    "num_classes": "is said by itself",
    **dict.fromkeys(
        ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path"),
        "gives weights that the run would not name",
    ),
    "features_only": "gives a model without logits",
}


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
        return type(values).__name__ if isinstance(values, TimmConfig | ModuleConfig) else "ViTConfig"
    return "TimmConfig" if "timm" in values else "ModuleConfig" if "module" in values else "ViTConfig"


ModelConfig = Annotated[
    Annotated[ViTConfig, Tag("ViTConfig")]
    | Annotated[TimmConfig, Tag("TimmConfig")]
    | Annotated[ModuleConfig, Tag("ModuleConfig")],
    Discriminator(_kind_of_model),
]


def user_names(model: ViTConfig | TimmConfig | ModuleConfig) -> tuple[str, ...]:
    """Names of the user's code that a model has, by role."""
    values = (getattr(model, role, None) for role in (*ROLES, "module"))
    return tuple(str(value) for value in values if is_user_name(value))
