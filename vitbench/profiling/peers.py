"""How do other libraries build the same plain ViT, which vitbench's is timed against?

timm and torchvision are always installed; vit-pytorch and transformers need not be.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from vitbench.config import ViTConfig

_OF_SIZE = ("image_size", "in_channels", "patch_size", "width", "depth", "num_heads", "mlp_ratio", "num_classes")
_ASKED_OF_PEERS = (*_OF_SIZE, "pool")
"""The fields that a peer may be asked for; all others must have their defaults."""


def build_peer(name: str, config: ViTConfig) -> nn.Module:
    """A module of the library `name`: images [B, C, H, W] → logits [B, num_classes], with weights of its own.

    vit-pytorch norms patches before and after their projection and has no bias in qkv; transformers and vit-pytorch
    have another ε. All else is the same function. Raises ValueError for what the library does not have, and ImportError
    where it is not installed.
    """
    check_peer(name, config)
    return PEERS[name][1](config)


def check_peer(name: str, config: ViTConfig) -> None:
    """Raises ValueError for a library that is not known, or does not have such a model."""
    if name not in PEERS:
        raise ValueError(f"peer {name!r} is not known; use {', '.join(PEERS)}")
    for field, info in type(config).model_fields.items():
        value = getattr(config, field)
        if field not in _ASKED_OF_PEERS and value != info.default:
            raise ValueError(
                f"{field} {value!r} is not what {name} is timed with; leave it out, or leave out the peers"
            )
    pools, _ = PEERS[name]
    if config.pool not in pools:
        raise ValueError(f"pool {config.pool!r} is not one of {name}'s; use {' or '.join(pools)}")
    square = config.image_hw[0] == config.image_hw[1] and config.patch_hw[0] == config.patch_hw[1]
    if name == "torchvision" and not (square and config.in_channels == 3):
        raise ValueError(f"image_size {config.image_size} must be square, of 3 channels, for torchvision")


def _timm(config: ViTConfig) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    average = {"global_pool": "avg", "class_token": False, "fc_norm": False}
    module: nn.Module = VisionTransformer(
        img_size=config.image_hw,
        patch_size=config.patch_hw,
        in_chans=config.in_channels,
        num_classes=config.num_classes,
        embed_dim=config.width,
        depth=config.depth,
        num_heads=config.num_heads,
        mlp_ratio=config.mlp_ratio,
        **average if config.pool == "gap" else {},
    )
    return module


def _vit_pytorch(config: ViTConfig) -> nn.Module:
    import vit_pytorch

    module: nn.Module = vit_pytorch.ViT(
        image_size=config.image_hw,
        patch_size=config.patch_hw,
        num_classes=config.num_classes,
        dim=config.width,
        depth=config.depth,
        heads=config.num_heads,
        mlp_dim=config.mlp_width,
        pool="mean" if config.pool == "gap" else "cls",
        channels=config.in_channels,
        dim_head=config.head_dim,
    )
    return module


def _torchvision(config: ViTConfig) -> nn.Module:
    from torchvision.models.vision_transformer import VisionTransformer

    module: nn.Module = VisionTransformer(
        image_size=config.image_hw[0],
        patch_size=config.patch_hw[0],
        num_layers=config.depth,
        num_heads=config.num_heads,
        hidden_dim=config.width,
        mlp_dim=config.mlp_width,
        num_classes=config.num_classes,
    )
    return module


class _Logits(nn.Module):
    """transformers' models return several things under names."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images).logits
        return logits


def _transformers(config: ViTConfig) -> nn.Module:
    import transformers

    settings = transformers.ViTConfig(
        image_size=config.image_hw,
        patch_size=config.patch_hw,
        num_channels=config.in_channels,
        num_labels=config.num_classes,
        hidden_size=config.width,
        num_hidden_layers=config.depth,
        num_attention_heads=config.num_heads,
        intermediate_size=config.mlp_width,
        attn_implementation="sdpa",
    )
    return _Logits(transformers.ViTForImageClassification(settings))


Builder = Callable[[ViTConfig], nn.Module]
PEERS: dict[str, tuple[tuple[str, ...], Builder]] = {
    "timm": (("cls", "gap"), _timm),
    "vit-pytorch": (("cls", "gap"), _vit_pytorch),
    "torchvision": (("cls",), _torchvision),
    "transformers": (("cls",), _transformers),
}
