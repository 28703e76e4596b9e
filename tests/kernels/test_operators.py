"""Native operators against torch's own in float64, on the same bf16 values."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vitbench.kernels import native, operators

BF16 = torch.finfo(torch.bfloat16).eps

needs_native = pytest.mark.skipif(native.state()[0] is None, reason=f"no native operators: {native.state()[1]}")


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype).requires_grad_()


def exact(*tensors: Tensor | None) -> list[Tensor | None]:
    """Leaves of the same values in float64."""
    return [None if t is None else t.detach().double().requires_grad_() for t in tensors]


def assert_close(given: Tensor, expected: Tensor, *, roundings: float) -> None:
    """Within so many roundings to bf16 of the largest value."""
    error = (given.double() - expected).abs().max().item()
    assert error <= roundings * BF16 * expected.abs().max().item()


def assert_same_gradients(
    out: Tensor, reference: Tensor, given: list[Tensor | None], expected: list[Tensor | None], *, roundings: float
) -> None:
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(99)).bfloat16()
    (out.double() * weights).sum().backward()
    (reference * weights).sum().backward()
    for of_given, of_expected in zip(given, expected, strict=True):
        if of_given is not None:
            assert_close(of_given.grad, of_expected.grad, roundings=roundings)


ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": F.relu,
}


@needs_native
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("rows", "width", "hidden"), [(1, 16, 48), (7, 64, 80), (600, 96, 256)])
def test_mlp_is_that_of_float64(activation, rows, width, hidden):
    x, w1, b1 = random(rows, width, dtype=torch.bfloat16), random(hidden, width, seed=1), random(hidden, seed=2)
    w2 = random(width, hidden, seed=3)
    arguments = exact(x, w1.bfloat16(), b1, w2.bfloat16())
    out = operators.mlp(x, w1, b1, w2, activation)
    reference = F.linear(ACTIVATIONS[activation](F.linear(*arguments[:3])), arguments[3])
    assert_close(out, reference.detach(), roundings=1)
    assert_same_gradients(out, reference, [x, w1, b1, w2], arguments, roundings=2)


@needs_native
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_nonlinearity_is_exact_to_bf16_from_minus_12_to_12(activation):
    x = torch.linspace(-12, 12, 4801).bfloat16()
    # One hidden unit per column of the identity: what goes in comes out through the nonlinearity alone.
    identity = torch.eye(16)
    rows = F.pad(x[:, None], (0, 15))
    out = operators.mlp(rows, identity, torch.zeros(16), identity, activation)[:, 0]
    expected = ACTIVATIONS[activation](x.double())
    assert torch.all((out.double() - expected).abs() <= 0.51 * BF16 * expected.abs() + 1e-7)


@needs_native
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("read", [slice(None), slice(0, 1), slice(2, None)], ids=str)
@pytest.mark.parametrize(
    ("images", "tokens", "heads", "head_dim"),
    [(1, 4, 1, 16), (3, 65, 3, 64), (2, 33, 2, 80), (2, 257, 2, 32), (1, 1025, 1, 64)],
)
def test_self_attention_is_that_of_float64(images, tokens, heads, head_dim, read, bias):
    width = heads * head_dim
    x = random(images, tokens, width, dtype=torch.bfloat16)
    w_qkv, b_qkv = random(3 * width, width, seed=1), random(3 * width, seed=2) if bias else None
    w_proj = random(width, width, seed=3)
    with torch.no_grad():
        w_qkv *= width**-0.5
    x64, w64, b64, p64 = arguments = exact(x, w_qkv.bfloat16(), b_qkv, w_proj.bfloat16())
    out = operators.self_attention(x, w_qkv, b_qkv, w_proj, num_heads=heads, read=read)
    q, k, v = rearrange(F.linear(x64, w64, b64), "b n (three h d) -> three b h n d", three=3, h=heads)
    attended = F.scaled_dot_product_attention(q[:, :, read], k, v)
    reference = F.linear(rearrange(attended, "b h n d -> b n (h d)"), p64)
    assert_close(out, reference.detach(), roundings=3)
    assert_same_gradients(out, reference, [x, w_qkv, b_qkv, w_proj], arguments, roundings=6)


@needs_native
@pytest.mark.parametrize("read", [slice(None), slice(0, 1), slice(2, None)], ids=str)
@pytest.mark.parametrize(("images", "tokens", "heads", "head_dim"), [(3, 65, 3, 64), (2, 33, 2, 80)])
def test_rotated_self_attention_is_that_of_float64(images, tokens, heads, head_dim, read):
    """Pairs of neighbours as complex numbers, each times e^(i angle), as Su et al. 2021 have it."""
    width = heads * head_dim
    x = random(images, tokens, width, dtype=torch.bfloat16)
    w_qkv, b_qkv, w_proj = random(3 * width, width, seed=1), random(3 * width, seed=2), random(width, width, seed=3)
    with torch.no_grad():
        w_qkv *= width**-0.5
    angles = 3 * torch.randn(tokens, head_dim // 2, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    turns = turns_of(angles)
    x64, w64, b64, p64 = arguments = exact(x, w_qkv.bfloat16(), b_qkv, w_proj.bfloat16())
    out = operators.self_attention(
        x, w_qkv, b_qkv, w_proj, num_heads=heads, read=read, between=operators.Between(turns=turns)
    )
    q, k, v = rearrange(F.linear(x64, w64, b64), "b n (three h d) -> three b h n d", three=3, h=heads)
    q, k = (
        torch.view_as_real(
            torch.view_as_complex(one.unflatten(-1, (-1, 2))) * torch.polar(torch.ones_like(angles), angles)
        ).flatten(-2)
        for one in (q, k)
    )
    attended = F.scaled_dot_product_attention(q[:, :, read], k, v)
    reference = F.linear(rearrange(attended, "b h n d -> b n (h d)"), p64)
    assert_close(out, reference.detach(), roundings=3)
    assert_same_gradients(out, reference, [x, w_qkv, b_qkv, w_proj], arguments, roundings=6)


def attention_of_float64(
    x: Tensor,
    w_qkv: Tensor,
    bias: Tensor,
    w_proj: Tensor,
    *,
    heads: int,
    read: slice,
    norms: Tensor | None = None,
    eps: float = 0.0,
    angles: Tensor | None = None,
    table: Tensor | None = None,
    prefix: int = 0,
) -> Tensor:
    """With all that may stand between: LayerNorm and rotation of queries and keys, then Shaw's logits pair by pair."""
    q, k, v = rearrange(F.linear(x, w_qkv, bias), "b n (three h d) -> three b h n d", three=3, h=heads)
    if norms is not None:
        d = q.shape[-1]
        q, k = F.layer_norm(q, (d,), norms[0], norms[1], eps), F.layer_norm(k, (d,), norms[2], norms[3], eps)
    if angles is not None:
        turn = torch.polar(torch.ones_like(angles), angles)
        q, k = (
            torch.view_as_real(torch.view_as_complex(rows.unflatten(-1, (-1, 2)).contiguous()) * turn).flatten(-2)
            for rows in (q, k)
        )
    logits = q @ k.transpose(-1, -2)
    if table is not None:
        embeddings = rearrange(table, "offsets (h d) -> h offsets d", h=heads)
        n = x.shape[1] - prefix
        places = torch.arange(n)
        offsets = places[None, :] - places[:, None] + n - 1  # of key j, as query i sees it
        of_pairs = torch.einsum("bhid,hijd->bhij", q[:, :, prefix:], embeddings[:, offsets])
        logits = logits + F.pad(of_pairs, (prefix, 0, prefix, 0))
    attended = (logits * q.shape[-1] ** -0.5).softmax(-1)[:, :, read] @ v
    return F.linear(rearrange(attended, "b h n d -> b n (h d)"), w_proj)


