"""What is run: frozen, validated configurations, and the identity (`run_id`) that follows from them.

Imports no torch. Everything that can change a number is a field here; where a run happens is its environment.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from difflib import get_close_matches
from math import gcd
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

HARNESS_VERSION = 1
"""Raised whenever the harness changes what a run measures; records of different versions are never compared."""

Pool = Literal["cls", "gap", "mean_all", "map"]
Position = Literal["none", "learned_1d", "learned_2d", "relative", "sincos_2d", "rope_2d"]
PositionSite = Literal["stem", "every_layer", "every_layer_shared"]
Stem = Literal["patch", "patch_norm", "conv", "resnet"]
Head = Literal["linear", "mlp"]
Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "swiglu"]
FinalNorm = Literal["tokens", "pooled", "none"]
Precision = Literal["auto", "fp32", "bf16"]
Compile = Literal["off", "auto", "on"]

POSITION_SITES: dict[str, tuple[PositionSite, ...]] = {
    "none": ("stem",),
    "learned_1d": ("stem", "every_layer", "every_layer_shared"),
    "learned_2d": ("stem", "every_layer", "every_layer_shared"),
    "relative": ("every_layer", "every_layer_shared"),
    "sincos_2d": ("stem", "every_layer"),
    "rope_2d": ("every_layer",),
}
"""Where each position embedding has a meaning. A fixed (parameter-free) kind has nothing to share between layers."""


LONGEST_VALUE = 120
"""Letters of a value that is refused, as far as it is said."""
LONGEST_LINE = 600
"""Letters of a refusal; of a longer one, the middle is left out."""
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+(?=>)")
"""In `<Foo object at 0x7f…>`: another in every process, and of no use to the reader."""
_BRANCH = re.compile(r"(constrained-)?int|tuple\[.*|ViTConfig|TimmConfig")


def divisors(n: int) -> list[int]:
    """All positive divisors of n, ascending."""
    return [d for d in range(1, n + 1) if n % d == 0]


def as_pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a size that may be given as one int."""
    return (size, size) if isinstance(size, int) else size


def _square_as_int(size: Any) -> Any:
    """One canonical form: (32, 32) is 32, so that equal configurations have equal ids."""
    if isinstance(size, list | tuple) and len(size) == 2 and size[0] == size[1]:
        return size[0]
    return size


MOST = 1_000_000
"""No size, count or constant is larger: it would be a slip of the keyboard, found only when memory or patience runs out."""
MOST_BLOCKS = 10_000
MOST_IMAGES = 1_000_000_000

Extent = Annotated[int, Field(gt=0, le=MOST)]
Blocks = Annotated[int, Field(gt=0, le=MOST_BLOCKS)]
Positive = Annotated[float, Field(gt=0, le=MOST)]
NotNegative = Annotated[float, Field(ge=0, le=MOST)]
Size = Annotated[Extent | tuple[Extent, Extent], BeforeValidator(_square_as_int)]
Rate = Annotated[float, Field(ge=0, lt=1)]


