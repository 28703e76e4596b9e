"""The parts of a block as native operators, forward and backward: norms on a residual stream, MLP, self-attention.

For tensors that `choice.usable` accepts. The residual stream [..., D] is float32, branches are bf16, parameters and their
gradients float32. A branch leaves out its last bias, which is added where it joins the stream. Second derivatives cannot
be taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from vitbench.kernels.native import LANES, Shape, call

ACTIVATIONS = {"gelu": 0, "gelu_tanh": 1, "quick_gelu": 2, "relu": 3}
"""The activations that `mlp` computes, and their numbers in native.cpp."""

MaybeTensor = Tensor | None


def norm(stream: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """LayerNorm of the stream [..., D], in bf16."""
    result: Tensor = _Norm.apply(stream, weight, bias, eps)
    return result


def add_norm(
    stream: Tensor, branch: Tensor, branch_bias: MaybeTensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """(stream + branch + its bias, LayerNorm of that), in one pass forward and one backward."""
    result: tuple[Tensor, Tensor] = _AddNorm.apply(stream, branch, branch_bias, weight, bias, eps)
    return result


def add(stream: Tensor, branch: Tensor, branch_bias: MaybeTensor) -> Tensor:
    """stream + branch + its bias."""
    result: Tensor = _Add.apply(stream, branch, branch_bias)
    return result


def mlp(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, activation: str) -> Tensor:
    """f(x W1ᵀ + b1) W2ᵀ. x: bf16 [..., D], W1: [hidden, D], W2: [D', hidden] → bf16 [..., D'].

    The input of f is kept for the backward pass, in bf16; its output is computed again.
    """
    keep = torch.is_grad_enabled()
    result: Tensor = _MLP.apply(x, weight1, bias1, weight2, ACTIVATIONS[activation], keep)
    return result


@dataclass(frozen=True)
class Between:
    """What `self_attention` does to queries, keys and logits besides. All tensors are float32."""

    turns: MaybeTensor = None
    """[2, N, d] rotates queries and keys (Su et al. 2021): cosines and sines for the channels of a head, as `blocks.turns_of`
    has them.
    """
    norms: MaybeTensor = None
    """[4, d]: weight and bias of the LayerNorm of each head's queries, then of its keys, before they are rotated (qk-norm)."""
    norm_eps: float = 0.0
    table: MaybeTensor = None
    """[2n − 1, D]: embeddings of the offsets −(n−1) … n−1 between the n patches, whose products with queries are added to the
    logits (Shaw et al. 2018).
    """
    prefix: int = 0
    """The first tokens, which are no patches and have no offsets."""


def self_attention(
    x: Tensor,
    qkv_weight: Tensor,
    qkv_bias: MaybeTensor,
    proj_weight: Tensor,
    *,
    num_heads: int,
    read: slice = slice(None),
    between: Between = Between(),
) -> Tensor:
    """Multi-head self-attention with its projection (Vaswani et al. 2017). x: bf16 [B, N, D] → bf16 [B, M, D].

    Only the tokens of `read` are queries. Attention weights are kept for the backward pass.
    """
    first, end, step = read.indices(x.shape[1])
    assert step == 1 and first < end, read
    batch, tokens, width = x.shape
    head_dim, (turns, norms, table) = width // num_heads, (between.turns, between.norms, between.table)
    assert turns is None or turns.shape == (2, tokens, head_dim), turns.shape
    assert norms is None or norms.shape == (4, head_dim), norms.shape
    assert table is None or table.shape == (2 * (tokens - between.prefix) - 1, width), table.shape
    shape = Shape(
        batch, tokens, first, end - first, num_heads, head_dim, between.prefix, head_dim**-0.5, between.norm_eps
    )
    keep = torch.is_grad_enabled()
    result: Tensor = _SelfAttention.apply(x, qkv_weight, qkv_bias, proj_weight, turns, norms, table, shape, keep)
    return result


def _rows(x: Tensor) -> int:
    return x.numel() // x.shape[-1]


