"""CUDA without a GPU: tensors that know their device and shape and hold no numbers (torch's FakeTensorMode).

Whatever meets a tensor on another device raises, as it would on a GPU. torch runs forward passes so, and no backward. What is
read back to the CPU is zeros; where a shape depends on numbers, torch refuses.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from vitbench.data import augment
from vitbench.evaluation import distorted_images

CUDA = torch.device("cuda", 0)
KEPT = (
    augment._scale_and_shift,
    augment._middle_and_deviation,
    distorted_images._noise_pool,
    distorted_images._rotation,
)
"""Functions that keep tensors for the next call, which must get no fake ones."""

SomeModule = TypeVar("SomeModule", bound=nn.Module)


@contextmanager
def fake_cuda() -> Iterator[None]:
    """While entered, all new tensors are fake, and `CUDA` is there; real tensors may not be used."""
    for kept in KEPT:
        kept.cache_clear()
    try:
        with (
            FakeTensorMode(allow_non_fake_inputs=False),
            # Else autocast on CUDA turns itself off where there is no GPU.
            patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False),
            patch("torch.amp.autocast_mode.torch.cuda.is_bf16_supported", lambda: True),
            patch.object(FakeTensor, "pin_memory", lambda tensor: tensor, create=True),
            patch.object(FakeTensor, "numpy", _zeros, create=True),
            patch.object(torch, "bincount", _counts),
        ):
            yield
    finally:
        for kept in KEPT:
            kept.cache_clear()


def _zeros(tensor: Tensor) -> np.ndarray:
    if tensor.device.type != "cpu":
        raise TypeError(f"can't convert {tensor.device} device type tensor to numpy; use Tensor.cpu() first")
    return np.zeros(tuple(tensor.shape), dtype=str(tensor.dtype).removeprefix("torch."))


def _counts(tensor: Tensor, *, minlength: int) -> Tensor:
    """Of levels below `minlength`, as augmentation counts them."""
    return torch.zeros(minlength, dtype=torch.int64, device=tensor.device)


def placed(model: SomeModule, device: torch.device) -> SomeModule:
    """The model with its parameters and buffers on `device`, without numbers; what it keeps elsewhere stays where it is."""
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = _like(tensor, device)
    return model


def _like(tensor: Tensor, device: torch.device) -> Tensor:
    empty = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