class Config(BaseModel):
    """Base of all configurations: frozen, no unknown fields, no infinities, one canonical JSON form."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, values: Any) -> Any:
        if isinstance(values, dict):
            for name in values:
                if name not in cls.model_fields:
                    raise ValueError(f"{cls.__name__} has no field {name!r}; {cls._instead_of(str(name))}")
        return values

    @classmethod
    def _instead_of(cls, name: str) -> str:
        """What to do about a field that there is none of."""
        close = get_close_matches(name, cls.model_fields, n=1)
        return f"did you mean {close[0]}?" if close else f"its fields are {', '.join(cls.model_fields)}"

    def replace(self, **changes: Any) -> Self:
        """A copy that differs in the given fields, validated like a new one."""
        return type(self).model_validate({**self.model_dump(), **changes})

    def canonical_json(self) -> str:
        """Sorted keys, no spaces, every field written out."""
        return canonical_json(self.model_dump(mode="json"))


class ViTConfig(Config):
    """One Vision Transformer. The defaults are ViT-Ti/16 with a linear head.

    Sizes are pixels; `image_size` and `patch_size` take an int or (height, width). For `stem="resnet"` and
    `stem="conv"`, `patch_size` is the stem's total stride; `stem_layers` (blocks per ResNet stage; none for the
    first convolution and pooling alone, and patches on their feature map), `stem_width` (channels of the first
    convolution) and `stem_groups` describe it further.
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
    """Patches a side, or (rows, columns), that the coordinates of `sincos_2d` and `rope_2d` are stretched or squeezed to, as
    tables are resampled: that of the pretraining, at another image size. None: one patch is one step."""
    stem: Stem = "patch"
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

    @model_validator(mode="after")
    def _has_a_meaning(self) -> Self:
        for s, p in zip(self.image_hw, self.patch_hw, strict=True):
            if s % p:
                raise ValueError(f"patch_size {p} does not divide image_size {s}; try one of {divisors(s)}")
        if self.width % self.num_heads:
            raise ValueError(
                f"num_heads {self.num_heads} does not divide width {self.width}; try one of {divisors(self.width)}"
            )
        if self.width == 1:
            raise ValueError("width 1 gives tokens of one value, of which LayerNorm leaves nothing; use 2 or more")
        if self.position_site not in POSITION_SITES[self.position]:
            sites = " or ".join(POSITION_SITES[self.position])
            raise ValueError(
                f"position_site {self.position_site!r} has no meaning for position {self.position!r}; use {sites}"
            )
        if self.position_grid is not None and self.position not in ("sincos_2d", "rope_2d"):
            raise ValueError(
                f"position_grid {self.position_grid} has no meaning for position {self.position!r}, which has no coordinates; "
                "leave it out"
            )
        if self.position == "learned_2d" and self.width % 2:
            raise ValueError(
                f"width {self.width} is odd, but learned_2d halves it between rows and columns; make it even"
            )
        if self.position == "sincos_2d" and self.width % 4:
            raise ValueError(
                f"width {self.width} is not a multiple of 4, which sincos_2d needs (sin, cos × rows, columns)"
            )
        if self.position == "rope_2d" and self.head_dim % 4:
            raise ValueError(
                f"num_heads {self.num_heads} gives heads of {self.head_dim} channels; rope_2d needs a multiple of 4"
            )
        if round(self.width * self.mlp_ratio) < 1:
            raise ValueError(f"mlp_ratio {self.mlp_ratio} leaves no hidden unit at width {self.width}; make it larger")
        if self.qk_norm and self.head_dim == 1:
            raise ValueError(f"num_heads {self.num_heads} gives heads of 1 channel, of which qk_norm leaves nothing")
        if not self.embed_class_token and not (self.has_class_token and self.position == "learned_1d"):
            raise ValueError(
                f"embed_class_token False has no meaning for pool {self.pool!r} and position {self.position!r}: "
                "no table has a place for a class token; leave it out"
            )
        if self.drop_path and self.depth == 1:
            raise ValueError(
                f"drop_path {self.drop_path} has no meaning at depth 1: it rises from 0 in the first block; "
                "use depth 2 or more"
            )
        self._check_stem()
        return self

    def _check_stem(self) -> None:
        fields = type(self).model_fields
        if self.stem != "resnet" and self.stem_layers != fields["stem_layers"].default:
            raise ValueError(f"stem_layers {self.stem_layers} has no meaning for stem {self.stem!r}; use stem='resnet'")
        if self.stem != "resnet" and self.stem_groups != fields["stem_groups"].default:
            raise ValueError(f"stem_groups {self.stem_groups} has no meaning for stem {self.stem!r}; use stem='resnet'")
        if self.stem == "patch_norm" and self.in_channels * self.patch_hw[0] * self.patch_hw[1] == 1:
            raise ValueError(
                f"patch_size {self.patch_size} gives patches of one value, of which stem 'patch_norm' leaves nothing; "
                "use a larger patch_size"
            )
        if self.stem in ("patch", "patch_norm"):
            if self.stem_width != fields["stem_width"].default:
                raise ValueError(f"stem_width {self.stem_width} has no meaning for stem {self.stem!r}; leave it out")
            return
        stride, other = self.patch_hw
        if stride != other:
            raise ValueError(f"patch_size {self.patch_size} must be square for stem {self.stem!r}: it is a stride")
        if self.stem == "resnet":
            strides = [first * 2 ** (len(self.stem_layers) - 1) for first in (1, 2, 4)]
            if len(self.stem_layers) > 4:
                raise ValueError(f"stem_layers {self.stem_layers} must name 1 to 4 stages, or none")
            if self.stem_layers and stride not in strides:
                raise ValueError(
                    f"patch_size {stride} is not a stride that {len(self.stem_layers)} ResNet stages can have; "
                    f"try one of {strides}, or another number of stem_layers"
                )
            if self.stem_width % 8:
                raise ValueError(
                    f"stem_width {self.stem_width} must be a multiple of 8 (its channels are normalised in groups)"
                )
            normed = stride if self.stem_layers else min(self.root_stride, 2)  # the pooling comes after the norm
            is_one_place = len(self.stem_layers) < 2 and self.image_hw == (normed, normed)
            if is_one_place and self.stem_groups % self.stem_width == 0:
                raise ValueError(
                    f"image_size {self.image_size} is one place at stride {normed}, of which GroupNorm leaves nothing "
                    f"(stem_width {self.stem_width} gives groups of one channel); use a larger image_size or fewer stem_groups"
                )
        elif stride < 2 or stride & (stride - 1):
            raise ValueError(
                f"patch_size {stride} must be a power of two, 2 or more, for stem 'conv' (each layer halves)"
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
    def head_dim(self) -> int:
        return self.width // self.num_heads

    @property
    def mlp_width(self) -> int:
        return round(self.width * self.mlp_ratio)


FREE = ("image_size", "position_grid", "num_classes", "head", "dropout", "attention_dropout", "drop_path")
"""What may differ from the model that weights come from; everything else decides what its weights mean."""
OF_THE_HEAD = ("num_classes", "head")
"""Of these, what a head that is kept decides too."""


class TimmConfig(Config):
    """A model of timm (Wightman 2019) for such images: what ViTs are compared with. Sizes are pixels.

    `timm` is a name that `timm.create_model` knows (`resnet18`), or a class of one of timm's modules
    (`resnetv2.ResNetV2`), whose every argument is then an option. `options` are its keyword arguments, as JSON has them.
    """

    timm: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:/-]*$")]
    image_size: Size = 224
    in_channels: Extent = 3
    num_classes: Annotated[int, Field(gt=0, le=MOST)] = 1000
    options: dict[str, Any] = {}

    @classmethod
    def _instead_of(cls, name: str) -> str:
        if name not in ViTConfig.model_fields:
            return super()._instead_of(name)
        return "give an argument that timm's model takes, by timm's name: --model-kwargs KEY=VALUE (options in Python)"

    @field_validator("options")
    @classmethod
    def _as_json(cls, options: dict[str, Any]) -> dict[str, Any]:
        """One canonical form: lists, not tuples, and whole numbers whole. Raises ValueError for what JSON cannot say."""
        for name in options:
            if name in _REFUSED_OPTIONS:
                raise ValueError(f"option {name!r} {_REFUSED_OPTIONS[name]}; leave it out")
        try:
            return dict(_whole_numbers(json.loads(json.dumps(options, allow_nan=False))))
        except (TypeError, ValueError) as error:
            raise ValueError(f"an option's value is no JSON ({error}); give numbers, text and lists") from error

    def __hash__(self) -> int:
        return hash(self.canonical_json())

    @property
    def image_hw(self) -> tuple[int, int]:
        """(height, width) of the image in pixels."""
        return as_pair(self.image_size)


