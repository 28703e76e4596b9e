"""What does a model cost, part by part? Closed forms of its configuration, without building it. Imports no torch.

Parameters, multiply–accumulates (MACs) and activations by `CONVENTIONS`; `counters` measures the same on a built model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from math import prod
from typing import TYPE_CHECKING

from vitbench.config import OF_BLOCKS, ModelConfig, ModuleConfig, TimmConfig, ViTConfig, user_names
from vitbench.costs.comparators import closed_form
from vitbench.costs.counts import Counts, attention_products, convolution, linear

if TYPE_CHECKING:
    from vitbench.costs.user_counts import UserCounts

CONVENTIONS = (
    "1 MAC is 2 FLOPs",
    "MACs: linear layers, convolutions, the two products of attention and those of relative position",
    "not counted: norms, nonlinearities, softmax, pooling by mean, additions, weight standardisation",
    "activations: elements that the counted operations put out, attention logits included",
    "training: 3 × forward",
)
"""MACs are fvcore's, less norms; activations are those of its ActivationCountAnalysis and of timm's published tables."""
FORWARDS = {"infer": 1, "train": 3}
"""FLOPs by mode, over those of a forward pass."""
MFU_MEANS = (
    "MFU: 2 × MACs an image, 3 times that for training, over the rate of matrix products measured in the same run. MACs are "
    "the whole architecture's, also where a model leaves out what nothing reads: with cls, MFU can pass 100 %."
)


def count(config: ModelConfig) -> Counts:
    """The whole model for one image: the sum of its parts.

    Of a timm model without closed form, and of users' models and parts, what is counted on the shapes of the built model,
    which imports torch. Raises ValueError for one that cannot be built or run, or whose code this process has not loaded.
    """
    if isinstance(config, TimmConfig):
        return closed_form(config) or _count_built(config)
    if isinstance(config, ModuleConfig):
        return sum(_count_user_model(config).parts.values(), Counts())
    return _count_users(config) if user_names(config) else _count_ours(config)


@lru_cache(4096)
def _count_ours(config: ViTConfig) -> Counts:
    return _count_users(config)


def _count_users(config: ViTConfig) -> Counts:
    return sum(count_parts(config).values(), Counts())


@cache
def _count_built(config: TimmConfig) -> Counts:
    from vitbench.costs.counters import count_timm

    return count_timm(config)


def _count_user_model(config: ModelConfig) -> UserCounts:
    from vitbench.costs.user_counts import count_user_model

    return count_user_model(config)


def uncounted_operators(config: ModelConfig) -> tuple[str, ...]:
    """Operators without a count in a user's model or part: with any, `count`'s MACs are incomplete. () for all others.

    Raises ValueError as `count` does.
    """
    return _count_user_model(config).uncounted if user_names(config) else ()


def count_parts(config: ViTConfig) -> dict[str, Counts]:
    """Each part for one image, empty ones included (`pool` is empty unless it attends).

    Tables of relative position are parameters of `position`, their products MACs of the blocks; `norm` is the last norm and
    the one before the first block. Parts with a user's code in them are counted on the built model; what such code computes
    outside of all modules is `elsewhere`.
    """
    users = _parts_with_users_code(config)
    closed_forms: dict[str, Callable[[], Counts]] = {
        "stem": lambda: stem(config),
        "tokens": lambda: Counts(params=config.num_prefix_tokens * config.width),
        "position": lambda: position(config),
        **{f"blocks.{i}": lambda: block(config) for i in range(config.depth)},
        "norm": lambda: Counts(params=2 * config.width * ((config.final_norm != "none") + config.pre_norm)),
        "pool": lambda: pool(config),
        "head": lambda: head(config),
    }
    if not users:
        return {part: closed_form() for part, closed_form in closed_forms.items()}
    counted = _count_user_model(config).parts
    parts = {
        part: counted.get(part, Counts()) if part.partition(".")[0] in users else closed_form()
        for part, closed_form in closed_forms.items()
    }
    return parts | {part: counts for part, counts in counted.items() if part not in parts}


def _parts_with_users_code(config: ViTConfig) -> set[str]:
    """Names of parts; `blocks` for every block."""
    roles = config.user_parts.keys()
    parts = roles & {"stem", "position", "norm", "pool", "head"}
    if roles & set(OF_BLOCKS):
        parts |= {"blocks"}
    if "activation" in roles and config.pool == "map":
        parts |= {"pool"}
    return parts


def training_flops_per_image(config: ModelConfig, *, recorded_macs: int | None = None) -> int:
    """Forward and backward: 3 × forward, at 2 FLOPs a MAC.

    With the `recorded_macs` of a model of timm, or of a user's code, none is built to be counted: it may not be here.
    """
    has_closed_form = isinstance(config, ViTConfig) and not config.user_parts
    if recorded_macs is not None and not has_closed_form:
        return 6 * recorded_macs
    return 6 * count(config).macs


def unread_macs(config: ModelConfig) -> int:
    """Of `count`'s MACs for one image, those that a model of ours leaves out, as pooling by class token does not read them: in
    the last block, all but the class token's attention, projection and MLP. 0 with other pooling, for models of timm and of
    users, and with a user's attention, MLP or norm, which may want to see every token.

    Native operators leave out the other tokens' queries, too.
    """
    if (
        not isinstance(config, ViTConfig)
        or config.pool != "cls"
        or config.user_parts.keys() & {"attention", "mlp", "norm"}
    ):
        return 0
    unread = config.num_tokens - 1
    left_out = (
        attention(config, queries=unread, keys=config.num_tokens)
        + linear(config.width, config.width, positions=unread)
        + mlp(config, positions=unread)
    )
    return left_out.macs


def unread_sentence(models: Mapping[str, ModelConfig]) -> str:
    """What images/s of models, by what they are called, owe to `unread_macs`; empty where they owe nothing to it.

    Models with a user's part are left out: their MACs may be unknown here.
    """
    ours = {name: model for name, model in models.items() if isinstance(model, ViTConfig) and not model.user_parts}
    shares = {
        name: f"{100 * macs / count(model).macs:.2g} %" for name, model in ours.items() if (macs := unread_macs(model))
    }
    if not shares:
        return ""
    texts = dict.fromkeys(shares.values())
    each = ", ".join(f"{text} ({'; '.join(name for name in shares if shares[name] == text)})" for text in texts)
    return (
        "Images/s: a model with cls computes the class token alone in its last block. Of the counted MACs it leaves out at "
        f"least {each}. With other pooling, all tokens are computed."
    )


def attention(config: ViTConfig, *, queries: int, keys: int) -> Counts:
    """The products of queries with keys and of attention with values, over all heads."""
    q, k = ((config.num_heads, tokens, config.head_dim) for tokens in (queries, keys))
    return attention_products(q, k, k)


def relative_logits(config: ViTConfig) -> Counts:
    """The product of every patch's query with the embeddings of all offsets, over all heads."""
    n = config.num_patches
    offsets = 2 * n - 1
    return Counts(macs=n * offsets * config.width, activations=config.num_heads * n * offsets)