def turns_of(angles: Tensor) -> Tensor:
    cos, sin = angles.cos().float(), angles.sin().float()
    return torch.stack([torch.stack([cos, cos], -1).flatten(1), torch.stack([-sin, sin], -1).flatten(1)])


WITHIN_ATTENTION = {
    "normed": ("norms",),
    "relative": ("table",),
    "normed, rotated": ("norms", "angles"),
    "normed, relative": ("norms", "table"),
}


@needs_native
@pytest.mark.parametrize("within", WITHIN_ATTENTION.values(), ids=WITHIN_ATTENTION)
@pytest.mark.parametrize("read", [slice(None), slice(0, 1), slice(2, None), slice(3, 10)], ids=str)
@pytest.mark.parametrize(
    ("images", "tokens", "prefix", "heads", "head_dim"),
    [(3, 65, 1, 3, 64), (2, 33, 0, 2, 80), (2, 70, 20, 1, 16), (1, 11, 9, 2, 32), (1, 300, 4, 1, 128)],
)
def test_what_is_within_attention_is_that_of_float64(images, tokens, prefix, heads, head_dim, read, within):
    width, eps = heads * head_dim, 1e-6
    x = random(images, tokens, width, dtype=torch.bfloat16)
    w_qkv, b_qkv, w_proj = random(3 * width, width, seed=1), random(3 * width, seed=2), random(width, width, seed=3)
    with torch.no_grad():
        w_qkv *= width**-0.5
    norms = random(4, head_dim, seed=5) if "norms" in within else None
    table = random(2 * (tokens - prefix) - 1, width, seed=6) if "table" in within else None
    generator = torch.Generator().manual_seed(4)
    angles = 3 * torch.randn(tokens, head_dim // 2, dtype=torch.float64, generator=generator)
    angles = angles if "angles" in within else None
    between = operators.Between(None if angles is None else turns_of(angles), norms, eps, table, prefix)
    out = operators.self_attention(x, w_qkv, b_qkv, w_proj, num_heads=heads, read=read, between=between)
    x64, w64, b64, p64, norms64, _ = exact(x, w_qkv.bfloat16(), b_qkv, w_proj.bfloat16(), norms, table)
    (table64,) = exact(None if table is None else table.bfloat16())
    reference = attention_of_float64(
        x64,
        w64,
        b64,
        p64,
        heads=heads,
        read=read,
        norms=norms64,
        eps=eps,
        angles=angles,
        table=table64,
        prefix=prefix,
    )
    assert_close(out, reference.detach(), roundings=3)
    arguments = [x64, w64, b64, p64, norms64, table64]
    assert_same_gradients(out, reference, [x, w_qkv, b_qkv, w_proj, norms, table], arguments, roundings=6)


@needs_native
@pytest.mark.parametrize(("rows", "width"), [(1, 16), (130, 48), (1000, 192)])
def test_residual_sums_and_norms_are_those_of_float64(rows, width):
    stream, branch = random(rows, width), random(rows, width, seed=1, dtype=torch.bfloat16)
    branch_bias, weight, bias = random(width, seed=2), random(width, seed=3), random(width, seed=4)
    given = [stream, branch, branch_bias, weight, bias]
    s, b, c, w, v = expected = exact(*given)
    total, out = operators.add_norm(*given, 1e-6)
    total = operators.add(total, out, branch_bias)
    first = s + b + c
    normed = F.layer_norm(first, (width,), w, v, 1e-6)
    reference = first + normed + c
    assert total.dtype == torch.float32
    assert_close(out, normed.detach(), roundings=0.51)
    assert_same_gradients(total, reference, given, expected, roundings=2)


@needs_native
def test_a_norm_alone_is_that_of_float64():
    given = [random(70, 32), random(32, seed=1), random(32, seed=2)]
    expected = exact(*given)
    out = operators.norm(*given, 1e-6)
    reference = F.layer_norm(expected[0], (32,), *expected[1:], 1e-6)
    assert_close(out, reference.detach(), roundings=0.51)
    assert_same_gradients(out, reference, given, expected, roundings=1)


@needs_native
@pytest.mark.parametrize("variable", ["OMP_DYNAMIC=true", "OMP_THREAD_LIMIT=1", "OMP_NUM_THREADS=3"])
def test_gradients_are_the_same_with_fewer_or_more_threads_than_cores(variable):
    program = (
        "import torch; from vitbench.kernels import operators\n"
        "torch.manual_seed(0); torch.set_num_threads(3)\n"
        "x = torch.randn(900, 64).bfloat16(); w = torch.randn(128, 64, requires_grad=True)\n"
        "v = torch.randn(64, 128)\n"
        "operators.mlp(x, w, torch.zeros(128), v, 'gelu').sum().backward(); print(w.grad.abs().sum().item())"
    )
    name, _, value = variable.partition("=")
    said = [
        subprocess.run(
            [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True, timeout=120
        ).stdout
        for env in ({**os.environ, name: value}, {**os.environ, "OMP_NUM_THREADS": "1"})
    ]
    assert float(said[0]) == pytest.approx(float(said[1]), rel=1e-4)


@needs_native
def test_running_out_of_memory_is_an_error_that_a_row_can_tell():
    # Packing a weight of 4096 × 4096 takes 32 MiB, and 16 are left.
    program = (
        "import resource, torch; from vitbench.kernels import operators, native\n"
        "from vitbench.device import is_out_of_memory\n"
        "x, w = torch.zeros(16, 4096, dtype=torch.bfloat16), torch.zeros(4096, 4096); bias = torch.zeros(4096)\n"
        "operators.mlp(x[:, :64], w[:64, :64].contiguous(), bias[:64], w[:64, :64].contiguous(), 'gelu')\n"
        "size = 4096 * int(open('/proc/self/statm').read().split()[0])\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size + 2**24, size + 2**24))\n"
        "try: operators.mlp(x, w, bias, w, 'gelu')\n"
        "except MemoryError as error: print(is_out_of_memory(error), error)"
    )
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "True out of memory in the native operator mlp"
