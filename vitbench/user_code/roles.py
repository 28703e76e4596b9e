"""What can a user's code stand for in a model, and does its constructor take what that needs?"""

from __future__ import annotations

import inspect
from typing import Any

ROLES = ("stem", "position", "attention", "mlp", "norm", "activation", "pool", "head")
"""What a user's part can stand for in a Vision Transformer: fields of `ViTConfig`."""
_MODULE = "torch.nn.modules.module.Module"
SHAPE = ("image_size", "in_channels", "num_classes")
"""What images and labels decide of a model: fields of every configuration of one, and arguments of a user's whole model."""


def is_torch_module(code: object) -> bool:
    """Whether this is a class derived from torch's nn.Module; does not import torch."""
    return isinstance(code, type) and any(f"{base.__module__}.{base.__qualname__}" == _MODULE for base in code.__mro__)


def check_role(code: Any, role: str) -> None:
    """Raises ValueError for a class that is no nn.Module, or whose constructor does not take what it will be given."""
    if role not in (*ROLES, "module"):
        return
    is_class = isinstance(code, type)
    if is_class and not is_torch_module(code):
        raise ValueError(f"{role} {code.__name__}: the class is not derived from torch.nn.Module; derive it")
    if not is_class and role not in ("activation", "module"):
        raise ValueError(f"{role} {code.__name__} is a function; give a class derived from torch.nn.Module")
    try:
        signature = inspect.signature(code)
    except ValueError:  # of classes written in C
        return
    if role == "module":
        _check_library(code, signature)
    try:
        if role == "module":
            signature.bind_partial(**dict.fromkeys(SHAPE))
        else:
            signature.bind(None)
    except TypeError as error:
        takes = (
            f"the arguments {', '.join(SHAPE)}, by these names, and its options"
            if role == "module"
            else "one argument: " + ("the ViTConfig" if is_class else "a tensor")
        )
        shown = f"{code.__name__}{signature}"
        raise ValueError(f"{role} {shown[:200]}: {error}; it must take {takes}") from error


def _check_library(code: Any, signature: inspect.Signature) -> None:
    """Raises ValueError for other libraries' models, which may take any name by `**kwargs` and then fail at build."""
    library, name = code.__module__.partition(".")[0], code.__name__
    if library not in ("timm", "torchvision") or {*SHAPE} <= {*signature.parameters}:
        return
    if library == "timm":
        model = name if next(iter(signature.parameters), "") == "pretrained" else "NAME"
        remedy = f'give its name in timm instead: Arm("x", timm="{model}")'
    else:
        remedy = f"call it in a function of the study file that takes {', '.join(SHAPE)}, and give that"
    raise ValueError(f"module {name} is {library}'s, whose arguments have other names; {remedy}")
