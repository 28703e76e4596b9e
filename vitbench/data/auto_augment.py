"""What does a policy of automatic augmentation (RandAugment, AutoAugment, 3-Augment, AugMix) do to each image of a batch?

timm reads the policy: its operations, probabilities, magnitudes and their ranges are taken from timm's own objects. Draws are
made for a whole batch, and images are grouped by operation.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data import auto_augment as timm_policies
from torch import Tensor

from vitbench.config import Interpolation
from vitbench.data.affine import affine, rotation
from vitbench.data.part import WHOLE, Part
from vitbench.data.pillow_pixels import BY_NEIGHBOURS, BY_TABLE, blend, look_up
from vitbench.data.seeding import random_state, seed_words

_AUGMIX_TRANSLATION = 0.3
"""Largest share of the side that AugMix translates by, as in timm's transforms (elsewhere 0.45)."""
_BLUR = (0.1, 2.0)
"""Radii of timm's `gaussian_blur_rand`, which draws them itself."""


class Apply(Protocol):
    """(uint8 images [b, C, H, W], seed, step, which of the batch they are) → the same, changed."""

    def __call__(self, images: Tensor, seed: int, step: int, part: Part = WHOLE) -> Tensor: ...


@dataclass(frozen=True)
class Layer:
    """One operation, or none, for each image of a batch."""

    names: NDArray[np.str_]
    """Of timm's functions; empty for none."""
    arguments: NDArray[np.float64]
    bicubic: NDArray[np.bool_]

    def of(self, part: Part) -> Layer:
        """That of the images at hand."""
        return Layer(part.of(self.names), part.of(self.arguments), part.of(self.bicubic))


def policy(text: str, mean: Sequence[float], interpolation: Interpolation) -> Apply:
    """What changes images as timm's policy `text` says.

    What lies outside a rotated, sheared or translated image gets the colour `mean` (in [0, 1], as in timm), by
    `interpolation` bilinear, bicubic or random. Raises AssertionError for what is no policy; `DataConfig` refuses it.
    """
    fill = tuple(min(255, round(255 * value)) for value in mean)
    settings: dict[str, Any] = {"img_mean": fill}
    if interpolation != "random":
        settings["interpolation"] = Image.Resampling[interpolation.upper()]
    kind = text.split("-")[0]
    if kind == "rand":
        return partial(_in_layers, rand_layers, timm_policies.rand_augment_transform(text, settings), fill)
    if kind == "augmix":
        settings["translate_pct"] = _AUGMIX_TRANSLATION
        return partial(_augmix, timm_policies.augment_and_mix_transform(text, settings), fill)
    return partial(_in_layers, policy_layers, timm_policies.auto_augment_transform(text, settings), fill)


def mend(transform: object) -> None:
    """Lets timm's policy `transform` keep no bits of an image, which Pillow 13 refuses; of other transforms, nothing."""
    policies = chain.from_iterable(getattr(transform, "policy", ()))
    for operation in chain(getattr(transform, "ops", ()), policies):
        if operation.aug_fn is timm_policies.posterize:
            operation.aug_fn = _posterize


def _posterize(image: Image.Image, bits: int, **kwargs: Any) -> Image.Image:
    return timm_policies.posterize(image, bits, **kwargs) if bits > 0 else Image.new(image.mode, image.size)


def _in_layers(
    layers: Callable[..., list[Layer]],
    transform: Any,
    fill: Sequence[int],
    images: Tensor,
    seed: int,
    step: int,
    part: Part = WHOLE,
) -> Tensor:
    drawn = layers(transform, part.whole(len(images)), seed, step)
    return apply_layers(images, [layer.of(part) for layer in drawn], fill)


def rand_layers(transform: timm_policies.RandAugment, batch: int, seed: int, step: int) -> list[Layer]:
    """What RandAugment does to each image of a batch, in order."""
    draws = random_state("auto augment", seed, step)
    number = len(transform.ops)
    if transform.choice_weights is None:
        chosen = draws.randint(number, size=(batch, transform.num_layers))
    else:
        # The first of exponential arrivals at these rates: draws by weight, without replacement.
        arrivals = draws.standard_exponential((batch, number)) / transform.choice_weights
        chosen = arrivals.argsort(1)[:, : transform.num_layers]
    with _timm_draws(seed, step):
        return [_layer([transform.ops[index] for index in column], draws) for column in chosen.T]


def policy_layers(transform: timm_policies.AutoAugment, batch: int, seed: int, step: int) -> list[Layer]:
    """What AutoAugment or 3-Augment does to each image of a batch, in order."""
    draws = random_state("auto augment", seed, step)
    chosen = [transform.policy[index] for index in draws.randint(len(transform.policy), size=batch)]
    with _timm_draws(seed, step):
        return [_layer(column, draws) for column in zip(*chosen, strict=True)]


