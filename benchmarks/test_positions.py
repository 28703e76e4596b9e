"""What does each position embedding cost by itself, over all layers of a model, forward and backward?"""

from __future__ import annotations

import pytest
import torch

from vitbench.config import POSITION_SITES, ViTConfig
from vitbench.models import build_model

PLACES = [(position, site) for position, sites in POSITION_SITES.items() for site in sites if position != "none"]
SIZES = {"64 patches, batch 8": (32, 4, 8), "196 patches, batch 2": (224, 16, 2)}
LARGE = {"784 patches, batch 32": (224, 8, 32)}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    metafunc.parametrize("size", [*SIZES, *(LARGE if metafunc.config.getoption("--full") else ())])


@pytest.mark.parametrize(("position", "site"), PLACES)
def test_position(timed, device, precision, size, position, site):
    image_size, patch_size, batch_size = (SIZES | LARGE)[size]
    config = ViTConfig(
        image_size=image_size, patch_size=patch_size, depth=6, position=position, position_site=site, num_classes=10
    )
    model = build_model(config).to(device.torch_device)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    place = {"dtype": dtype, "device": device.torch_device, "requires_grad": True}
    tokens = torch.randn(batch_size, config.num_tokens, config.width, **place)
    queries = torch.randn(batch_size, config.num_heads, config.num_tokens, config.head_dim, **place)

    def both_passes() -> None:
        parts = []
        for i, block in enumerate(model.blocks):
            if model.position is not None:
                parts.append(model.position(tokens, i))
            if block.attention.relative is not None:
                parts.append(block.attention.relative(queries))
            if block.attention.rotary is not None:
                parts += [block.attention.rotary(queries), block.attention.rotary(queries)]  # q, and k alike
        changed = [part for part in parts if part is not tokens]  # what a layer leaves as it is costs nothing
        torch.autograd.backward(changed, [torch.ones_like(part) for part in changed])

    timed(both_passes, group=f"positions, {size}", label=f"{position} {site}", items=batch_size, unit="images")
