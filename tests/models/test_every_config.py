"""Does whatever a configuration accepts build, run, learn and cost what the closed form says?"""

from __future__ import annotations

import io
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import PLACES, num_parameters

from vitbench.config import ViTConfig
from vitbench.models import ViT, build_model
from vitbench.profiling.macs import count

RATES = st.sampled_from([0.0, 0.3])


@st.composite
def configs(draw: st.DrawFn) -> ViTConfig:
    """Small ones, valid by construction."""

    def pick(*values):
        return draw(st.sampled_from(values))

    position, site = pick(("none", "stem"), *PLACES)
    stem = pick("patch", "patch_norm", "conv", "resnet")
    fields: dict[str, Any] = {"position": position, "position_site": site, "stem": stem}
    if stem == "resnet":
        fields["stem_layers"] = pick((1,), (2,), (1, 1))
        fields["stem_width"] = pick(8, 16)
        patch = pick(1, 2, 4) * 2 ** (len(fields["stem_layers"]) - 1)
    elif stem == "conv":
        fields["stem_width"] = pick(3, 8)
        patch = pick(2, 4)
    else:
        patch = pick(2, 3, (1, 4), (4, 2))
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
        num_classes=pick(2, 7),
        pool=pick("cls", "gap", "mean_all", "map"),
        head=pick("linear", "mlp"),
        num_registers=pick(0, 0, 3),
        qk_norm=pick(False, True),
        qkv_bias=pick(False, True),
        layer_scale=pick(None, 0.1),
        activation=pick("gelu", "gelu_tanh", "relu", "swiglu"),
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
    assert logits.shape == (3, config.num_classes) and logits.isfinite().all()
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