def mlp(config: ViTConfig, *, positions: int) -> Counts:
    gates = 2 if config.activation == "swiglu" else 1
    first = linear(config.width, gates * config.mlp_width, positions=positions)
    return first + linear(config.mlp_width, config.width, positions=positions)


def block(config: ViTConfig) -> Counts:
    """One encoder block, without the tables of position."""
    n, width = config.num_tokens, config.width
    norms = 4 * width + 4 * config.head_dim * config.qk_norm
    scales = 2 * width if config.layer_scale is not None else 0
    return (
        linear(width, 3 * width, positions=n, bias=config.qkv_bias)
        + attention(config, queries=n, keys=n)
        + (relative_logits(config) if config.position == "relative" else Counts())
        + linear(width, width, positions=n, bias=config.proj_bias)
        + mlp(config, positions=n)
        + Counts(params=norms + scales)
    )


def position(config: ViTConfig) -> Counts:
    """Position tables of the whole model."""
    n, width = config.num_patches, config.width
    tables = config.depth if config.position_site == "every_layer" else 1
    match config.position:
        case "learned_1d":
            return Counts(params=tables * (n + (config.has_class_token and config.embed_class_token)) * width)
        case "learned_2d":
            return Counts(params=tables * sum(config.grid) * (width // 2))
        case "relative":
            return Counts(params=tables * (2 * n - 1) * width)
        case _:
            return Counts()


def pool(config: ViTConfig) -> Counts:
    """Attention pooling; the other ways of pooling only average or choose."""
    if config.pool != "map":
        return Counts()
    n, width = config.num_patches, config.width
    return (
        Counts(params=width)
        + linear(width, width, positions=1)
        + linear(width, 2 * width, positions=n)
        + attention(config, queries=1, keys=n)
        + linear(width, width, positions=1)
        + Counts(params=2 * width)
        + mlp(config, positions=1)
    )


def head(config: ViTConfig) -> Counts:
    hidden = linear(config.width, config.width, positions=1) if config.head == "mlp" else Counts()
    return hidden + linear(config.width, config.num_classes, positions=1)


def stem(config: ViTConfig) -> Counts:
    """From pixels to patch tokens."""
    n, width = config.num_patches, config.width
    match config.stem:
        case "conv":
            return _conv_stem(config)
        case "resnet":
            return _resnet_stem(config)
        case _:
            inputs = config.in_channels * prod(config.patch_hw)
            norms = 2 * (inputs + width) if config.stem == "patch_norm" else 0
            return linear(inputs, width, positions=n, bias=not config.pre_norm) + Counts(params=norms)


def _conv_stem(config: ViTConfig) -> Counts:
    total, channels, pixels = Counts(), config.in_channels, prod(config.image_hw)
    for i in range(config.patch_hw[0].bit_length() - 1):
        out, pixels = config.stem_width * 2**i, pixels // 4
        total += convolution(channels, out, kernel=3, positions=pixels)
        channels = out
    return total + linear(channels, config.width, positions=config.num_patches, bias=not config.pre_norm)


def _resnet_stem(config: ViTConfig) -> Counts:
    kernel, convolution_stride = (7, 2) if config.root_stride == 4 else (3, config.root_stride)
    pixels = prod(config.image_hw) // convolution_stride**2
    channels = config.stem_width
    total = convolution(config.in_channels, channels, kernel=kernel, positions=pixels)
    pixels = prod(config.image_hw) // config.root_stride**2
    for stage, num_blocks in enumerate(config.stem_layers):
        middle, out = config.stem_width * 2**stage, 4 * config.stem_width * 2**stage
        for i in range(num_blocks):
            before = pixels
            if i == 0:
                pixels = pixels // 4 if stage else pixels
                total += convolution(channels, out, kernel=1, positions=pixels)
            # The 3×3 carries the stride, so the first 1×1 still sees the larger map.
            total += convolution(channels, middle, kernel=1, positions=before)
            total += convolution(middle, middle, kernel=3, positions=pixels)
            total += convolution(middle, out, kernel=1, positions=pixels)
            channels = out
    inputs = channels * pixels // config.num_patches
    return total + linear(inputs, config.width, positions=config.num_patches, bias=not config.pre_norm)
