"""Weights from elsewhere: each function gives a vitbench model with the same weights and outputs, or says why it cannot."""

from vitbench.models.convert.named import identity, load_named
from vitbench.models.convert.npz import from_npz
from vitbench.models.convert.timm import from_timm
from vitbench.models.convert.torchvision import from_torchvision
from vitbench.models.convert.transformers import from_transformers
from vitbench.models.convert.vit_pytorch import from_vit_pytorch

__all__ = [
    "from_npz",
    "from_timm",
    "from_torchvision",
    "from_transformers",
    "from_vit_pytorch",
    "identity",
    "load_named",
]
