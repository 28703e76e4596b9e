"""Do all kernels compute softmax(q·kᵀ/√d + bias)·v, and does the layer around them do what its switches say?"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from timm.layers.attention import AttentionRope

from tests.models.small_models import images_for, small_model
from vitbench.models.attention import attention

KERNELS = ["fused", "matmul", "auto", "math"]
"""Those that a CPU has, in float64 and with a bias."""


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def formula(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor | None = None) -> np.ndarray:
    """Vaswani et al. 2017, eq. 1, in NumPy."""
    logits = np.einsum("bhid,bhjd->bhij", q.numpy(), k.numpy()) / math.sqrt(q.shape[-1])
    weights = np.exp(logits if bias is None else logits + bias.numpy())
    return np.einsum("bhij,bhjd->bhid", weights / weights.sum(axis=-1, keepdims=True), v.numpy())


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("bias_shape", [None, (2, 3, 7, 7), (3, 7, 7), (1, 1, 7, 7)])
def test_every_kernel_is_the_formula(kernel, bias_shape):
    q, k, v = (normal(2, 3, 7, 4, seed=i) for i in range(3))
    bias = None if bias_shape is None else normal(*bias_shape, seed=3)
    result = attention(q, k, v, bias=bias, kernel=kernel)
    np.testing.assert_allclose(result.numpy(), formula(q, k, v, bias), rtol=0, atol=1e-13)


@pytest.mark.parametrize("kernel", KERNELS)
def test_one_query_may_attend_to_many_keys(kernel):
    q, k, v = normal(2, 3, 1, 4), normal(2, 3, 9, 4, seed=1), normal(2, 3, 9, 4, seed=2)
    np.testing.assert_allclose(attention(q, k, v, kernel=kernel).numpy(), formula(q, k, v), rtol=0, atol=1e-13)


def test_kernels_have_equal_gradients():
    gradients = []
    for kernel in KERNELS:
        inputs = [normal(2, 3, 7, 4, seed=i).requires_grad_() for i in range(3)] + [normal(2, 3, 7, 7).requires_grad_()]
        attention(*inputs[:3], bias=inputs[3], kernel=kernel).square().sum().backward()
        gradients.append([x.grad for x in inputs])
    for other in gradients[1:]:
        for a, b in zip(gradients[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
def test_dropout_leaves_out_weights_and_scales_up_the_rest(kernel):
    # With one key its weight is 1; at probability ½ it becomes 0 or 1 / (1 − ½).
    torch.manual_seed(0)
    one = torch.ones(64, 4, 1, 1)
    result = attention(one, one, one, dropout=0.5, kernel=kernel)
    assert set(result.unique().tolist()) == {0.0, 2.0}
    assert 0.4 < result.mean() / 2 < 0.6


@pytest.mark.parametrize("changes", [{}, {"position": "relative", "position_site": "every_layer"}, {"qk_norm": True}])
def test_a_model_does_not_depend_on_the_kernel(changes):
    model = small_model(**changes)
    images, logits = images_for(model.config), []
    for kernel in KERNELS:
        for block in model.blocks:
            block.attention.kernel = kernel
        logits.append(model(images))
    for other in logits[1:]:
        torch.testing.assert_close(logits[0], other, rtol=0, atol=1e-12)


@pytest.mark.against("torch", "attention and patches, with MultiheadAttention and conv2d", "1e-12")
def test_the_layer_is_multi_head_attention_of_torch():
    model = small_model()
    layer, x = model.blocks[0].attention, normal(2, 7, 16)
    reference = torch.nn.MultiheadAttention(16, 2, batch_first=True, dtype=torch.float64)
    reference.load_state_dict(
        {
            "in_proj_weight": layer.qkv.weight,
            "in_proj_bias": layer.qkv.bias,
            "out_proj.weight": layer.proj.weight,
            "out_proj.bias": layer.proj.bias,
        }
    )
    torch.testing.assert_close(layer(x), reference(x, x, x, need_weights=False)[0], rtol=0, atol=1e-12)


@pytest.mark.against("timm", "attention with rotary positions, with AttentionRope", "1e-9, 1e-8")
@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize(
    "changes", [{"pool": "gap"}, {}, {"num_registers": 2}], ids=["no prefix", "class", "registers"]
)
def test_the_layer_with_rotary_positions_is_that_of_timm(changes: dict[str, Any], qk_norm):
    model = small_model(position="rope_2d", position_site="every_layer", qk_norm=qk_norm, **changes)
    config, layer = model.config, model.blocks[0].attention
    theirs = AttentionRope(
        16,
        num_heads=2,
        num_prefix_tokens=config.num_prefix_tokens,
        qk_norm=qk_norm,
        norm_layer=partial(torch.nn.LayerNorm, eps=config.norm_eps),
        rotate_half=False,  # timm's name for pairs of neighbouring channels
    ).double()
    theirs.load_state_dict(layer.state_dict())
    y, x = np.divmod(np.arange(6), 3)
    frequencies = np.array([1.0, 0.1])  # 100^(−k/2): 2 pairs of channels an axis
    angles = torch.from_numpy(np.concatenate([np.outer(x, frequencies), np.outer(y, frequencies)], axis=1))
    # Ours are stored in float32, which would hide everything below 1e-7.
    for name, exact in (("cos", angles.cos()), ("sin", angles.sin())):
        torch.testing.assert_close(getattr(layer.rotary, name), exact, rtol=0, atol=1e-7)
        setattr(layer.rotary, name, exact)
    sin_and_cos = torch.cat([f.repeat_interleave(2, dim=1) for f in (angles.sin(), angles.cos())], dim=1)

    tokens = [normal(2, config.num_prefix_tokens + 6, 16).requires_grad_() for _ in range(2)]
    outputs = layer(tokens[0]), theirs(tokens[1], rope=sin_and_cos)
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-9)
    for output in outputs:
        (output * normal(*output.shape, seed=1)).sum().backward()
    torch.testing.assert_close(tokens[0].grad, tokens[1].grad, rtol=0, atol=1e-8)
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs.get_parameter(name).grad, rtol=0, atol=1e-8)


def test_qkv_bias_can_be_left_out():
    assert small_model().blocks[0].attention.qkv.bias.shape == (48,)
    assert small_model(qkv_bias=False).blocks[0].attention.qkv.bias is None


def test_qk_norm_makes_logits_independent_of_the_scale_of_q_and_k():
    for qk_norm in (False, True):
        model = small_model(qk_norm=qk_norm, qkv_bias=False)
        layer, x = model.blocks[0].attention, normal(2, 7, 16)
        before = layer(x)
        with torch.no_grad():
            layer.qkv.weight[:32] *= 100  # rows of q, then of k
        # To within the norm's ε of 1e-6 beside a variance of about 1.
        assert torch.allclose(layer(x), before, rtol=0, atol=1e-4) == qk_norm


def test_attention_dropout_is_live_in_training_and_off_in_evaluation():
    model, without = small_model(attention_dropout=0.5), small_model()
    images = images_for(model.config)
    assert torch.equal(model(images), without(images))
    torch.manual_seed(0)
    first = model.train()(images)
    assert not torch.equal(first, model(images)) and not torch.equal(first, without.train()(images))


@pytest.mark.parametrize(
    ("dtype", "tokens", "kernel"),
    [
        (torch.float32, 256, "matmul"),
        (torch.float32, 257, "fused"),
        (torch.float64, 256, "matmul"),
        (torch.float64, 257, "fused"),
        (torch.bfloat16, 257, "matmul"),
        (torch.bfloat16, 1025, "matmul"),
        (torch.bfloat16, 1026, "fused"),
    ],
)
def test_few_tokens_are_attended_to_by_products_where_gradients_are_needed(monkeypatch, dtype, tokens, kernel):
    """By what is called: torch's fused kernel is counted, products are not."""
    fused = []
    real = torch.nn.functional.scaled_dot_product_attention

    def counted(*arguments, **options):
        fused.append(1)
        return real(*arguments, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    q = torch.ones(1, 1, tokens, 2, dtype=dtype)
    attention(q, q, q)
    assert fused == ([1] if kernel == "fused" else [])
    with torch.no_grad():
        attention(q, q, q)
    assert len(fused) == 1 + (kernel == "fused")
