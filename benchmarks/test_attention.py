"""Which attention kernel is fastest, at how many tokens and in which dtype, forward alone and with its backward?"""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from einops import rearrange

from vitbench.config import ViTConfig
from vitbench.kernels import install
from vitbench.kernels.attention_choice import AttentionShape, why_not
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


@pytest.mark.parametrize("kernel", get_args(Kernel))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("passes", PASSES)
def test_attention_layer(timed, device, tokens, kernel, dtype, passes):
    """With its two linear layers, which a kernel of `auto` may take in with it."""
    skip_unless_here(kernel, dtype, tokens, device)
    batch, width = max(1, ROWS // tokens), HEADS * HEAD_DIM
    layer = install(Attention(ViTConfig(width=width, num_heads=HEADS))).to(device.torch_device)
    layer.kernel = kernel
    parameters = list(layer.parameters())
    x = torch.randn(batch, tokens, width, dtype=DTYPES[dtype], device=device.torch_device, requires_grad=True)
    ones = torch.ones_like(x)

    def without_gradients() -> None:
        with torch.inference_mode(), device.autocast(dtype):
            layer(x)

    def with_gradients() -> None:
        with device.autocast(dtype):
            out = layer(x)
        torch.autograd.grad(out, [x, *parameters], ones)

    call = without_gradients if passes == "forward" else with_gradients
    timed(call, group=f"attention layer, {PASSES[passes]}, {tokens} tokens × {batch}", label=f"{kernel} {dtype}")
