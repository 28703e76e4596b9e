"""Is every family of timm's counted as torch and a hand count it, or refused in a line that says what to do?"""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vitbench.config import TimmConfig
from vitbench.costs.counters import count_timm
from vitbench.costs.cross_check import cross_check
from vitbench.models import timm_models

ONCE_REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "a parameter is a module's input": ("cait_xxs24_224", {"depth": 1}),
    "layers that blocks share": ("coat_tiny", {"serial_depths": [1, 1, 1, 1], "parallel_depth": 1}),
    "padding by name": ("convmixer.ConvMixer", {"dim": 8, "depth": 1, "patch_size": 4}),
    "convolutions as functions": ("tresnet_m", {"layers": [1, 1, 1, 1]}),
    "LSTMs": (
        "sequencer.Sequencer2d",
        {"layers": [1], "embed_dims": [8], "hidden_sizes": [4], "patch_sizes": [8], "mlp_ratios": [3]},
    ),
    "buffers of indices": ("beit_base_patch16_224", {"depth": 1, "embed_dim": 24, "num_heads": 3}),
}


def counted_by_torch(model: nn.Module, config: TimmConfig) -> tuple[int, int]:
    """(parameters, MACs) of a model on `meta`, by torch alone. Its counter takes no parameter that wants a gradient."""
    model = model.eval().requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, config.in_channels, *config.image_hw, device="meta"))
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2


@pytest.mark.against("torch", "models of timm, with FlopCounterMode", "exact")
@pytest.mark.parametrize("name", ONCE_REFUSED)
def test_models_of_timm_that_were_once_refused_are_counted_alike_on_meta_and_cpu(name):
    timm_name, options = ONCE_REFUSED[name]
    config = TimmConfig(timm=timm_name, options=options, image_size=(32, 32), num_classes=10)
    params, macs = counted_by_torch(timm_models.create(config).to("meta"), config)
    for device in ("meta", "cpu"):
        agreed = cross_check(config, device=torch.device(device), training=False)
        assert (agreed.total().params, agreed.total().macs) == (params, macs) and agreed.difference == 0
    assert count_timm(config) == agreed.total("FlopCounterMode")


def test_a_convmixer_by_hand():
    # Trockman and Kolter 2022: 7 × 7 patches, then 32 blocks of a 7 × 7 depthwise convolution and a 1 × 1 one; 32 × 32 places.
    macs = 32**2 * (3 * 7**2 * 768 + 32 * (7**2 * 768 + 768**2)) + 768 * 1000
    assert count_timm(TimmConfig(timm="convmixer_768_32")).macs == macs


@pytest.mark.parametrize("name", ["hrnet_w18_small", "poolformerv2_s12", "ese_vovnet19b_slim_dw"])
def test_models_that_refuse_a_size_in_other_words_are_made_without_one(name):
    assert not timm_models.is_made_for_a_size(TimmConfig(timm=name, image_size=32))


@pytest.mark.filterwarnings("ignore:CSATv2 is designed for 3-channel")
@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"timm": "halonet_h1"}, "_assert(H % self.block_size == 0, ''); timm has it for image_size (256, 256)"),
        ({"timm": "crossvit_tiny_240"}, "; timm has it for image_size (240, 240)"),
        ({"timm": "csatv2", "image_size": 512, "in_channels": 1}, "with in_channels 1: RuntimeError: "),
        ({"timm": "csatv2", "image_size": 512, "in_channels": 1}, "; timm has it for in_channels 3"),
        (
            {"timm": "vit_tiny_patch16_224", "options": {"global_pool": ""}},
            "it puts out [1, 197, 1000], not logits [1, 1000]; give",
        ),
        ({"timm": "resnet18", "options": {"depht": 3}}, "argument 'depht'; see the arguments of timm's resnet18"),
        ({"timm": "vit_tiny_patch16_224", "options": {"num_heads": 5}}, "; give another size or other options"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value[-30:],
)
def test_what_cannot_be_is_refused_in_a_line_that_says_why_and_what_to_try(fields, says):
    with pytest.raises(ValueError, match=r"^timm '.* cannot ") as refused:
        count_timm(TimmConfig(**fields))
    assert says in str(refused.value) and "\n" not in str(refused.value)


def smallest(family: str) -> str:
    """Name of the model of that module of timm's with the fewest parameters."""
    with torch.device("meta"):
        sizes = {
            name: sum(p.numel() for p in timm.create_model(name).parameters())
            for name in timm.list_models(module=family)
        }
    return min(sizes, key=sizes.__getitem__)


def counted_or_refused(config: TimmConfig) -> str:
    """Counts; or the refusal, of one line."""
    refusal = ""
    try:
        count_timm(config)
    except ValueError as refused:
        refusal = str(refused)
    assert not refusal or (refusal.startswith(f"timm {config.timm!r} ") and "\n" not in refusal), refusal
    return refusal


@pytest.mark.slow
@pytest.mark.timeout(1200)  # a family may have two hundred models, among which the smallest is looked for
@pytest.mark.filterwarnings("ignore")  # some of timm's entry points are deprecated, and say so
@pytest.mark.parametrize("family", timm.list_modules())
def test_the_smallest_model_of_every_family_is_counted_exactly(family):
    name = smallest(family)
    config = TimmConfig(timm=name)
    if refused := counted_or_refused(config):
        size = timm.get_pretrained_cfg(name).input_size[1:]
        assert refused.endswith(f"; timm has it for image_size {size}")
        config = TimmConfig(timm=name, image_size=size)
    agreed = cross_check(config, device=torch.device("meta"), training=False)
    with torch.device("meta"):
        try:
            model = timm.create_model(name, num_classes=1000, img_size=config.image_hw)
        except TypeError:
            model = timm.create_model(name, num_classes=1000)
    assert (agreed.total().params, agreed.total().macs) == counted_by_torch(model, config)
    assert agreed.difference == 0
    for changes in ({"in_channels": 1, "num_classes": 3}, {"image_size": (256, 192)}, {"image_size": 31}):
        counted_or_refused(config.replace(**changes))
