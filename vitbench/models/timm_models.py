"""Any model of timm, from its configuration, behind the interface of our ViT: logits, and features before them."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from os import sep
from traceback import extract_tb
from typing import Any

import timm
import torch
from torch import Tensor, nn

from vitbench.config import TimmConfig


class TimmModel(nn.Module):
    """images [B, C, H, W] → logits [B, num_classes]; `.features(images)` pooled pre-logits [B, D]."""

    def __init__(self, config: TimmConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.timm = create(config, seed=seed)

    def features(self, images: Tensor) -> Tensor:
        """images [B, C, H, W] → pooled pre-logits [B, D], as timm's `forward_head(…, pre_logits=True)` has them."""
        inner: Any = self.timm
        return inner.forward_head(inner.forward_features(images), pre_logits=True)

    def forward(self, images: Tensor) -> Tensor:
        return self.timm(images)


def create(config: TimmConfig, *, seed: int = 0) -> nn.Module:
    """images [B, C, H, W] → logits [B, num_classes]: in training mode on the CPU in float32, as timm initialises it.

    Raises ValueError for a name or an option that timm does not know, and for a model that cannot be had at this size.
    """
    return _make(config, seed=seed)[0]


def is_made_for_a_size(config: TimmConfig) -> bool:
    """Whether the model wants to know the image size when it is made. One that does not, as a ResNet, takes any.

    Raises ValueError as `create` does.
    """
    return _make(config, seed=0)[1]


def check_takes(model: nn.Module, images: Tensor, config: TimmConfig) -> None:
    """Raises ValueError unless the model makes logits [B, num_classes] of `images` [B, C, H, W], which may be on `meta`."""
    expected = (len(images), config.num_classes)
    try:
        logits = model(images)
    except Exception as error:  # whatever the forward pass of any of timm's models raises
        raise ValueError(
            f"timm {config.timm!r} cannot take images of {config.image_hw} pixels with in_channels {config.in_channels}: "
            f"{_reason(error)}{_remedy(error, config)}"
        ) from error
    if not isinstance(logits, Tensor) or logits.shape != expected:
        outputs = list(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise ValueError(
            f"timm {config.timm!r} with options {config.options} cannot classify: it puts out {outputs}, not logits "
            f"{list(expected)}; give other options, or another model"
        )


def _reason(error: Exception) -> str:
    """In one line: the error's text or, of an assertion without text, the line of timm's that failed."""
    lines = [frame.line for frame in extract_tb(error.__traceback__) if f"{sep}timm{sep}" in frame.filename]
    text = str(error) or f"at {lines[-1]}" if lines else str(error)
    return " ".join(f"{type(error).__name__}: {text}".split())


def _remedy(error: Exception, config: TimmConfig) -> str:
    """What to try: other arguments, or the images that timm has the model for, where it says so and they are others."""
    if isinstance(error, TypeError) and "argument" in str(error):
        return f"; see the arguments of timm's {config.timm}"
    asked = {"in_channels": config.in_channels, "image_size": config.image_hw}
    pretrained = timm.get_pretrained_cfg(config.timm, allow_unregistered=True)
    channels, *size = pretrained.input_size if pretrained is not None else (config.in_channels, *config.image_hw)
    pretrained_for = {"in_channels": channels, "image_size": tuple(size)}
    others = {name: value for name, value in pretrained_for.items() if value != asked[name]}
    if not others:
        return "; give another size or other options"
    return f"; timm has it for {', '.join(f'{name} {value}' for name, value in others.items())}"


def _make(config: TimmConfig, *, seed: int) -> tuple[nn.Module, bool]:
    """(the model, whether it was made for the image size)."""
    make = _maker(config.timm)
    arguments = {"in_chans": config.in_channels, "num_classes": config.num_classes, **config.options}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            try:
                return make(**arguments, img_size=config.image_hw).train(), True
            except TypeError as error:  # convolutional models do not want to know the size
                if "unexpected keyword argument" not in str(error) or "img_size" not in str(error):
                    raise
            return make(**arguments).train(), False
        except Exception as error:  # the constructors of a thousand models raise whatever they like
            raise ValueError(
                f"timm {config.timm!r} with options {config.options} cannot be made for images of {config.image_hw} "
                f"pixels: {_reason(error)}{_remedy(error, config)}"
            ) from error


def _maker(name: str) -> Callable[..., nn.Module]:
    """What makes models of that name from keyword arguments."""
    module, _, class_name = name.rpartition(".")
    if module.isidentifier() and find_spec(f"timm.models.{module}"):
        model_class = getattr(import_module(f"timm.models.{module}"), class_name, None)
        if not (isinstance(model_class, type) and issubclass(model_class, nn.Module)):
            raise ValueError(f"timm {name!r}: timm.models.{module} has no such model class; see its documentation")
        return model_class
    if not timm.is_model(name):
        close = get_close_matches(name, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "see timm.list_models(), or give module.Class"
        raise ValueError(f"timm {name!r} is no model of timm; {hint}")
    entrypoint = timm.models.model_entrypoint(name)
    if entrypoint.__module__.partition(".")[0] != "timm":
        raise ValueError(
            f"timm {name!r} was registered by {entrypoint.__module__}, and a run would not name its code; give the class or "
            "function itself, as module=… of an Arm"
        )
    try:  # timm looks weights up even where none are wanted
        timm.get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError as error:
        model, _, tag = name.partition(".")
        tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{model}.*")]
        close = get_close_matches(tag, tags, n=1)  # the model alone is most of a match
        remedy = f"did you mean {model}.{close[0]}?" if close else f"give {model} alone"
        raise ValueError(f"timm {name!r}: {model} has no weights {tag!r}; {remedy}") from error
    return partial(timm.create_model, name)
