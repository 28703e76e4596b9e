"""Which model does a single run train: a variant, an arm's, or one with weights to start from?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitbench.config import ModelConfig, ModuleConfig, TimmConfig, ViTConfig
from vitbench.data import DataInfo
from vitbench.studies import BUDGETS
from vitbench.studies.recipes import Recipe
from vitbench.studies.target import arm_name, model_of
from vitbench.variants import TIMM
from vitbench.variants import model as named_model
from vitbench.variants import variant as named_variant


def single_model(
    variant: str | None,
    init: str | None,
    info: DataInfo,
    fields: Mapping[str, Any],
    *,
    keep_head: bool,
    recipe: Recipe | None,
) -> tuple[str, ModelConfig, str | None]:
    """(what to call it, its configuration, the identity of its initial weights).

    `recipe` has a say in a ViT that starts from the seed; what starts from weights is what these are.
    """
    shape = {"in_channels": info.in_channels, "num_classes": info.num_classes}
    for name, value in shape.items():
        if str(fields.get(name, value)) != str(value):
            raise ValueError(f"{name} {fields[name]} does not fit {info.dataset}, which has {value}; leave it out")
    if init is None:
        if variant is None:
            raise ValueError("VARIANT is missing: give one (see `vitbench list`), or weights to start from with --init")
        if (arm := arm_name(variant)) is not None:
            return arm.label, model_of(variant, info, BUDGETS["quick"], fields=fields), None
        wanted = {"image_size": info.image_size, **shape, **fields}
        model = named_model(variant, **wanted)
        if recipe is not None and isinstance(model, ViTConfig):
            model = named_model(variant, **{**recipe.model_on(model), **wanted})
        return variant, model, None
    from vitbench.models import convert
    from vitbench.models.inherit import inherited_config
    from vitbench.models.weights import SUFFIX, load_trained

    wanted = {**shape, **fields}
    trained = load_trained(init) if init.endswith(SUFFIX) else None
    if trained is not None and not isinstance(trained.config.model, ViTConfig):
        label = trained.identity if variant is None else f"{variant} from {trained.identity}"
        model = _whole_model_from(trained.config.model, variant, init, wanted, keep_head=keep_head)
        return label, model, trained.identity
    if variant is not None and variant.startswith(TIMM):
        raise ValueError(f"variant {variant!r} is timm's, but init {init!r} is read as a ViT of ours; leave it out")
    hints = convert.Hints(**{name: fields.get(name) for name in ("image_size", "activation", "position")})
    source = convert.load_named(init, in_channels=info.in_channels, hints=hints)
    if variant is not None:
        # The image size is the weights' own, unless one is asked for: that is what their patches were made for.
        named = _named_vit(variant, info, {"image_size": source.config.image_size, **wanted})
        wanted = {name: getattr(named, name) for name in named.model_fields_set}
    identity = convert.weights_identity(init, source)
    label = identity if variant is None else f"{variant} from {identity}"
    return label, inherited_config(source.config, wanted, keep_head=keep_head), identity


def _named_vit(variant: str, info: DataInfo, fields: Mapping[str, Any]) -> ViTConfig:
    """Of a variant of ours, or of an arm whose model is a ViT."""
    if arm_name(variant) is None:
        return named_variant(variant, **fields)
    model = model_of(variant, info, BUDGETS["quick"], fields=fields)
    if not isinstance(model, ViTConfig):
        raise ValueError(f"variant {variant!r} is no ViT, but the initial weights are read as one; leave it out")
    return model


def _whole_model_from(
    whole: TimmConfig | ModuleConfig, variant: str | None, init: str, wanted: dict[str, Any], *, keep_head: bool
) -> ModelConfig:
    """The model, with its name and options, whose weights `init` are, and what is wanted of it."""
    from vitbench.models.inherit import inherited_whole_config

    name = TIMM + whole.timm if isinstance(whole, TimmConfig) else whole.model_name
    if variant is not None and variant != name:
        raise ValueError(f"variant {variant!r} is not that of the initial weights, {name!r}; leave it out")
    if whole.in_channels != wanted["in_channels"]:
        raise ValueError(
            f"init {init!r} is for images of {whole.in_channels} channels, but the data's have {wanted['in_channels']}"
        )
    return inherited_whole_config(whole, wanted, keep_head=keep_head)
