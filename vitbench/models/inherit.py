"""Which weights a model takes over from another, and which it starts anew: the head is new, places are resampled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from vitbench.config import FREE, OF_THE_HEAD, Config, ModuleConfig, TimmConfig, ViTConfig, WholeModelConfig
from vitbench.models import build_model
from vitbench.models.resize import check_parts_take, resize_tables
from vitbench.models.timm_models import TimmModel, is_made_for_a_size
from vitbench.models.user_models import UserModel
from vitbench.models.vit import ViT
from vitbench.user_code import lookup

Whole = TypeVar("Whole", bound=WholeModelConfig)

FREE_OF_WHOLE_MODELS = ("image_size", "num_classes")
"""What may differ from the model of timm, or a user's, that the weights come from, the image size only where it takes any."""


def inherited_config(source: ViTConfig, wanted: dict[str, Any], *, keep_head: bool = False) -> ViTConfig:
    """The configuration of a model that starts from `source`'s weights: its fields, what is `wanted`, and a linear head,
    unless its own is kept.

    Raises ValueError for a wanted field that the weights cannot follow.
    """
    kept = OF_THE_HEAD if keep_head else ()
    names = [name for name in FREE if name not in kept]
    free = {name: value for name, value in wanted.items() if name in names}
    config = source.replace(**free) if keep_head else source.replace(**{"head": "linear", **free})
    _check_followed(config.replace(**wanted), config, free=names, kept=kept)
    return config


def inherit(source: ViT, config: ViTConfig, *, seed: int, keep_head: bool = False, antialias: bool = True) -> ViT:
    """A model of `config`, in training mode, with the weights of `source` but a head initialised from the seed.

    With `keep_head`, the head is the source's too. Position tables are resampled where the grid of patches is another
    (`vitbench.models.resize`, which says what `antialias` means). Raises ValueError where `config` differs in more than
    `FREE`, or in `OF_THE_HEAD` where that is kept.
    """
    inherited_config(source.config, dict(config), keep_head=keep_head)
    check_parts_take(source, config)
    model = build_model(config, seed=seed)
    weights = resize_tables(source.state_dict(), old_grid=source.config.grid, new_grid=config.grid, antialias=antialias)
    if not keep_head:
        weights = {name: value for name, value in weights.items() if not name.startswith("head.")}
        weights |= {name: value for name, value in model.state_dict().items() if name.startswith("head.")}
    model.load_state_dict(weights)
    return model


def inherited_whole_config(source: Whole, wanted: dict[str, Any], *, keep_head: bool = False) -> Whole:
    """The configuration of a model that starts from `source`'s weights: its fields, and what is `wanted`.

    Raises ValueError for a wanted field that the weights cannot follow: all but `FREE_OF_WHOLE_MODELS`, the number of
    classes where the head is kept, and the image size of a model that timm makes for one. Such models' tables are not
    resampled, and equal shapes do not tell that places are the same (a grid of 2 × 8 has as many as one of 4 × 4). A user's
    model takes any image size where its class, or function, has `any_image_size = True`.
    """
    config = source.replace(**wanted)
    _check_followed(
        config, source, free=[name for name in FREE_OF_WHOLE_MODELS if not (keep_head and name in OF_THE_HEAD)]
    )
    if config.image_size == source.image_size:
        return config
    if isinstance(source, TimmConfig):
        made_for_it, remedy = is_made_for_a_size(source), "(free only where a model takes any, as a ResNet does)"
    else:
        made_for_it = not getattr(lookup(source.model_name), "any_image_size", False)
        remedy = "or, if its weights mean the same at any size, give it any_image_size = True"
    if made_for_it:
        raise ValueError(
            f"image_size {config.image_size} is not that of the initial weights, {source.image_size}, which {source.title} "
            f"is made for; leave it out {remedy}"
        )
    return config


def inherit_whole(
    source: TimmModel | UserModel, config: TimmConfig | ModuleConfig, *, seed: int, keep_head: bool = False
) -> TimmModel | UserModel:
    """A model of `config`, in training mode, with the weights and buffers of `source`, but its head at the seed.

    What the head is, the model tells by a method `get_classifier()`, as timm's models do.

    With `keep_head`, the head is the source's too. Raises ValueError where `config` is none that `inherited_whole_config`
    gives, and for a model that does not tell its head, or not all of it.
    """
    inherited_whole_config(source.config, config.model_dump(), keep_head=keep_head)
    model: TimmModel | UserModel = build_model(config, seed=seed)
    weights, new = source.state_dict(), model.state_dict()
    if not keep_head:
        weights |= {name: new[name] for name in _head_names(model)}
    for name, value in weights.items():
        if new[name].shape != value.shape:
            raise ValueError(
                f"num_classes {config.num_classes} changes {name} of {config.title}, which is no part of the head that it "
                "tells; start from another model"
            )
    model.load_state_dict(weights)
    return model


def _head_names(model: TimmModel | UserModel) -> list[str]:
    """Names of the parameters and buffers of the classifier, or classifiers, that the model tells."""
    inner: Any = model.timm if isinstance(model, TimmModel) else model.module
    classifier = inner.get_classifier() if hasattr(inner, "get_classifier") else ()
    heads = classifier if isinstance(classifier, tuple | list) else (classifier,)
    owners = [name for name, module in model.named_modules() if any(module is head for head in heads)]
    names = [name for name in model.state_dict() if any(name.startswith(f"{owner}.") for owner in owners)]
    if not names:
        if isinstance(model, TimmModel):
            raise ValueError(f"timm {model.config.timm!r} tells no head to draw anew; start from another model")
        raise ValueError(f"{model.config.title} tells no head to draw anew; give it a method get_classifier()")
    return names


def _check_followed(config: Config, source: Config, *, free: Sequence[str], kept: Sequence[str] = ()) -> None:
    """Raises ValueError for the first field of `config` that is not `source`'s and not free."""
    for name, initial in source:
        wanted = getattr(config, name)
        if wanted != initial and name not in free:
            remedy = "leave --keep-head out" if name in kept else f"leave it out (free are {', '.join(free)})"
            raise ValueError(f"{name} {wanted!r} is not that of the initial weights, {initial!r}; {remedy}")
