"""Numbers were lost: does a user's code put out infinite values, or none, for finite ones?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vitbench.models import UserModel
from vitbench.models.parts import parts_of, role_of


def code_that_loses_numbers(
    model: nn.Module, images: Tensor, *, autocast: Callable[[], AbstractContextManager[object]] = nullcontext
) -> str:
    """`position CPE@1a2b3c4d (blocks.0…)`, of the first part, or the whole model, that is so; else empty.

    images: [B, C, H, W], finite, normalised, on the model's device. The model is in evaluation mode afterwards.
    """
    suspects = _suspects(model)
    guilty: list[str] = []
    handles = [
        module.register_forward_hook(partial(_note, text, guilty), with_kwargs=False)
        for text, module in suspects.items()
    ]
    try:
        with torch.no_grad(), autocast():
            model.eval()(images)
    except (ValueError, RuntimeError):  # this only explains; what happened is known
        return ""
    finally:
        for handle in handles:
            handle.remove()
    return guilty[0] if guilty else ""


def _suspects(model: nn.Module) -> Mapping[str, nn.Module]:
    if isinstance(model, UserModel):
        return {f"module {model.config.module}": model}
    config: Any = model.config
    return {
        f"{role_of(part)} {getattr(config, role_of(part))} ({name})": part for name, part in parts_of(model).items()
    }


def _note(text: str, guilty: list[str], module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
    tensors = [value for value in (*inputs, *module.parameters()) if isinstance(value, Tensor)]
    if isinstance(output, Tensor) and not output.isfinite().all() and all(t.isfinite().all() for t in tensors):
        guilty.append(text)
