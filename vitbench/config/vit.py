"""Which Vision Transformer is it? Every field with its default, and which values have no meaning together."""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd
from typing import Annotated, Literal

from pydantic import Field

from vitbench.config.base import MOST, Blocks, Config, Extent, Positive, Rate, Size, as_pair, divisors
from vitbench.user_code import ROLES, USER_NAME, is_user_name

UserPart = Annotated[str, Field(pattern=USER_NAME)]
"""A user's class (or function, of an activation), as `user_code` names it: `ConditionalPosition@1a2b3c4d`."""
Pool = Literal["cls", "gap", "mean_all", "map"] | UserPart
Position = Literal["none", "learned_1d", "learned_2d", "relative", "sincos_2d", "rope_2d"] | UserPart
PositionSite = Literal["stem", "every_layer", "every_layer_shared"]
Stem = Literal["patch", "patch_norm", "conv", "resnet"] | UserPart
Head = Literal["linear", "mlp"] | UserPart
Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "swiglu"] | UserPart
Attention = Literal["softmax"] | UserPart
MLP = Literal["mlp"] | UserPart
Norm = Literal["layer_norm"] | UserPart
FinalNorm = Literal["tokens", "pooled", "none"]

POSITION_SITES: dict[str, tuple[PositionSite, ...]] = {
    "none": ("stem",),
    "learned_1d": ("stem", "every_layer", "every_layer_shared"),
    "learned_2d": ("stem", "every_layer", "every_layer_shared"),
    "relative": ("every_layer", "every_layer_shared"),
    "sincos_2d": ("stem", "every_layer"),
    "rope_2d": ("every_layer",),
}
"""Where each position embedding has a meaning. A fixed (parameter-free) kind has nothing to share between layers."""
OF_BLOCKS = ("attention", "mlp", "norm", "activation", "position")
"""Those of `ROLES` whose parts may compute within the encoder's blocks."""


