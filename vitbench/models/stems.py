"""How an image becomes patch tokens: linear patches, patches between norms, a small convnet, or a ResNet."""

from __future__ import annotations

from functools import partial
from math import gcd

from einops import rearrange
from timm.layers import GroupNormAct, StdConv2dSame
from timm.models.resnetv2 import ResNetV2
from torch import Tensor, nn

from vitbench.config import ViTConfig


class PatchStem(nn.Module):
    """Flattened patches through one linear layer (Dosovitskiy et al. 2021, eq. 1)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.patch_hw = config.patch_hw
        pixels = self.patch_hw[0] * self.patch_hw[1]
        self.proj = nn.Linear(config.in_channels * pixels, config.width, bias=not config.pre_norm)

    def forward(self, images: Tensor) -> Tensor:
        """images [B, C, H, W] → patch tokens [B, N, D]."""
        height, width = self.patch_hw
        patches = rearrange(images, "b c (h p1) (w p2) -> b (h w) (c p1 p2)", p1=height, p2=width)
        return self.project(patches)

    def project(self, patches: Tensor) -> Tensor:
        return self.proj(patches)


class PatchNormStem(PatchStem):
    """LayerNorm–linear–LayerNorm, as in the einops-style reference and vit-pytorch (Kumar et al. 2023, 'dual PatchNorm')."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config)
        self.norm_patch = nn.LayerNorm(self.proj.in_features, eps=config.norm_eps)
        self.norm_token = nn.LayerNorm(config.width, eps=config.norm_eps)

    def project(self, patches: Tensor) -> Tensor:
        return self.norm_token(self.proj(self.norm_patch(patches)))


class ConvStem(nn.Module):
    """3×3 convolutions of stride 2, channels doubling, then 1×1 to the width (Xiao et al. 2021, 'Early convolutions')."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = config.in_channels
        for i in range(config.patch_hw[0].bit_length() - 1):
            out = config.stem_width * 2**i
            layers += [nn.Conv2d(channels, out, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
            channels = out
        self.layers = nn.Sequential(*layers)
        self.proj = nn.Conv2d(channels, config.width, 1, bias=not config.pre_norm)

    def forward(self, images: Tensor) -> Tensor:
        """images [B, C, H, W] → patch tokens [B, N, D]."""
        return rearrange(self.proj(self.layers(images)), "b d h w -> b (h w) d")


class ResNetStem(nn.Module):
    """timm's BiT ResNet (GroupNorm, weight-standardised convolutions), then 1×1 patches on its feature map.

    Each stage after the first halves the map; the first convolution brings the rest of `patch_size`: 4 is the
    paper's 7×7 of stride 2 and a pooling of stride 2; 2 and 1, for small images, a 3×3 of that stride and no pooling.
    Without stages, patches are as large as `patch_size` asks for (R+Ti/16: Steiner et al. 2021).
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        num_stages = len(config.stem_layers)
        groups = gcd(config.stem_groups, config.stem_width)
        self.backbone = ResNetV2(
            list(config.stem_layers),
            channels=tuple(4 * config.stem_width * 2**i for i in range(num_stages)),
            num_classes=0,
            in_chans=config.in_channels,
            global_pool="",
            stem_chs=config.stem_width,
            stem_type="same",
            preact=False,
            norm_layer=partial(GroupNormAct, num_groups=groups),
            conv_layer=partial(StdConv2dSame, eps=1e-8),
        )
        if config.root_stride < 4:
            self.backbone.stem.conv = StdConv2dSame(
                config.in_channels, config.stem_width, 3, stride=config.root_stride, eps=1e-8
            )
            self.backbone.stem.pool = nn.Identity()
        patch = 1 if num_stages else config.patch_hw[0] // config.root_stride
        self.proj = nn.Conv2d(self.backbone.num_features, config.width, patch, stride=patch, bias=not config.pre_norm)

    def forward(self, images: Tensor) -> Tensor:
        """images [B, C, H, W] → patch tokens [B, N, D]."""
        return rearrange(self.proj(self.backbone(images)), "b d h w -> b (h w) d")


STEMS: dict[str, type[PatchStem] | type[ConvStem] | type[ResNetStem]] = {
    "patch": PatchStem,
    "patch_norm": PatchNormStem,
    "conv": ConvStem,
    "resnet": ResNetStem,
}