def _augmix(
    transform: timm_policies.AugMixAugment,
    fill: Sequence[int],
    images: Tensor,
    seed: int,
    step: int,
    part: Part = WHOLE,
) -> Tensor:
    draws = random_state("auto augment", seed, step)
    batch, width = part.whole(len(images)), transform.width
    weights = draws.dirichlet([transform.alpha] * width, size=batch).astype(np.float32)
    strength = draws.beta(transform.alpha, transform.alpha, size=batch).astype(np.float32)
    branches = []
    with _timm_draws(seed, step):
        for _ in range(width):
            depths = np.full(batch, transform.depth) if transform.depth > 0 else draws.randint(1, 4, size=batch)
            chosen = draws.randint(len(transform.ops), size=(depths.max(), batch))
            layers = [_layer([transform.ops[i] for i in row], draws, depths > k) for k, row in enumerate(chosen)]
            branches.append(apply_layers(images, [layer.of(part) for layer in layers], fill))
    weights, strength = part.of(weights), part.of(strength)
    if transform.blended:
        # timm's faster form: each chain is blended over those before it.
        shares = [transform._calc_blended_weights(w, m) for w, m in zip(weights, strength, strict=True)]
        for branch, share in zip(branches, np.stack(shares, axis=1), strict=True):
            images = blend(images, branch, share.astype(np.float64))
        return images
    mixed = torch.zeros(images.shape, device=images.device)
    for branch, share in zip(branches, weights.T, strict=True):
        mixed += branch.float() * torch.from_numpy(share.copy()).to(images.device).view(-1, 1, 1, 1)
    return blend(images, mixed.clamp_(0, 255).to(torch.uint8), strength.astype(np.float64))


@contextmanager
def _timm_draws(seed: int, step: int) -> Iterator[None]:
    """timm's levels draw their sign from Python's global generator, which belongs to the caller."""
    state = random.getstate()
    random.seed(repr(seed_words("auto augment signs", seed, step)))
    try:
        yield
    finally:
        random.setstate(state)


def _layer(
    operations: Sequence[timm_policies.AugmentOp],
    draws: np.random.RandomState,
    wanted: NDArray[np.bool_] | None = None,
) -> Layer:
    """What timm's `AugmentOp.__call__` would do, for one operation an image; `wanted` [B] says which have one at all."""
    batch = len(operations)
    applied, uniform, bicubic = draws.random_sample((3, batch))
    normal = draws.standard_normal(batch)
    names, arguments, is_bicubic = [""] * batch, np.zeros(batch), np.zeros(batch, dtype=np.bool_)
    for i, operation in enumerate(operations):
        if applied[i] > operation.prob or (wanted is not None and not wanted[i]):
            continue
        names[i] = operation.aug_fn.__name__
        level = operation.magnitude
        if operation.magnitude_std == float("inf"):
            level *= uniform[i]
        elif operation.magnitude_std > 0:
            level += operation.magnitude_std * normal[i]
        level = max(0.0, min(level, operation.magnitude_max or timm_policies._LEVEL_DENOM))
        if operation.level_fn is not None:
            (arguments[i],) = operation.level_fn(level, operation.hparams)
        resample = operation.kwargs["resample"]
        is_bicubic[i] = (
            resample if isinstance(resample, int) else resample[int(bicubic[i] * len(resample))]
        ) == Image.Resampling.BICUBIC
    return _with_pillow_arguments(Layer(np.array(names), arguments, is_bicubic), uniform)


def _with_pillow_arguments(layer: Layer, uniform: NDArray[np.float64]) -> Layer:
    """timm's functions that only call another one with other arguments, as that other one."""
    names, arguments = layer.names.astype("<U32"), layer.arguments.copy()
    drawn = names == "gaussian_blur_rand"
    least, largest = _BLUR
    arguments[drawn] = least + (largest * arguments[drawn] - least) * uniform[drawn]
    names[drawn] = "gaussian_blur"
    grey = names == "desaturate"
    arguments[grey] = np.clip(1 - arguments[grey], 0, 1)
    names[grey] = "color"
    return Layer(names, arguments, layer.bicubic)


def apply_layers(images: Tensor, layers: Sequence[Layer], fill: Sequence[int]) -> Tensor:
    """`images` are left as they are."""
    result = images.clone()
    for layer in layers:
        _apply_tables(result, layer)
        for name, change in BY_NEIGHBOURS.items():
            rows = np.flatnonzero(layer.names == name)
            if len(rows):
                chosen = torch.from_numpy(rows).to(images.device)
                result[chosen] = change(result[chosen], layer.arguments[rows])
        _apply_affine(result, layer, fill)
    return result


def _apply_tables(images: Tensor, layer: Layer) -> None:
    """All operations that change each pixel by its level alone: their tables are made one by one, and used together."""
    rows, tables = [], []
    for name, table in BY_TABLE.items():
        chosen = np.flatnonzero(layer.names == name)
        if len(chosen):
            rows.append(chosen)
            made = table(images[torch.from_numpy(chosen).to(images.device)], layer.arguments[chosen])
            tables.append(made.expand(-1, images.shape[1], -1))
    if rows:
        chosen_rows = torch.from_numpy(np.concatenate(rows)).to(images.device)
        images[chosen_rows] = look_up(images[chosen_rows], torch.cat(tables))


def _apply_affine(images: Tensor, layer: Layer, fill: Sequence[int]) -> None:
    height, width = images.shape[-2:]
    matrix: dict[str, Callable[[float], Sequence[float]]] = {
        "rotate": partial(rotation, width=width, height=height),
        "shear_x": lambda factor: (1, factor, 0, 0, 1, 0),
        "shear_y": lambda factor: (1, 0, 0, factor, 1, 0),
        "translate_x_rel": lambda share: (1, 0, share * width, 0, 1, 0),
        "translate_y_rel": lambda share: (1, 0, 0, 0, 1, share * height),
    }
    moved = np.isin(layer.names, list(matrix))
    for bicubic in (False, True):
        rows = np.flatnonzero(moved & (layer.bicubic == bicubic))
        if len(rows):
            matrices = np.array([matrix[layer.names[i]](layer.arguments[i]) for i in rows], dtype=np.float64)
            chosen = torch.from_numpy(rows).to(images.device)
            images[chosen] = affine(images[chosen], matrices, bicubic=bicubic, fill=fill)
