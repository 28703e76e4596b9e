"""Numbers were lost: does a user's code put out infinite values, or none, for finite ones?"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import torch
from torch import Tensor, nn

from vitbench.generators import seeded
from vitbench.models.parts import outputs_of_users_code, parts_of


def code_that_loses_numbers(
    model: nn.Module, images: Tensor, *, autocast: Callable[[], AbstractContextManager[object]] = nullcontext
) -> str:
    """`position CPE@1a2b3c4d.rotate (position)`, of the first call of users' code that is so, in evaluation, else in training;
    else empty.

    images: [B, C, H, W], finite, normalised, on the model's device. The model is in evaluation mode afterwards.
    """
    names: dict[nn.Module | None, str] = {part: name for name, part in parts_of(model).items()}
    guilty: list[str] = []

    def note(what: str, code: object, inputs: tuple[Any, ...], output: Tensor) -> None:
        part = code if isinstance(code, nn.Module) else None
        tensors = [*(x for x in inputs if isinstance(x, Tensor)), *(part.parameters() if part is not None else ())]
        if not output.isfinite().all() and all(t.isfinite().all() for t in tensors):
            guilty.append(f"{what} ({names[part]})" if part in names else what)

    for training in (False, True):
        # This only explains; that something is wrong is known.
        with suppress(ValueError, RuntimeError), seeded(0), torch.no_grad(), autocast(), outputs_of_users_code(note):
            model.train(training)(images)
        model.eval()
        if guilty:
            return guilty[0]
    return ""
