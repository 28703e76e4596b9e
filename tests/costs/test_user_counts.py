"""Do users' parts and models cost what a count by hand gives, and is it said where a count is missing?"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.models.users_parts import EVERY_PART, PARTS, ConditionalPosition, MeanAttention, TinyModel
from vitbench.config import ModuleConfig, ViTConfig
from vitbench.costs import Counts, count, count_parts
from vitbench.costs.cross_check import cross_check
from vitbench.costs.macs import training_flops_per_image, uncounted_operators, unread_macs, unread_sentence
from vitbench.models import build_model
from vitbench.user_code import register

BASE = ViTConfig(image_size=16, patch_size=4, width=32, depth=3, num_heads=2, num_classes=10)


def with_part(role: str, code: object) -> ViTConfig:
    return BASE.replace(**{role: register(code, role)})


@pytest.mark.parametrize(("role", "code"), PARTS)
def test_parameters_are_those_of_the_model_and_the_rest_has_its_closed_form(role, code):
    config = with_part(role, code)
    assert count(config).params == sum(p.numel() for p in build_model(config).parameters())
    closed = count_parts(BASE.replace(pool="gap") if role == "pool" else BASE)
    parts = count_parts(config)
    in_blocks = role in ("attention", "mlp", "norm", "activation", "position")
    for part, counts in closed.items():
        if part != role and not (in_blocks and part.startswith("blocks")):
            assert parts[part] == counts, part
    assert uncounted_operators(config) == ()


def test_a_part_costs_what_a_count_by_hand_gives():
    # A depth-wise 3×3 convolution of 32 channels at 4 × 4 places.
    position = count_parts(with_part("position", ConditionalPosition))["position"]
    assert position == Counts(params=32 * 9 + 32, macs=32 * 9 * 16, activations=32 * 16)
    # In place of q, k, v, two products and a projection of 17 tokens: the projection alone.
    block = count_parts(with_part("attention", MeanAttention))["blocks.1"]
    mlp = 2 * 17 * 32 * 128
    assert block.macs == 17 * 32 * 32 + mlp
    # relu(logits) has the products of softmax(logits).
    assert count(with_part("attention", EVERY_PART["attention"])).macs == count(BASE).macs


def test_a_whole_model_costs_what_a_count_by_hand_gives():
    config = ModuleConfig(module=register(TinyModel, "module"), image_size=16, num_classes=10)
    assert count(config) == Counts(params=8 * 28 + 90, macs=16 * 16 * 8 * 27 + 80, activations=16 * 16 * 8 + 10)
    assert cross_check(config, device=torch.device("cpu"), training=False).parts.keys() == {"conv", "classifier"}


class Fourier(nn.Module):
    """FNet's mixing (Lee-Thorp et al. 2022), whose transform has no count."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft2(x.float()).real.to(x.dtype)


class LooksAtValues(nn.Module):
    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x) if x.sum().item() > -1e30 else x


def test_operators_without_a_count_are_named():
    config = with_part("attention", Fourier)
    assert any("fft" in operator for operator in uncounted_operators(config))
    agreed = cross_check(config, device=torch.device("cpu"), training=False)
    assert agreed.uncounted == uncounted_operators(config) and agreed.total() == count(config)
    assert uncounted_operators(BASE) == ()


class Scripted(nn.Module):
    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.proj = torch.jit.script(nn.Linear(config.width, config.width))

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_layers_that_torch_jit_made_are_counted_with_their_part():
    assert count_parts(with_part("mlp", Scripted))["blocks.0"].macs == (4 + 1) * 17 * 32 * 32 + 2 * 17 * 17 * 32


def test_code_that_looks_at_values_is_counted_on_values():
    assert count_parts(with_part("mlp", LooksAtValues))["blocks.0"].macs == (4 + 1) * 17 * 32 * 32 + 2 * 17 * 17 * 32


def test_tables_need_no_code_where_a_record_has_the_count():
    config = BASE.replace(position="Elsewhere@1a2b3c4d")
    assert training_flops_per_image(config, recorded_macs=7) == 42
    assert training_flops_per_image(BASE, recorded_macs=7) == 6 * count(BASE).macs
    assert unread_macs(config) == unread_macs(BASE) > 0
    assert unread_macs(BASE.replace(attention="Elsewhere@1a2b3c4d")) == 0
    assert unread_sentence({"a": config}) == ""
    with pytest.raises(ValueError, match="this process has not loaded it"):
        count(config)