class ViTConfig(Config):
    """One Vision Transformer. The defaults are ViT-Ti/16 with a linear head.

    Sizes are pixels; `image_size` and `patch_size` take an int or (height, width). For `stem="resnet"` and
    `stem="conv"`, `patch_size` is the stem's total stride; `stem_layers` (blocks per ResNet stage; none for the
    first convolution and pooling alone, and patches on their feature map), `stem_width` (channels of the first
    convolution) and `stem_groups` describe it further.

    Every field of `ROLES` also takes the name of a user's part, which `models.parts` describes. With a user's pool there is no
    class token; with a user's stem, `patch_size` says how many tokens it puts out, and the stem's fields are its to read.
    """

    image_size: Size = 224
    in_channels: Extent = 3
    patch_size: Size = 16
    width: Extent = 192
    depth: Blocks = 12
    num_heads: Extent = 3
    mlp_ratio: Positive = 4.0
    num_classes: Annotated[int, Field(ge=0, le=MOST)] = 1000
    """0 is a model without classifier: its logits are its features."""
    pool: Pool = "cls"
    position: Position = "learned_1d"
    position_site: PositionSite = "stem"
    position_grid: Size | None = None
    """Patches a side, or (rows, columns), over which the coordinates of `sincos_2d` and `rope_2d` extend, whatever the image
    size: for images of another size, the grid of the pretraining. None: one patch is one step."""
    stem: Stem = "patch"
    attention: Attention = "softmax"
    mlp: MLP = "mlp"
    norm: Norm = "layer_norm"
    """Of the blocks, the last one and the one before the first."""
    stem_layers: tuple[Blocks, ...] = (3, 4, 9)
    stem_width: Extent = 64
    stem_groups: Extent = 32
    """Groups that the ResNet stem's GroupNorms have, or their greatest common divisor with `stem_width`: 32 at width 64 is the
    paper's. Narrower stems need fewer: in groups of one channel, every image loses its colour and contrast there."""
    head: Head = "linear"
    embed_class_token: bool = True
    """Whether the class token has a place of its own in a `learned_1d` table (not so in DeiT III: Touvron et al. 2022)."""
    num_registers: Annotated[int, Field(ge=0, le=MOST)] = 0
    qk_norm: bool = False
    qkv_bias: bool = True
    proj_bias: bool = True
    """Bias of the projection after attention."""
    pre_norm: bool = False
    """LayerNorm before the first block, as in CLIP, where the stem's projection has no bias (Radford et al. 2021)."""
    final_norm: FinalNorm = "tokens"
    """The last LayerNorm before pooling, on all tokens (the paper); after it, on the pooled one; or left out."""
    norm_eps: Annotated[float, Field(ge=1e-12, lt=1)] = 1e-6
    """ε of every LayerNorm: 1e-6 in JAX, timm and torchvision, 1e-5 in vit-pytorch, 1e-12 in transformers."""
    layer_scale: Positive | None = None
    activation: Activation = "gelu"
    dropout: Rate = 0.0
    attention_dropout: Rate = 0.0
    drop_path: Rate = 0.0

    def _objections(self) -> Iterator[str]:
        for s, p in zip(self.image_hw, self.patch_hw, strict=True):
            if s % p:
                yield f"patch_size {p} does not divide image_size {s}; try one of {divisors(s)}"
        if self.width % self.num_heads:
            yield f"num_heads {self.num_heads} does not divide width {self.width}; try one of {divisors(self.width)}"
        if self.width == 1:
            yield "width 1 gives tokens of one value, of which LayerNorm leaves nothing; use 2 or more"
        yield from self._position_objections()
        if round(self.width * self.mlp_ratio) < 1:
            yield f"mlp_ratio {self.mlp_ratio} leaves no hidden unit at width {self.width}; make it larger"
        if self.qk_norm and self.head_dim == 1:
            yield f"num_heads {self.num_heads} gives heads of 1 channel, of which qk_norm leaves nothing"
        if not self.embed_class_token and not (self.has_class_token and self.position == "learned_1d"):
            yield (
                f"embed_class_token False has no meaning for pool {self.pool!r} and position {self.position!r}: "
                "no table has a place for a class token; leave it out"
            )
        if self.drop_path and self.depth == 1:
            yield (
                f"drop_path {self.drop_path} has no meaning at depth 1: it rises from 0 in the first block; "
                "use depth 2 or more"
            )
        if is_user_name(self.head) and not self.num_classes:
            yield f"head {self.head!r} puts out logits, but num_classes is 0; give the number of classes"
        yield from self._stem_objections()

    def _position_objections(self) -> Iterator[str]:
        position, width = self.position, self.width
        if is_user_name(position):
            if self.position_site != "stem":
                yield (
                    f"position_site {self.position_site!r} has no meaning for position {position!r}, which is told the block; "
                    "leave it out"
                )
            return
        if self.position_site not in POSITION_SITES[position]:
            sites = " or ".join(POSITION_SITES[position])
            yield f"position_site {self.position_site!r} has no meaning for position {position!r}; use {sites}"
        if self.position_grid is not None and position not in ("sincos_2d", "rope_2d"):
            yield (
                f"position_grid {self.position_grid} has no meaning for position {position!r}, which has no coordinates; "
                "leave it out"
            )
        if position == "learned_2d" and width % 2:
            yield f"width {width} is odd, but learned_2d halves it between rows and columns; make it even"
        if position == "sincos_2d" and width % 4:
            yield f"width {width} is not a multiple of 4, which sincos_2d needs (sin, cos × rows, columns)"
        if position == "rope_2d" and self.head_dim % 4:
            yield f"num_heads {self.num_heads} gives heads of {self.head_dim} channels; rope_2d needs a multiple of 4"

    def _stem_objections(self) -> Iterator[str]:
        stem, fields = self.stem, type(self).model_fields
        if is_user_name(stem):
            return
        for name in ("stem_layers", "stem_groups") if stem != "resnet" else ():
            if getattr(self, name) != fields[name].default:
                yield f"{name} {getattr(self, name)} has no meaning for stem {stem!r}; use stem='resnet'"
        if stem == "patch_norm" and self.in_channels * self.patch_hw[0] * self.patch_hw[1] == 1:
            yield (
                f"patch_size {self.patch_size} gives patches of one value, of which stem 'patch_norm' leaves nothing; "
                "use a larger patch_size"
            )
        if stem in ("patch", "patch_norm"):
            if self.stem_width != fields["stem_width"].default:
                yield f"stem_width {self.stem_width} has no meaning for stem {stem!r}; leave it out"
            return
        stride, other = self.patch_hw
        if stride != other:
            yield f"patch_size {self.patch_size} must be square for stem {stem!r}: it is a stride"
        if stem == "resnet":
            yield from self._resnet_stem_objections(stride)
        elif stride < 2 or stride & (stride - 1):
            yield f"patch_size {stride} must be a power of two, 2 or more, for stem 'conv' (each layer halves)"

    def _resnet_stem_objections(self, stride: int) -> Iterator[str]:
        num_stages = len(self.stem_layers)
        if num_stages > 4:
            yield f"stem_layers {self.stem_layers} must name 1 to 4 stages, or none"
        strides = [first * 2 ** (num_stages - 1) for first in (1, 2, 4)]
        if num_stages and stride not in strides:
            yield (
                f"patch_size {stride} is not a stride that {num_stages} ResNet stages can have; "
                f"try one of {strides}, or another number of stem_layers"
            )
        if self.stem_width % 8:
            yield f"stem_width {self.stem_width} must be a multiple of 8 (its channels are normalised in groups)"
        normed = stride if num_stages else min(self.root_stride, 2)  # the pooling comes after the norm
        if num_stages < 2 and self.image_hw == (normed, normed) and self.stem_groups % self.stem_width == 0:
            yield (
                f"image_size {self.image_size} is one place at stride {normed}, of which GroupNorm leaves nothing "
                f"(stem_width {self.stem_width} gives groups of one channel); use a larger image_size or fewer stem_groups"
            )

    @property
    def image_hw(self) -> tuple[int, int]:
        """(height, width) of the image in pixels."""
        return as_pair(self.image_size)

    @property
    def patch_hw(self) -> tuple[int, int]:
        """(height, width) of a patch in pixels."""
        return as_pair(self.patch_size)

    @property
    def root_stride(self) -> int:
        """Of a ResNet stem's first convolution and pooling: what its stages leave of `patch_size`.

        Without stages at most 4, the paper's; patches on the feature map bring the rest.
        """
        stride = self.patch_hw[0]
        return stride // 2 ** (len(self.stem_layers) - 1) if self.stem_layers else gcd(stride, 4)

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        return self.image_hw[0] // self.patch_hw[0], self.image_hw[1] // self.patch_hw[1]

    @property
    def num_patches(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def has_class_token(self) -> bool:
        return self.pool in ("cls", "mean_all")

    @property
    def num_prefix_tokens(self) -> int:
        """Tokens before the patches: the class token, then the registers."""
        return int(self.has_class_token) + self.num_registers

    @property
    def num_tokens(self) -> int:
        return self.num_prefix_tokens + self.num_patches

    @property
    def user_parts(self) -> dict[str, str]:
        """The user's parts by role, in the order of `ROLES`."""
        return {role: name for role in ROLES if is_user_name(name := getattr(self, role))}

    @property
    def head_dim(self) -> int:
        return self.width // self.num_heads

    @property
    def mlp_width(self) -> int:
        return round(self.width * self.mlp_ratio)


FREE = ("image_size", "position_grid", "num_classes", "head", "dropout", "attention_dropout", "drop_path")
"""Fields that may differ from those of the model which weights come from; all others decide what the weights mean."""
OF_THE_HEAD = ("num_classes", "head")
"""Those of `FREE` that are not free where the head is kept."""
