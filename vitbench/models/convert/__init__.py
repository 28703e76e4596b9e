"""Weights from elsewhere: each function gives a vitbench model with the same weights and outputs, or says why it cannot."""

from vitbench.models.convert.named import Hints, check_name, load_named, weights_identity
from vitbench.models.convert.npz import from_npz
from vitbench.models.convert.timm import from_timm
from vitbench.models.convert.to_timm import to_timm
from vitbench.models.convert.torchvision import from_torchvision
from vitbench.models.convert.transformers import from_transformers
from vitbench.models.convert.vit_pytorch import from_vit_pytorch

__all__ = [
    "Hints",
    "check_name",
    "from_npz",
    "from_timm",
    "from_torchvision",
    "from_transformers",
    "from_vit_pytorch",
    "load_named",
    "to_timm",
    "weights_identity",
]
