"""Is pooling what its name says, and the head what the paper says?"""

from __future__ import annotations

import pytest
import torch

from tests.models.small_models import images_for, num_parameters, small_config, small_model
from vitbench.models import build_model
from vitbench.models.heads import AttentionPool

REGISTERS = [0, 2]


@pytest.mark.parametrize("pool", ["cls", "mean_all"])
def test_a_class_token_exists_and_learns_where_pooling_reads_it(pool):
    model = small_model(pool=pool)
    assert model.class_token.shape == (1, 16) and model.tokens(images_for(model.config)).shape == (2, 1 + 6, 16)
    model(images_for(model.config)).square().sum().backward()
    assert model.class_token.grad.abs().max() > 1e-6


@pytest.mark.parametrize("pool", ["gap", "map"])
@pytest.mark.parametrize("position", ["none", "learned_1d"])
def test_there_is_no_class_token_where_pooling_would_not_read_it(pool, position):
    model = small_model(pool=pool, position=position)
    assert not [name for name, _ in model.named_parameters() if "class_token" in name]
    assert model.tokens(images_for(model.config)).shape == (2, 6, 16)


@pytest.mark.parametrize("position", ["none", "learned_1d", "sincos_2d"])
def test_the_class_token_stays_without_position(position):
    # huggingface/pytorch-image-models#2676: without position the class token was dropped in silence.
    model = small_model(pool="cls", position=position)
    images = images_for(model.config)
    before = model(images)
    with torch.no_grad():
        model.class_token += torch.randn(16, generator=torch.Generator().manual_seed(0))
    assert (model(images) - before).abs().max() > 1e-3


@pytest.mark.parametrize("num_registers", REGISTERS)
def test_cls_reads_the_first_token(num_registers):
    model = small_model(pool="cls", num_registers=num_registers)
    images = images_for(model.config)
    torch.testing.assert_close(model.features(images), model.tokens(images)[:, 0], rtol=0, atol=1e-14)


@pytest.mark.parametrize("num_registers", REGISTERS)
def test_gap_is_the_mean_of_patches_alone(num_registers):
    model = small_model(pool="gap", num_registers=num_registers)
    images = images_for(model.config)
    patches = model.tokens(images)[:, num_registers:]
    assert patches.shape[1] == 6
    torch.testing.assert_close(model.features(images), sum(patches.unbind(1)) / 6, rtol=0, atol=1e-14)


@pytest.mark.parametrize("num_registers", REGISTERS)
def test_mean_all_averages_the_class_token_in_but_no_register(num_registers):
    # lucidrains/vit-pytorch#226.
    model = small_model(pool="mean_all", num_registers=num_registers)
    images = images_for(model.config)
    tokens = model.tokens(images)
    kept = [tokens[:, 0], *tokens[:, 1 + num_registers :].unbind(1)]
    assert len(kept) == 7
    torch.testing.assert_close(model.features(images), sum(kept) / 7, rtol=0, atol=1e-14)
    if not num_registers:
        torch.testing.assert_close(model.features(images), tokens.mean(1), rtol=0, atol=1e-14)


def test_map_reads_patches_and_neither_registers_nor_their_order():
    pool = AttentionPool(small_config(pool="map", num_registers=2)).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in pool.parameters():
            parameter.normal_(generator=generator)
    tokens = torch.randn(2, 8, 16, generator=generator, dtype=torch.float64)
    moved = torch.cat([tokens[:, :2] + 1, tokens[:, 2:].flip(1)], dim=1)
    torch.testing.assert_close(pool(moved), pool(tokens), rtol=0, atol=1e-12)
    changed = tokens.clone()
    changed[:, 2] += 1
    assert (pool(changed) - pool(tokens)).abs().max() > 1e-3


def test_registers_are_tokens_that_take_part_in_attention_and_learn():
    model = small_model(pool="gap", num_registers=2)
    images = images_for(model.config)
    assert num_parameters(model) - num_parameters(small_model(pool="gap")) == 2 * 16
    assert model.tokens(images).shape == (2, 2 + 6, 16)
    model(images).square().sum().backward()
    assert (model.registers.grad.abs().amax(dim=1) > 1e-6).all()


