"""Which attention kernel is fastest, at how many tokens and in which dtype, forward alone and with its backward?"""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from einops import rearrange
from torch import nn

from vitbench.config import ViTConfig
from vitbench.kernels import install
from vitbench.kernels.attention_choice import AttentionShape, why_not
from vitbench.models import build_model
from vitbench.models.attention import Attention, Kernel, attention

KERNELS = [kernel for kernel in get_args(Kernel) if kernel != "auto"]
PASSES = {"forward": "forward", "both": "forward and backward"}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
TOKENS, MANY_TOKENS = (17, 65, 197, 577), (1025, 3137)
"""Micro/2 on 8 pixels, patch 4 on 32, patch 16 on 224 and on 384; then, with --full, patch 7 and patch 4 on 224."""
HEADS, HEAD_DIM = 3, 64
ROWS = 2048
"""Tokens of a batch, about."""


def skip_unless_here(kernel, dtype, tokens, device):
    """A CPU has no cuDNN, and a GPU no flash kernel in float32."""
    if kernel != "auto" and (
        reason := why_not(kernel, AttentionShape(1, HEADS, tokens, tokens, HEAD_DIM), dtype, device)
    ):
        pytest.skip(f"{kernel} is not here: {reason}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    tokens = (*TOKENS, *MANY_TOKENS) if metafunc.config.getoption("--full") else TOKENS
    metafunc.parametrize("tokens", tokens)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("passes", PASSES)
def test_attention(timed, device, tokens, kernel, dtype, passes):
    skip_unless_here(kernel, dtype, tokens, device)
    batch = max(1, ROWS // tokens)
    # As a linear layer gives them: one tensor, of which q, k and v are views.
    shape = (batch, tokens, 3, HEADS, HEAD_DIM)
    qkv = torch.randn(shape, dtype=DTYPES[dtype], device=device.torch_device, requires_grad=True)
    ones = torch.ones(batch, HEADS, tokens, HEAD_DIM, dtype=qkv.dtype, device=qkv.device)

    def forward() -> torch.Tensor:
        q, k, v = rearrange(qkv, "b n three h d -> three b h n d")
        return attention(q, k, v, kernel=kernel)

    def without_gradients() -> None:
        with torch.inference_mode():
            forward()

    def with_gradients() -> None:
        torch.autograd.grad(forward(), qkv, ones)

    call = without_gradients if passes == "forward" else with_gradients
    timed(call, group=f"attention, {PASSES[passes]}, {tokens} tokens × {batch}", label=f"{kernel} {dtype}")


def time_layer(
    timed, device, layer: nn.Module, *, tokens: int, dtype: str, passes: str, group: str, label: str
) -> None:
    """Forward alone, or with the backward pass to inputs and parameters."""
    batch, parameters = max(1, ROWS // tokens), list(layer.parameters())
    shape = (batch, tokens, HEADS * HEAD_DIM)
    x = torch.randn(shape, dtype=DTYPES[dtype], device=device.torch_device, requires_grad=True)
    ones = torch.ones_like(x)

    def without_gradients() -> None:
        with torch.inference_mode(), device.autocast(dtype):
            layer(x)

    def with_gradients() -> None:
        with device.autocast(dtype):
            out = layer(x)
        torch.autograd.grad(out, [x, *parameters], ones)

    call = without_gradients if passes == "forward" else with_gradients
    timed(call, group=f"{group}, {PASSES[passes]}, {tokens} tokens × {batch}", label=label)


@pytest.mark.parametrize("kernel", get_args(Kernel))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("passes", PASSES)
def test_attention_layer(timed, device, tokens, kernel, dtype, passes):
    """With its two linear layers, which a kernel of `auto` may take in with it."""
    skip_unless_here(kernel, dtype, tokens, device)
    layer = install(Attention(ViTConfig(width=HEADS * HEAD_DIM, num_heads=HEADS))).to(device.torch_device)
    layer.kernel = kernel
    settings = {"tokens": tokens, "dtype": dtype, "passes": passes}
    time_layer(timed, device, layer, **settings, group="attention layer", label=f"{kernel} {dtype}")


WITHIN = {
    "baseline": {},
    "qk_norm": {"qk_norm": True},
    "relative": {"position": "relative", "position_site": "every_layer"},
    "rope_2d": {"position": "rope_2d", "position_site": "every_layer"},
}


@pytest.mark.parametrize("within", WITHIN)
@pytest.mark.parametrize("passes", PASSES)
def test_what_is_within_an_attention_layer(timed, device, tokens, within, passes):
    """As models have it, in bf16; all tokens but the class token are patches of one row."""
    image_size = {"image_size": (1, tokens - 1), "patch_size": 1}
    config = ViTConfig(width=HEADS * HEAD_DIM, num_heads=HEADS, depth=1, **image_size, **WITHIN[within])
    layer = install(build_model(config)).to(device.torch_device).blocks[0].attention
    settings = {"tokens": tokens, "dtype": "bf16", "passes": passes}
    time_layer(timed, device, layer, **settings, group="within attention", label=within)
