"""Is a peer the model that it is timed as?"""

from __future__ import annotations

import pytest
import torch

from vitbench.config import ViTConfig
from vitbench.models import convert
from vitbench.profiling.peers import PEERS, build_peer

SMALL = ViTConfig(image_size=16, patch_size=4, width=32, depth=2, num_heads=2, mlp_ratio=2.5, num_classes=5)
CONVERT = {
    "timm": convert.from_timm,
    "vit-pytorch": convert.from_vit_pytorch,
    "torchvision": convert.from_torchvision,
    "transformers": lambda module: convert.from_transformers(module.model),
}
OWN_WAYS = {
    "vit-pytorch": {"stem": "patch_norm", "qkv_bias": False, "norm_eps": 1e-5},
    "transformers": {"norm_eps": 1e-12},
}


@pytest.mark.parametrize(("name", "pool"), [(name, pool) for name, (pools, _) in PEERS.items() for pool in pools])
def test_a_peer_is_the_configuration_but_for_its_own_ways(name, pool):
    config = SMALL.replace(pool=pool)
    peer = build_peer(name, config)
    assert CONVERT[name](peer).config == config.replace(**OWN_WAYS.get(name, {}))
    assert peer(torch.zeros(2, 3, 16, 16)).shape == (2, 5)


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("nobody", {}, "peer 'nobody' is not known; use timm, vit-pytorch"),
        ("timm", {"position": "none"}, "position 'none' is not what timm is timed with"),
        ("torchvision", {"pool": "gap"}, "pool 'gap' is not one of torchvision's; use cls"),
        ("torchvision", {"image_size": (16, 32)}, r"image_size \(16, 32\) must be square"),
    ],
)
def test_what_a_peer_does_not_have_is_refused(name, changes, says):
    with pytest.raises(ValueError, match=says):
        build_peer(name, SMALL.replace(**changes))