def test_the_mlp_head_has_one_tanh_hidden_layer_of_the_model_s_width():
    linear, model = small_model(), small_model(head="mlp")
    images = images_for(model.config)
    hidden, classifier = model.head.hidden, model.head.classifier
    expected = torch.tanh(model.tokens(images)[:, 0] @ hidden.weight.T + hidden.bias)
    torch.testing.assert_close(model.features(images), expected, rtol=0, atol=1e-13)
    torch.testing.assert_close(model(images), expected @ classifier.weight.T + classifier.bias, rtol=0, atol=1e-13)
    assert num_parameters(model) - num_parameters(linear) == 16 * 16 + 16


@pytest.mark.parametrize("pool", ["cls", "gap", "mean_all", "map"])
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_the_head_of_the_features_is_the_forward_pass(pool, head):
    model = small_model(pool=pool, head=head)
    images = images_for(model.config, 3)
    features = model.features(images)
    assert features.shape == (3, 16)
    assert torch.equal(model.head(features), model(images)) and model(images).shape == (3, 5)


def layer_norm(x: torch.Tensor, norm: torch.nn.LayerNorm, eps: float = 1e-6) -> torch.Tensor:
    """Ba et al. 2016, eq. 3, by hand."""
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True) + eps).sqrt() * norm.weight + norm.bias


def last_block_s_output(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """What the last block puts out."""
    outputs = []
    hook = model.blocks[-1].register_forward_hook(lambda _, args, out: outputs.append(out))
    model.tokens(images)
    hook.remove()
    return outputs[0]


@pytest.mark.parametrize("pool", ["cls", "gap", "mean_all", "map"])
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_the_last_norm_is_on_all_tokens_or_on_what_they_were_pooled_to_or_nowhere(pool, head):
    models = {where: small_model(pool=pool, head=head, final_norm=where) for where in ("tokens", "pooled", "none")}
    images = images_for(models["tokens"].config)
    for where, model in models.items():
        out = last_block_s_output(model, images)
        tokens = layer_norm(out, model.norm) if where == "tokens" else out
        torch.testing.assert_close(model.tokens(images), tokens, rtol=0, atol=1e-12)
        pooled = model.pool(tokens)
        pooled = layer_norm(pooled, model.norm) if where == "pooled" else pooled
        torch.testing.assert_close(model.features(images), model.head.pre_logits(pooled), rtol=0, atol=1e-12)
    parameters = {where: num_parameters(model) for where, model in models.items()}
    assert parameters["tokens"] == parameters["pooled"] == parameters["none"] + 2 * 16


@pytest.mark.parametrize("pool", ["cls", "gap", "mean_all", "map"])
def test_a_norm_after_pooling_is_another_function_but_for_the_class_token_alone(pool):
    before, after = small_model(pool=pool), small_model(pool=pool, final_norm="pooled")
    assert before.state_dict().keys() == after.state_dict().keys()
    images = images_for(before.config)
    difference = (before(images) - after(images)).abs().max()
    assert difference < 1e-12 if pool == "cls" else difference > 1e-3
    assert (small_model(pool=pool, final_norm="none")(images) - before(images)).abs().max() > 1e-3


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("pool", ["cls", "gap", "mean_all", "map"])
def test_without_classes_logits_are_features(pool, head):
    model, with_classes = small_model(pool=pool, head=head, num_classes=0), small_model(pool=pool, head=head)
    images = images_for(model.config)
    assert torch.equal(model(images), model.features(images)) and model(images).shape == (2, 16)
    assert torch.equal(model(images), with_classes.features(images))
    assert num_parameters(with_classes) - num_parameters(model) == 5 * 16 + 5


@pytest.mark.parametrize("pool", ["gap", "mean_all", "map"])
def test_a_kind_of_pooling_changes_the_logits(pool):
    images = images_for(small_config())
    assert not torch.allclose(
        build_model(small_config(pool=pool))(images.float()), build_model(small_config())(images.float())
    )
