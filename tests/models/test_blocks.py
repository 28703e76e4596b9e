"""Is the encoder block what its factors say, and is what is random off in evaluation?"""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from scipy.special import erf, expit

from tests.models.small_models import images_for, num_parameters, small_config, small_model
from vitbench.config import Activation
from vitbench.models import build_model
from vitbench.models.blocks import LayerScale


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


NONLINEARITIES = {
    "gelu": lambda x: x * (1 + erf(x / np.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2,
    "quick_gelu": lambda x: x * expit(1.702 * x),
    "relu": lambda x: np.maximum(x, 0),
    "swiglu": lambda x: x[..., :32] / (1 + np.exp(-x[..., :32])) * x[..., 32:],
}


def test_every_nonlinearity_has_a_formula_here():
    assert set(NONLINEARITIES) == set(get_args(get_args(Activation)[0]))


@pytest.mark.against("scipy", "the MLP with every nonlinearity, from erf and expit", "1e-12")
@pytest.mark.parametrize("activation", NONLINEARITIES)
def test_the_mlp_is_its_formula(activation):
    mlp, x = small_model(activation=activation).blocks[0].mlp, normal(2, 7, 16)
    w1, b1, w2, b2 = (p.detach().numpy() for p in (mlp.fc1.weight, mlp.fc1.bias, mlp.fc2.weight, mlp.fc2.bias))
    assert w1.shape == (64 if activation == "swiglu" else 32, 16) and w2.shape == (16, 32)
    expected = NONLINEARITIES[activation](x.numpy() @ w1.T + b1) @ w2.T + b2
    np.testing.assert_allclose(mlp(x).detach().numpy(), expected, rtol=0, atol=1e-12)


def test_swiglu_costs_one_more_first_layer():
    assert num_parameters(small_model(activation="swiglu")) - num_parameters(small_model()) == 3 * (16 * 32 + 32)


def test_mlp_ratio_gives_the_hidden_width():
    assert small_model(mlp_ratio=1.5).blocks[0].mlp.fc1.out_features == 24


def test_layer_scale_is_two_vectors_a_block_that_start_at_its_value():
    model = build_model(small_config(layer_scale=0.25))
    scales = [m.gamma for m in model.modules() if isinstance(m, LayerScale)]
    assert len(scales) == 2 * 3 and all(torch.equal(s, torch.full((16,), 0.25)) for s in scales)
    assert num_parameters(model) - num_parameters(small_model()) == 2 * 3 * 16


def test_a_block_with_layer_scale_adds_scaled_branches():
    block, x = small_model(layer_scale=0.25).blocks[0], normal(2, 7, 16)
    y = x + block.attention(block.norm1(x)) * block.scale1.gamma
    torch.testing.assert_close(block(x), y + block.mlp(block.norm2(y)) * block.scale2.gamma, rtol=0, atol=1e-12)


def test_qk_norm_is_a_norm_for_q_and_one_for_k_over_the_channels_of_a_head():
    assert num_parameters(small_model(qk_norm=True)) - num_parameters(small_model()) == 3 * 2 * 2 * 8


def test_no_proj_bias_is_one_vector_a_block_fewer_and_is_a_bias_of_zero():
    plain, model = small_model(), small_model(proj_bias=False)
    assert num_parameters(plain) - num_parameters(model) == 3 * 16
    assert model.blocks[0].attention.proj.bias is None and plain.blocks[0].attention.proj.bias.shape == (16,)
    state, images = plain.state_dict(), images_for(model.config)
    for name, value in model.state_dict().items():
        state[name] = value
    for i in range(3):
        state[f"blocks.{i}.attention.proj.bias"] = torch.zeros(16)
    before = plain(images)
    plain.load_state_dict(state)
    torch.testing.assert_close(plain(images), model(images), rtol=0, atol=1e-12)
    assert (before - plain(images)).abs().max() > 1e-3


@pytest.mark.parametrize("changes", [{}, {"num_registers": 2}, {"position_site": "every_layer"}, {"position": "none"}])
def test_pre_norm_is_a_layer_norm_of_all_tokens_with_their_places_before_the_first_block(changes):
    plain, model = small_model(**changes), small_model(**changes, pre_norm=True)
    # A scale and a shift more, the bias of the stem's projection fewer (Radford et al. 2021, CLIP).
    assert num_parameters(model) - num_parameters(plain) == 2 * 16 - 16
    assert model.stem.proj.bias is None
    inputs = []
    for block in model.blocks[:2]:
        block.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    images = images_for(model.config)
    logits = model(images)
    prefix = [p.expand(2, *p.shape) for p in (model.class_token, model.registers) if p is not None]
    tokens = torch.cat([*prefix, model.stem(images)], dim=1)
    tokens = tokens if model.position is None else tokens + model.position.tables[0]()
    centred = tokens - tokens.mean(dim=-1, keepdim=True)
    normed = centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt()
    expected = normed * model.pre_norm.weight + model.pre_norm.bias
    torch.testing.assert_close(inputs[0], expected, rtol=0, atol=1e-12)
    second = model.blocks[0](expected)
    second = second + model.position.tables[1]() if "position_site" in changes else second
    torch.testing.assert_close(inputs[1], second, rtol=0, atol=1e-11)
    model.pre_norm = torch.nn.Identity()
    assert (model(images) - logits).abs().max() > 1e-3


@pytest.mark.parametrize("stem", [{"stem": "patch_norm"}, {"stem": "conv"}, {"stem": "resnet", "stem_layers": (1,)}])
def test_pre_norm_takes_the_bias_of_every_stem_s_projection(stem):
    plain, model = small_model(**stem), small_model(**stem, pre_norm=True)
    assert num_parameters(model) - num_parameters(plain) == 2 * 16 - 16
    assert model.stem.proj.bias is None and plain.stem.proj.bias is not None


def test_norm_eps_is_the_epsilon_of_every_layer_norm_and_changes_the_logits():
    everywhere = {"stem": "patch_norm", "pre_norm": True, "qk_norm": True, "pool": "map"}
    model, other = small_model(**everywhere, norm_eps=0.1), small_model(**everywhere)
    for of, eps in ((model, 0.1), (other, 1e-6)):
        norms = [m.eps for m in of.modules() if isinstance(m, torch.nn.LayerNorm)]
        assert norms == [eps] * (2 + 1 + 3 * 4 + 1 + 1)  # the stem's, the first, four a block, the last, the pooling's
    images = images_for(model.config)
    assert (model(images) - other(images)).abs().max() > 1e-3
    norm, x = model.blocks[0].norm1, normal(2, 7, 16)
    x = x - x.mean(dim=-1, keepdim=True)
    expected = x / (x.square().mean(dim=-1, keepdim=True) + 0.1).sqrt() * norm.weight + norm.bias
    torch.testing.assert_close(norm(x), expected, rtol=0, atol=1e-13)


def test_no_qkv_bias_is_three_vectors_a_block_fewer():
    assert num_parameters(small_model()) - num_parameters(small_model(qkv_bias=False)) == 3 * 3 * 16


@pytest.mark.parametrize("field", ["dropout", "attention_dropout", "drop_path"])
def test_what_drops_is_live_in_training_off_in_evaluation_and_has_no_parameters(field):
    model, without = small_model(**{field: 0.5}), small_model()
    images = images_for(model.config, 8)
    assert torch.equal(model(images), without(images))
    model.train()
    torch.manual_seed(0)
    first, second = model(images), model(images)
    torch.manual_seed(0)
    again = model(images)
    assert not torch.equal(first, second) and torch.equal(first, again)
    assert not torch.equal(first, without.train()(images))
    assert num_parameters(model) == num_parameters(without)


def test_dropout_acts_after_position_and_after_each_layer_of_a_block():
    # Vaswani et al. 2017, section 5.4, as in timm's pos_drop, proj_drop and the two of the MLP.
    model = small_model(dropout=0.5).train()
    zeros = []
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.register_forward_hook(lambda m, args, out: zeros.append((out == 0).double().mean().item()))
    torch.manual_seed(0)
    model(images_for(model.config, 8))
    assert len(zeros) == 1 + 3 * 3 and all(0.3 < share < 0.7 for share in zeros)


def test_drop_path_rises_linearly_from_0_in_the_first_block():
    # Huang et al. 2016, eq. 4, as in timm: linspace(0, rate, depth).
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for block in small_model(depth=4, drop_path=0.3).blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_drop_path_leaves_out_whole_branches_of_whole_images():
    block = small_model(depth=2, drop_path=0.5).blocks[1].train()
    torch.manual_seed(0)
    x = normal(64, 7, 16)
    branch = (block.drop_path(x) / x).flatten(1)
    assert all(len(row.unique()) == 1 for row in branch.round(decimals=9)) and set(
        branch.round().unique().tolist()
    ) == {0.0, 2.0}