class _Norm(Function):
    @staticmethod
    def forward(ctx: Any, stream: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        stream = stream.float().contiguous()
        rows, width = _rows(stream), stream.shape[-1]
        out = torch.empty_like(stream, dtype=torch.bfloat16)
        mean, rstd = stream.new_empty(2, rows)
        call("add_norm", stream, None, None, None, out, weight, bias, mean, rstd, rows, width, eps)
        ctx.save_for_backward(stream, weight, mean, rstd)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[MaybeTensor, ...]:
        grad_stream, _, weight_grad, bias_grad, _ = _norm_backward(ctx.saved_tensors, None, grad)
        return grad_stream, weight_grad, bias_grad, None


class _AddNorm(Function):
    @staticmethod
    def forward(
        ctx: Any, stream: Tensor, branch: Tensor, branch_bias: MaybeTensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        stream, branch = stream.float().contiguous(), branch.contiguous()
        rows, width = _rows(stream), stream.shape[-1]
        total, out = torch.empty_like(stream), torch.empty_like(branch)
        mean, rstd = stream.new_empty(2, rows)
        call("add_norm", stream, branch, branch_bias, total, out, weight, bias, mean, rstd, rows, width, eps)
        ctx.save_for_backward(total, weight, mean, rstd)
        return total, out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor, grad: Tensor) -> tuple[MaybeTensor, ...]:
        grad_stream, grad_branch, weight_grad, bias_grad, branch_bias_grad = _norm_backward(
            ctx.saved_tensors, grad_total.contiguous(), grad
        )
        branch_bias_grad = branch_bias_grad if ctx.needs_input_grad[2] else None
        return grad_stream, grad_branch, branch_bias_grad, weight_grad, bias_grad, None


def _norm_backward(saved: tuple[Tensor, ...], grad_total: MaybeTensor, grad: Tensor) -> tuple[MaybeTensor, ...]:
    """Gradients of stream, branch, weight, bias and branch bias; without `grad_total` there is no branch."""
    total, weight, mean, rstd = saved
    grad = grad.contiguous()
    grad_stream = torch.empty_like(total)
    grad_branch = None if grad_total is None else torch.empty_like(grad)
    grads = (grad_stream, grad_branch, *total.new_empty(3, total.shape[-1]))
    call("add_norm_backward", grad_total, grad, total, weight, mean, rstd, *grads, _rows(total), total.shape[-1])
    return grads


class _Add(Function):
    @staticmethod
    def forward(_: Any, stream: Tensor, branch: Tensor, branch_bias: MaybeTensor) -> Tensor:
        stream, branch = stream.float().contiguous(), branch.contiguous()
        total = torch.empty_like(stream)
        rows, width = _rows(stream), stream.shape[-1]
        call("add_norm", stream, branch, branch_bias, total, None, None, None, None, None, rows, width, 0.0)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[MaybeTensor, ...]:
        grad = grad.contiguous()
        grad_branch, bias_grad = torch.empty_like(grad, dtype=torch.bfloat16), grad.new_empty(grad.shape[-1])
        call("add_backward", grad, grad_branch, bias_grad, _rows(grad), grad.shape[-1])
        return grad, grad_branch, bias_grad if ctx.needs_input_grad[2] else None


class _MLP(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, kind: int, keep: bool) -> Tensor:
        x, sizes = x.contiguous(), (_rows(x), x.shape[-1], len(weight1), len(weight2))
        before = x.new_empty(sizes[0], sizes[2]) if keep else None
        out = x.new_empty(*x.shape[:-1], len(weight2))
        ctx.flops = 2 * sizes[0] * (weight1.numel() + weight2.numel())
        call("mlp", x, weight1, bias1, weight2, before, out, *sizes, kind, flops=ctx.flops)
        ctx.save_for_backward(x, before, weight1, weight2)
        ctx.sizes, ctx.kind = sizes, kind
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[MaybeTensor, ...]:
        x, before, weight1, weight2 = ctx.saved_tensors
        grad, grad_x = grad.contiguous(), torch.empty_like(x)
        grads = torch.empty_like(weight1), weight1.new_empty(len(weight1)), torch.empty_like(weight2)
        arguments = (x, before, weight1, weight2, grad, grad_x, *grads)
        call("mlp_backward", *arguments, *ctx.sizes, ctx.kind, flops=2 * ctx.flops)
        return grad_x, *grads, None, None


class _SelfAttention(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        qkv_weight: Tensor,
        qkv_bias: MaybeTensor,
        proj_weight: Tensor,
        turns: MaybeTensor,
        norms: MaybeTensor,
        table: MaybeTensor,
        shape: Shape,
        keep: bool,
    ) -> Tensor:
        x = x.contiguous()
        batch, tokens, width, queries = *x.shape, shape.queries
        out = x.new_empty(batch, queries, width)
        kept: tuple[MaybeTensor, ...] = (None, None, None, None)
        if keep:
            together = queries == tokens  # q, k and v in one tensor; else k and v of all tokens, and q of few
            kept = (
                x.new_empty(batch, tokens, 3 * width if together else 2 * width),
                None if together else torch.empty_like(out),
                torch.empty_like(out),
                x.new_empty(batch, shape.heads, queries, -(-tokens // LANES) * LANES),
            )
        ctx.flops = 4 * batch * width * (width * (queries + tokens) + queries * tokens)
        if table is not None:
            patches = range(max(shape.first, shape.prefix), shape.first + queries)  # which are queries
            ctx.flops += 2 * batch * len(patches) * table.numel()
        arguments = (x, qkv_weight, qkv_bias, proj_weight, turns, norms, table, *kept, out)
        call("self_attention", *arguments, shape, flops=ctx.flops)
        ctx.save_for_backward(x, qkv_weight, qkv_bias, proj_weight, turns, norms, table, *kept)
        ctx.shape = shape
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[MaybeTensor, ...]:
        x, qkv_weight, qkv_bias, proj_weight, turns, norms, table, *kept = ctx.saved_tensors
        grad_x, *grads = (
            None if tensor is None else torch.empty_like(tensor)
            for tensor in (x, qkv_weight, qkv_bias, proj_weight, norms, table)
        )
        arguments = (x, qkv_weight, proj_weight, turns, norms, table, *kept, grad.contiguous(), grad_x, *grads)
        call("self_attention_backward", *arguments, ctx.shape, flops=2 * ctx.flops)
        *of_projections, norms_grad, table_grad = grads
        return grad_x, *of_projections, None, norms_grad, table_grad, None, None
