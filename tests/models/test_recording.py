"""Are recorded attention maps those that a model computes with, and does it compute the same when it is watched?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from einops import rearrange

from tests.models.small_models import PLACES, images_for, small_config, small_model
from vitbench.config import TimmConfig
from vitbench.kernels import install
from vitbench.models import ViT, build_model
from vitbench.models.insides import NoSuchPartError, patch_filters, position_tables
from vitbench.models.parts import ALL
from vitbench.models.recording import attention_maps, layer_outputs, layers_of

KINDS: list[dict[str, Any]] = [
    *({"position": position, "position_site": site} for position, site in PLACES),
    {"pool": "gap", "position": "none"},
    {"pool": "mean_all", "num_registers": 2},
    {"pool": "map"},
    {"qk_norm": True, "num_registers": 1, "position": "rope_2d", "position_site": "every_layer"},
    {"stem": "conv", "stem_width": 8, "layer_scale": 0.5, "activation": "swiglu"},
]


def maps_of(model: ViT, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    maps: list[torch.Tensor] = []
    with attention_maps(model, lambda _, found: maps.append(found)):
        logits = model(images)
    return logits, maps


@pytest.mark.parametrize("changes", KINDS, ids=lambda changes: "-".join(map(str, changes.values())))
def test_asking_for_maps_changes_no_bit_of_any_logit(changes):
    model = small_model(**changes).float()
    images = images_for(model.config).float()
    for grad in (False, True):  # which choose different kernels
        with torch.set_grad_enabled(grad):
            before = model(images)
            watched, maps = maps_of(model, images)
            assert torch.equal(watched, before) and torch.equal(model(images), before)
    tokens = model.config.num_tokens
    assert [tuple(each.shape) for each in maps] == 3 * [(2, 2, tokens, tokens)]


@pytest.mark.parametrize("changes", KINDS, ids=lambda changes: "-".join(map(str, changes.values())))
def test_values_weighted_by_a_recorded_map_are_what_the_layer_gives(changes):
    model = small_model(**changes)
    seen: dict[int, tuple[torch.Tensor, torch.Tensor, slice]] = {}
    hooks = [
        block.attention.register_forward_hook(
            lambda _, given, how, out, i=i: seen.__setitem__(i, (given[0], out, how["read"])), with_kwargs=True
        )
        for i, block in enumerate(model.blocks)
    ]
    with torch.no_grad():
        _, maps = maps_of(model, images_for(model.config))
        for hook in hooks:
            hook.remove()
        for i, block in enumerate(model.blocks):
            given, out, read = seen[i]
            v = rearrange(block.attention.qkv(given)[..., 32:], "b n (h d) -> b h n d", h=2)
            whole = block.attention.proj(rearrange(maps[i] @ v, "b h n d -> b n (h d)"))
            torch.testing.assert_close(whole[:, read], out, rtol=0, atol=1e-12)
            torch.testing.assert_close(maps[i].sum(dim=-1), torch.ones_like(maps[i][..., 0]), rtol=0, atol=1e-12)


def test_a_map_is_the_softmax_formula_of_queries_and_keys():
    model = small_model()
    layer = model.blocks[0].attention
    x = torch.randn(1, 7, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    q, k = (part.detach().numpy() for part in layer.qkv(x)[0].split(16, dim=-1)[:2])
    for head in range(2):
        logits = q[:, 8 * head : 8 * head + 8] @ k[:, 8 * head : 8 * head + 8].T / math.sqrt(8)
        weights = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(layer.weights(x)[0, head].detach().numpy(), weights, rtol=0, atol=1e-12)


def test_under_pool_cls_the_last_map_has_every_query_though_one_is_read():
    model = small_model(pool="cls")
    images = images_for(model.config)
    with torch.no_grad():
        _, maps = maps_of(model, images)
        model.read = ALL
        _, whole = maps_of(model, images)
    torch.testing.assert_close(maps[-1], whole[-1], rtol=0, atol=1e-12)
    assert maps[-1].shape[-2] == model.config.num_tokens


def test_when_nobody_watches_any_more_nothing_is_handed_over():
    model, images = small_model(), images_for(small_config())
    with pytest.raises(RuntimeError, match="stopped"), attention_maps(model, lambda *_: None):
        raise RuntimeError("stopped")
    assert not any(block.attention._forward_pre_hooks for block in model.blocks)
    maps_of(model, images)
    assert not any(block.attention._forward_pre_hooks for block in model.blocks)


def in_bf16(read: Callable[[ViT, torch.Tensor], Any], **changes: Any) -> Any:
    """Under the autocast that lets native operators, where there are any, compute blocks; with `qk_norm`, only their MLPs."""
    model = install(build_model(small_config(width=32, num_heads=2, **changes)).eval())
    images = images_for(model.config).float()
    with torch.autocast("cpu", torch.bfloat16):
        return read(model, images)


def test_in_bf16_and_by_native_operators_logits_are_unchanged_and_maps_are_near_those_of_float32():
    def read(model: ViT, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.inference_mode():
            return model(images), *maps_of(model, images)

    before, watched, maps = in_bf16(read)
    assert torch.equal(watched, before)
    model = build_model(small_config(width=32, num_heads=2)).eval()
    with torch.no_grad():
        _, exact = maps_of(model, images_for(model.config).float())
    for found, expected in zip(maps, exact, strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=0, atol=0.01)  # bf16 keeps 8 bits
        torch.testing.assert_close(found.sum(dim=-1), torch.ones(found.shape[:-1]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("qk_norm", [False, True])
def test_gradients_in_bf16_are_those_of_a_model_that_nobody_watches(qk_norm):
    def gradients(model: ViT, images: torch.Tensor, *, watched: bool) -> list[torch.Tensor]:
        model.zero_grad()
        logits = maps_of(model, images)[0] if watched else model(images)
        logits.float().square().sum().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    alone, watched = (in_bf16(lambda m, x, w=w: gradients(m, x, watched=w), qk_norm=qk_norm) for w in (False, True))
    assert len(alone) > 20 and all(torch.equal(a, b) for a, b in zip(alone, watched, strict=True))


def test_the_outputs_of_layers_are_what_the_next_ones_are_given():
    model = small_model(position="none", pool="gap")
    images, outputs = images_for(model.config), {}
    with torch.no_grad(), layer_outputs(model, outputs.__setitem__):
        tokens = model.tokens(images)
    assert list(outputs) == layers_of(model) == ["stem", "1", "2", "3"]
    torch.testing.assert_close(model.norm(outputs["3"]), tokens, rtol=0, atol=0)
    torch.testing.assert_close(model.blocks[1](outputs["1"]), outputs["2"], rtol=0, atol=1e-12)
    torch.testing.assert_close(model.blocks[0](outputs["stem"]), outputs["1"], rtol=0, atol=1e-12)


def test_of_a_model_of_timm_the_layers_are_its_stages():
    model = build_model(TimmConfig(timm="resnet18", image_size=32, num_classes=3)).eval()
    outputs = {}
    with torch.no_grad(), layer_outputs(model, outputs.__setitem__):
        model(torch.zeros(2, 3, 32, 32))
    assert list(outputs) == layers_of(model) == ["act1", "layer1", "layer2", "layer3", "layer4"]
    assert [output.shape[1] for output in outputs.values()] == [64, 64, 128, 256, 512]  # He et al. 2016, Table 1


@pytest.mark.parametrize("stem", ["patch", "patch_norm"])
def test_patch_filters_are_what_the_stem_answers_to_single_pixels(stem):
    model = small_model(stem=stem)
    found = patch_filters(model)
    assert found.shape == (16, 3, 4, 4)
    proj = model.stem.proj
    for channel, row, column in ((0, 0, 0), (1, 2, 3), (2, 3, 1)):
        images = torch.zeros(1, 3, 8, 12, dtype=torch.float64)
        images[0, channel, row, 4 + column] = 1  # in the second patch
        patch = rearrange(images[..., :4, 4:8], "b c h w -> b (c h w)")
        if stem == "patch_norm":  # what the norm multiplies and projects, without its standardisation
            patch = patch * model.stem.norm_patch.weight
            answer = (proj(patch) - proj.bias)[0]
        else:
            answer = model.stem(images)[0, 1] - proj.bias
        torch.testing.assert_close(found[:, channel, row, column], answer.detach(), rtol=0, atol=1e-12)


def test_stems_of_convolutions_have_no_patch_filters_and_say_so():
    with pytest.raises(NoSuchPartError, match="stem 'conv' has convolutions"):
        patch_filters(small_model(stem="conv", stem_width=8))


@pytest.mark.parametrize("changes", [{}, {"pool": "gap"}, {"num_registers": 2}], ids=["class", "none", "registers"])
@pytest.mark.parametrize("position", ["learned_1d", "learned_2d", "sincos_2d"])
def test_a_position_table_is_what_is_added_to_patches(position, changes):
    model = small_model(position=position, **changes)
    nothing = torch.zeros(1, model.config.num_tokens, 16, dtype=torch.float64)
    (table,) = position_tables(model)
    added = model.position(nothing, 0)[0, model.config.num_prefix_tokens :]
    torch.testing.assert_close(table.double(), added.detach(), rtol=0, atol=0)


def test_tables_of_every_layer_are_one_each_and_shared_ones_are_one():
    assert len(position_tables(small_model(position_site="every_layer"))) == 3
    assert len(position_tables(small_model(position_site="every_layer_shared"))) == 1


@pytest.mark.parametrize(
    ("position", "why"), [("none", "no position"), ("relative", "biases on attention"), ("rope_2d", "rotations")]
)
def test_what_has_no_table_of_places_says_why(position, why):
    site = "stem" if position == "none" else "every_layer"
    with pytest.raises(NoSuchPartError, match=why):
        position_tables(small_model(position=position, position_site=site))
