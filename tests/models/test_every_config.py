"""Does whatever a configuration accepts build, run, learn and cost what is counted, and is all else refused by name?"""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from tests.models.small_models import PLACES, num_parameters
from vitbench.config import MOST, ViTConfig
from vitbench.costs.macs import count
from vitbench.models import ViT, build_model
from vitbench.models.parts import ALL
from vitbench.refusals import one_line

RATES = st.sampled_from([0.0, 0.3])


@st.composite
def configs(draw: st.DrawFn) -> ViTConfig:
    """Small ones, valid by construction."""

    def pick(*values):
        return draw(st.sampled_from(values))

    position, site = pick(("none", "stem"), *PLACES)
    stem = pick("patch", "patch_norm", "conv", "resnet")
    pool = pick("cls", "gap", "mean_all", "map")
    fields: dict[str, Any] = {"position": position, "position_site": site, "stem": stem, "pool": pool}
    if stem == "resnet":
        fields["stem_layers"] = pick((1,), (2,), (1, 1), ())
        fields["stem_width"] = pick(8, 16)
        num_stages = len(fields["stem_layers"])
        patch = pick(1, 2, 4) * 2 ** (num_stages - 1) if num_stages else pick(1, 2, 3, 4, 6, 8)
    elif stem == "conv":
        fields["stem_width"] = pick(3, 8)
        patch = pick(2, 4)
    else:
        patch = pick(2, 3, (1, 4), (4, 2))
    if position in ("sincos_2d", "rope_2d"):
        fields["position_grid"] = pick(None, 2, (3, 5))
    if pool in ("cls", "mean_all") and position == "learned_1d":
        fields["embed_class_token"] = pick(True, False)
    height, width = patch if isinstance(patch, tuple) else (patch, patch)
    heads, head_dim = pick(1, 2, 3), pick(4, 8)
    return ViTConfig(
        **fields,
        patch_size=patch,
        image_size=(height * draw(st.integers(1, 3)), width * draw(st.integers(2, 3))),
        in_channels=pick(1, 3),
        width=heads * head_dim,
        num_heads=heads,
        depth=(depth := pick(1, 2)),
        mlp_ratio=pick(0.5, 2.0, 2.7),
        num_classes=pick(0, 2, 7),
        head=pick("linear", "mlp"),
        num_registers=pick(0, 0, 3),
        qk_norm=pick(False, True),
        qkv_bias=pick(False, True),
        proj_bias=pick(False, True),
        pre_norm=pick(False, True),
        final_norm=pick("tokens", "pooled", "none"),
        norm_eps=pick(1e-12, 1e-6, 1e-3),
        layer_scale=pick(None, 0.1),
        activation=pick("gelu", "gelu_tanh", "quick_gelu", "relu", "swiglu"),
        dropout=draw(RATES),
        attention_dropout=draw(RATES),
        drop_path=draw(RATES) if depth > 1 else 0.0,
    )


@settings(deadline=None, max_examples=120)
@given(config=configs(), seed=st.integers(0, 2**31 - 1))
def test_every_valid_configuration_runs_learns_and_can_be_saved(config, seed):
    model = build_model(config, seed=seed)
    torch.manual_seed(0)
    images = torch.randn(3, config.in_channels, *config.image_hw)
    logits = model(images)
    assert logits.shape == (3, config.num_classes or config.width) and logits.isfinite().all()
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 0])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name

    model.eval()
    assert model.tokens(images).shape == (3, config.num_tokens, config.width)
    assert model.features(images).shape == (3, config.width)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = build_model(config, seed=seed + 1).eval()
    other.load_state_dict(torch.load(file))
    assert torch.equal(other(images), model(images))


@settings(deadline=None, max_examples=200)
@given(config=configs())
def test_the_closed_form_counts_the_parameters_of_every_valid_configuration(config):
    with torch.device("meta"):
        assert count(config).params == num_parameters(ViT(config))


@pytest.mark.against("torch", "parameters, MACs and activations, part by part, with FlopCounterMode", "exact")
@settings(deadline=None, max_examples=100)
@given(config=configs())
def test_the_closed_form_counts_the_macs_that_torch_counts_in_every_valid_configuration(config):
    model = ViT(config).eval()
    for block in model.blocks:
        block.attention.kernel = "matmul"  # the counter misses the CPU's fused kernel; with gradients, `map` takes none
    model.read = ALL  # what is counted is the whole architecture
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, config.in_channels, *config.image_hw))
    assert counter.get_total_flops() == 2 * count(config).macs


