"""What does it cost to turn images into patch tokens, by each stem, forward and backward?"""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from vitbench.config import Stem, ViTConfig
from vitbench.models.stems import STEMS

SIZES = {
    "32 px, patch 4, width 192, batch 32": ({"image_size": 32, "patch_size": 4, "width": 192}, 32),
    "224 px, patch 16, width 192, batch 2": ({"image_size": 224, "patch_size": 16, "width": 192}, 2),
}
LARGE = {"224 px, patch 16, width 768, batch 64": ({"image_size": 224, "patch_size": 16, "width": 768}, 64)}
RESNET_LAYERS = {4: (1, 1), 16: (3, 4, 9)}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    metafunc.parametrize("size", [*SIZES, *(LARGE if metafunc.config.getoption("--full") else ())])


@pytest.mark.parametrize("stem", get_args(Stem))
def test_stem(timed, device, precision, size, stem):
    fields, batch_size = (SIZES | LARGE)[size]
    extra = {}
    if stem == "resnet":
        extra = {"stem_layers": RESNET_LAYERS[fields["patch_size"]]}
    elif stem == "conv":  # channels double up to the width
        extra = {"stem_width": fields["width"] // 2 ** (fields["patch_size"].bit_length() - 2)}
    module = STEMS[stem](ViTConfig(stem=stem, num_heads=3, **fields, **extra)).to(device.torch_device)
    images = torch.randn(batch_size, 3, fields["image_size"], fields["image_size"], device=device.torch_device)
    parameters = list(module.parameters())

    def both_passes() -> None:
        with device.autocast(precision):
            tokens = module(images)
        torch.autograd.grad(tokens.float().sum(), parameters)

    timed(both_passes, group=f"stems, {size}", label=stem, items=batch_size, unit="images")
