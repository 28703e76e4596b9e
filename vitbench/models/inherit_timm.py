"""Which weights a model of timm takes over from a run of the same model, and which it starts anew: the head is new."""

from __future__ import annotations

from typing import Any

from vitbench.config import RunConfig, TimmConfig
from vitbench.models import build_model
from vitbench.models.timm_models import TimmModel, is_made_for_a_size
from vitbench.models.weights import load_trained

FREE = ("image_size", "num_classes")
"""What may differ from the model that the weights come from, the image size only where timm's model takes any."""


def inherited_timm_config(source: TimmConfig, wanted: dict[str, Any], *, keep_head: bool = False) -> TimmConfig:
    """The configuration of a model that starts from `source`'s weights: its fields, and what is `wanted`.

    Raises ValueError for a wanted field that the weights cannot follow: all but those in `FREE`, the number of classes where
    the head is kept, and the image size of a model that timm makes for one. Such models' tables are not resampled, and
    equal shapes do not tell that places are the same (a grid of 2 × 8 has as many as one of 4 × 4).
    """
    names = tuple(name for name in FREE if name != "num_classes") if keep_head else FREE
    config = source.replace(**wanted)
    for name in type(source).model_fields:
        if name not in names and getattr(config, name) != getattr(source, name):
            raise ValueError(
                f"{name} {getattr(config, name)!r} is not that of the initial weights, {getattr(source, name)!r}; "
                f"leave it out (free are {', '.join(names)})"
            )
    if config.image_size != source.image_size and is_made_for_a_size(source):
        raise ValueError(
            f"image_size {config.image_size} is not that of the initial weights, {source.image_size}, which timm's "
            f"{source.timm} is made for; leave it out (free only where a model takes any, as a ResNet does)"
        )
    return config


def inherit_timm(source: TimmModel, config: TimmConfig, *, seed: int, keep_head: bool = False) -> TimmModel:
    """A model of `config`, in training mode, with the weights and buffers of `source`, but timm's head at the seed.

    With `keep_head`, the head is the source's too. Raises ValueError where `config` is none that `inherited_timm_config`
    gives, and for a model whose head timm does not tell, or not all of it.
    """
    inherited_timm_config(source.config, config.model_dump(), keep_head=keep_head)
    model = build_model(config, seed=seed)
    weights, new = source.state_dict(), model.state_dict()
    if not keep_head:
        weights |= {name: new[name] for name in _head_names(model)}
    for name, value in weights.items():
        if new[name].shape != value.shape:
            raise ValueError(
                f"num_classes {config.num_classes} changes {name} of timm's {config.timm}, which is no part of the head that "
                "it tells; start from another model"
            )
    model.load_state_dict(weights)
    return model


def started_from(path: str, run: RunConfig) -> TimmModel:
    """The model before the first step of `run`, from the weights in a file (`vitbench.models.weights`).

    Raises ValueError where these are not the weights that `run.init` names, or not of the same model of timm.
    """
    trained = load_trained(path)
    if trained.identity != run.init:
        raise ValueError(f"init {run.init} was planned, but {path} is {trained.identity}")
    assert isinstance(run.model, TimmConfig), run.model
    if not isinstance(trained.model, TimmModel):
        raise ValueError(f"init {run.init!r} is a ViT, not timm's {run.model.timm}; leave it out")
    return inherit_timm(trained.model, run.model, seed=run.seed, keep_head=run.keep_head)


def _head_names(model: TimmModel) -> list[str]:
    """Names of the parameters and buffers of the classifier, or classifiers, that timm tells."""
    inner: Any = model.timm
    told = inner.get_classifier()
    heads = told if isinstance(told, tuple | list) else (told,)
    owners = [name for name, module in model.named_modules() if any(module is head for head in heads)]
    names = [name for name in model.state_dict() if any(name.startswith(f"{owner}.") for owner in owners)]
    if not names:
        raise ValueError(f"timm {model.config.timm!r} tells no head to draw anew; start from another model")
    return names