def block_width(config: ViTConfig | TimmConfig) -> int | None:
    """Channels of the tokens in blocks of ours; None where there are none."""
    return config.width if isinstance(config, ViTConfig) else None


_REFUSED_OPTIONS = {
    "img_size": "is said by image_size",
    "in_chans": "is said by in_channels",
    "num_classes": "is said by itself",
    **dict.fromkeys(
        ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path"),
        "gives weights that the run would not name",
    ),
    "features_only": "gives a model without logits",
}


def _whole_numbers(value: Any) -> Any:
    """1.0 is 1, so that equal options have equal ids."""
    if isinstance(value, dict):
        return {name: _whole_numbers(own) for name, own in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(own) for own in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _kind_of_model(values: Any) -> str:
    named = "timm" in values if isinstance(values, dict) else isinstance(values, TimmConfig)
    return "TimmConfig" if named else "ViTConfig"


ModelConfig = Annotated[
    Annotated[ViTConfig, Tag("ViTConfig")] | Annotated[TimmConfig, Tag("TimmConfig")], Discriminator(_kind_of_model)
]


class DataConfig(Config):
    """Which images, how they are split, and how a training batch is augmented. Where they lie is environment."""

    dataset: str = "digits"
    train_images: Annotated[int, Field(gt=0, le=MOST_IMAGES)] | None = None
    """Train on a stratified subset of this many images, drawn by seed, after the validation split is cut; None takes all."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    crop_padding: Annotated[int, Field(ge=0, le=MOST)] = 0
    """Pixels of zero padding before a random crop back to size; 0 is no crop."""
    flip: bool = False
    """Mirror left–right with probability ½."""
    mixup: NotNegative = 0.0
    """α of the Beta distribution (Zhang et al. 2018); 0 is off."""
    cutmix: NotNegative = 0.0
    """α of the Beta distribution (Yun et al. 2019); 0 is off."""

    def resampled(self, before: tuple[int, int], after: tuple[int, int]) -> DataConfig:
        """For images of `after` (height, width) instead of `before`: crops are padded by the same share of the height, to the
        nearest pixel.
        """
        return self.replace(crop_padding=int(self.crop_padding * after[0] / before[0] + 0.5))


class TrainConfig(Config):
    """The recipe that every arm of a study shares. AdamW, cosine schedule with linear warm-up."""

    epochs: Annotated[int | float, Field(ge=0, le=MOST)] = 20
    """Passes over the training images; 2.5 ends half-way through the third, at the nearest whole step.

    0 evaluates weights from elsewhere as they are, head and all.
    """
    batch_size: Extent = 128
    learning_rate: Positive = 1e-3
    weight_decay: NotNegative = 0.05
    """Not applied to biases, norms, tokens and position tables."""
    optimizer: str = "adamw"
    """Any name that timm's optimizer factory knows. `muon` takes the weights of the blocks' linear layers, AdamW the rest."""
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of all steps in which the learning rate rises linearly from 0."""
    schedule: Literal["cosine", "linear"] = "cosine"
    """How the learning rate falls to 0 after that."""
    clip_norm: Positive | None = 1.0
    """Global gradient norm is clipped to this; None is off."""
    label_smoothing: Rate = 0.0
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Per step, of an exponential moving average of the weights that is evaluated in their place; None is off.

    After step t, counted from 0, the decay is min(ema_decay, (1 + t) / (10 + t)).
    """
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """For fine-tuning: the learning rate of a block is this times that of the block after it (Clark et al. 2020). None is off.

    The last norm, pooling and head have the whole rate, stem, tokens and position tables as a block before the first
    (as in BEiT: Bao et al. 2022).
    """
    trainable: Literal["all", "attention"] = "all"
    """For fine-tuning: `attention` trains the blocks' attention and the head alone (Touvron et al. 2022, section 4)."""
    precision: Precision = "auto"
    """`auto` takes bf16 where it is measured to be fast; what was taken is in the record's environment."""
    compile: Compile = "off"
    """torch.compile: `on` fails where it cannot, `auto` runs eagerly there and the environment says so."""

    @field_validator("epochs")
    @classmethod
    def _whole_as_int(cls, epochs: int | float) -> int | float:
        """One canonical form: 2.0 is 2, so that equal configurations have equal ids."""
        return int(epochs) if epochs == int(epochs) else epochs


class RunConfig(Config):
    """One run, complete: one arm × one learning rate × one seed × data × recipe."""

    model: ModelConfig = ViTConfig()
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    init: str | None = None
    """Weights to start from, by name and content (`timm:NAME@1a2b3c4d`); None starts from the seed."""
    pretraining: RunConfig | None = None
    """The run, complete, whose weights it starts from: in place of `init` where both are planned together."""
    keep_head: bool = False
    """Whether the head comes with the weights that it starts from; else a new one is drawn from the seed."""
    harness_version: int = HARNESS_VERSION

    @model_validator(mode="after")
    def _pairs_up(self) -> Self:
        if (self.data.mixup or self.data.cutmix) and self.train.batch_size % 2:
            raise ValueError(
                f"batch_size {self.train.batch_size} is odd, but mixup and cutmix pair images; use an even one"
            )
        if self.data.crop_padding > max(self.model.image_hw):
            raise ValueError(
                f"crop_padding {self.data.crop_padding} is more than image_size {self.model.image_size}, and most crops would "
                "be empty; make it smaller"
            )
        self._check_start()
        model = self.model
        if isinstance(model, TimmConfig) and self.train.trainable == "attention":
            raise ValueError("trainable 'attention' is for the blocks of a ViT, not for timm's models; leave it out")
        if isinstance(model, TimmConfig) and self.train.layer_decay is not None:
            raise ValueError(
                f"layer_decay {self.train.layer_decay} is for the blocks of a ViT, not for timm's models; leave it out"
            )
        if (
            isinstance(model, ViTConfig)
            and self.train.batch_size == 1
            and model.stem == "conv"
            and model.num_patches == 1
        ):
            raise ValueError("batch_size 1 leaves BatchNorm one value, where the stem ends in one patch; use 2 or more")
        return self

    def _check_start(self) -> None:
        if self.init is not None and self.pretraining is not None:
            raise ValueError(f"init {self.init!r} has no meaning beside pretraining, which has its own; leave one out")
        from_the_seed = self.init is None and self.pretraining is None
        if self.train.trainable == "attention" and from_the_seed:
            raise ValueError(
                "trainable 'attention' leaves the rest as it was drawn; give weights to start from (--init)"
            )
        if self.keep_head and from_the_seed:
            raise ValueError("keep_head has no meaning without weights to start from (--init); leave it out")
        if self.train.epochs == 0 and not self.keep_head:
            raise ValueError(
                "epochs 0 evaluates what was drawn from the seed; give weights to start from (--init) with their head "
                "(--keep-head), or train longer"
            )
        if self.pretraining is not None:
            self._check_pretraining(self.pretraining.model)

    def _check_pretraining(self, source: ModelConfig) -> None:
        model = self.model
        if not (isinstance(model, ViTConfig) and isinstance(source, ViTConfig)):
            raise ValueError("pretraining is for ViTs, not for timm's models; leave it out")
        for name in ViTConfig.model_fields:
            free = name in FREE and not (self.keep_head and name in OF_THE_HEAD)
            if not free and getattr(model, name) != getattr(source, name):
                raise ValueError(
                    f"{name} {getattr(model, name)!r} is not that of the pretraining, {getattr(source, name)!r}, from whose "
                    "weights it goes on; make them equal"
                )

    @property
    def run_id(self) -> str:
        """First 16 hex digits of the SHA-256 of the canonical JSON."""
        return run_id(self.model_dump(mode="json"))


def canonical_json(values: dict[str, Any]) -> str:
    """Sorted keys, no spaces."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"))


def run_id(config: dict[str, Any]) -> str:
    """First 16 hex digits of the SHA-256 of a configuration's canonical JSON."""
    return hashlib.sha256(canonical_json(config).encode()).hexdigest()[:16]


TRACEBACK = "VITBENCH_TRACEBACK"
"""Set in the environment, errors keep their traceback."""


def one_line(error: ValueError) -> str:
    """The first complaint of a ValueError or pydantic ValidationError as one line: field, value, remedy."""
    line = printable(_ADDRESS.sub("", _complaint(error)))
    if len(line) <= LONGEST_LINE:
        return line
    end = LONGEST_LINE // 3  # where the remedy is
    return f"{line[: LONGEST_LINE - end - 3]} … {line[-end:]}"


def _complaint(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return " ".join(str(error).split())
    complaints = error.errors()
    # Of the branches of a union, report the one that got furthest: the one that the value was meant for.
    same_field = [c for c in complaints if _field(c["loc"]) == _field(complaints[0]["loc"])]
    first = max(same_field, key=lambda c: (len(c["loc"]), c["type"] == "too_long"))
    message = str(first["msg"]).removeprefix("Value error, ")
    where = _field(first["loc"])
    if first["type"].startswith("missing"):  # its input is all that was given instead
        if not isinstance(first["loc"][-1], int):
            return f"{where} is missing; give one"
        message = "It has too few values; give one number or two"
    return f"{where} {shortened(first['input'])}: {message}" if where else message


def shortened(value: Any) -> str:
    """How a value is told in a refusal: as in Python, up to LONGEST_VALUE letters."""
    text = _ADDRESS.sub("", repr(value))
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"


_JOINERS = "\u200c\u200d"
"""Zero-width, but part of how some scripts are written."""


def counted(number: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def printable(text: str) -> str:
    """Text that others chose, so that it only stands there: no character of it moves the cursor, colours what follows or turns
    the reading direction. Line breaks and tabs become spaces, other such characters are written out as `\\x1b`.
    """
    if text.isprintable():
        return text
    return "".join(map(_printable_character, text))


def _printable_character(character: str) -> str:
    if character in "\n\r\t":
        return " "
    if character in _JOINERS or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return character
    return character.encode("unicode_escape", "surrogatepass").decode()


def _field(location: tuple[int | str, ...]) -> str:
    """Without indices and the branch of a union ("constrained-int", "tuple[...]"), which are pydantic's affair."""
    return ".".join(part for part in location if isinstance(part, str) and not _BRANCH.fullmatch(part))