NUMBERS = st.one_of(
    st.sampled_from([-1, 0, 1, 2, 3, 4, 8, 96, 4096, MOST, MOST + 1, 2**31, 2**63, 10**30]),
    st.sampled_from([5e-324, 1e-46, 1e-12, 1e-3, 0.5, 1 - 2**-53, 1.0, 2.5, 1e6, 1e38, 1e39, 1e308]),
    st.integers(),
    st.floats(),
)
WORDS = st.sampled_from(["stem", "every_layer", "map", "conv", "relative", "none", "8", "8x8", ""]) | st.text(
    max_size=3
)
VALUES = st.one_of(NUMBERS, WORDS, st.booleans(), st.none(), st.binary(max_size=2))
ANYTHING = st.one_of(VALUES, st.lists(VALUES, max_size=5).map(tuple), st.dictionaries(WORDS, VALUES, max_size=2))


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """Fields of one valid configuration, some of them replaced by those of another one, or by anything at all."""
    fields, other = draw(configs()).model_dump(), draw(configs()).model_dump()
    for name in draw(st.lists(st.sampled_from(sorted(fields)), unique=True, min_size=1, max_size=3)):
        fields[name] = other[name] if draw(st.booleans()) else draw(ANYTHING)
    return fields


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(fields=requests())
def test_whatever_is_asked_either_runs_or_is_refused_in_one_line_that_names_a_field(fields):
    try:
        config = ViTConfig(**fields)
    except ValueError as error:
        line = one_line(error)
        assert line.split()[0] in ViTConfig.model_fields and "\n" not in line, line
        event("refused")
        return
    if config.depth > 100 or sum(config.stem_layers) > 100:
        event("valid, but hours to build")
        return
    cost = count(config)
    if cost.params + cost.macs < 10**7:
        model = build_model(config)
        model(torch.randn(2, config.in_channels, *config.image_hw)).square().sum().backward()
        logits = model.eval()(torch.randn(1, config.in_channels, *config.image_hw))
        assert logits.shape == (1, config.num_classes or config.width) and logits.isfinite().all()
        event("ran")
    elif cost.params + cost.macs < 2**60:
        with torch.device("meta"):
            images = torch.empty(2, config.in_channels, *config.image_hw)
            assert ViT(config)(images).shape == (2, config.num_classes or config.width)
        event("ran without memory")


@pytest.mark.parametrize(
    "fields",
    [
        # What the search above found: each of these crashed in torch, hung, or gave a model that sees nothing.
        {"mlp_ratio": 1e308},
        {"layer_scale": 1e300},
        {"norm_eps": 1e-46},
        {"norm_eps": 1e30},
        {"image_size": 10**12},
        {"depth": 2**31},
        {"width": 1, "num_heads": 1},
        {"stem": "resnet", "stem_layers": (1,), "stem_width": 8, "image_size": 4, "patch_size": 4},
        {"stem": "resnet", "stem_layers": (), "stem_width": 8, "image_size": 1, "patch_size": 1},
        {"stem": "resnet", "stem_layers": (), "stem_width": 8, "image_size": 2, "patch_size": 2},
    ],
)
def test_what_once_crashed_or_left_nothing_is_refused_by_name(fields):
    with pytest.raises(ValueError) as caught:
        ViTConfig(**fields)
    assert one_line(caught.value).split()[0] in fields


def test_groups_of_more_than_one_value_are_enough_for_a_resnet_stem():
    root_alone = {"stem_layers": ()}  # normed before the pooling, at 2 × 2 places
    for changes in (
        {"stem_width": 24},
        {"stem_width": 64},
        {"image_size": (4, 8)},
        {"stem_layers": (1, 1)},
        root_alone,
    ):
        fields = {"stem": "resnet", "stem_layers": (1,), "stem_width": 8, "image_size": 4, "patch_size": 4}
        config = ViTConfig(**{**fields, "width": 8, "num_heads": 2, "depth": 1, **changes})
        assert build_model(config)(torch.randn(1, 3, *config.image_hw)).isfinite().all()
