"""What does one model cost, part by part, by every counter that can count it? They must agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from vitbench.config import ModelConfig, TimmConfig, ViTConfig, user_names
from vitbench.costs.comparators import closed_form
from vitbench.costs.counters import count_with_flop_counter, count_with_fvcore
from vitbench.costs.counts import Counts
from vitbench.costs.macs import count_parts
from vitbench.models import ViT, timm_models

TOLERANCE = 0.005
"""MACs and activations may differ by this share. Parameters must be equal."""
MOST_BLOCKS = 1_000
"""Of the encoder and of a ResNet stem together: two tracers walk through each, which takes minutes for so many."""
MOST_TOKENS = 1_000_000
MOST_MACS_OF_A_PART = 2**60
"""No tensor has more elements than its part has MACs, and PyTorch counts a tensor's bytes (4 × elements) in 63 bits."""


@dataclass(frozen=True)
class AgreedCounts:
    """Counts for one image by counter and part."""

    counters: Mapping[str, Mapping[str, Counts]]
    """Of a model with a user's code, FlopCounterMode alone, and the closed forms of what is ours."""
    norms: int | None
    """MACs of the norms, which are not counted, as fvcore would add them; None where it was not asked."""
    difference: float
    """The largest between two counters of a part, relative."""
    uncounted: tuple[str, ...] = ()
    """Operators of a user's code that have no count: with any, the MACs are incomplete."""

    @property
    def parts(self) -> Mapping[str, Counts]:
        """By the counter that is quoted: the first, of models of ours the closed form."""
        return next(iter(self.counters.values()))

    def total(self, counter: str = "") -> Counts:
        """By the counter of that name, or the one that is quoted."""
        return sum((self.counters[counter] if counter else self.parts).values(), Counts())


class CountMismatchError(RuntimeError):
    """Counters of one model disagree: an error in this package or in a counter, not one of the user."""


def cross_check(config: ModelConfig, *, device: torch.device, training: bool) -> AgreedCounts:
    """Counts for one image by closed form, by fvcore and by FlopCounterMode, the last two of a model on `device`.

    Of a model of timm the closed form, where there is one, must agree with the whole. With `training`, gradients are on,
    which can choose other kernels. Raises ValueError for a model that is too large to be traced, CountMismatchError where
    the counters disagree.
    """
    if user_names(config):
        return _count_users_code(config)
    if isinstance(config, ViTConfig):
        _check_traceable(config)
    model = _evaluated_model(config, device)
    images = torch.zeros(1, config.in_channels, *config.image_hw, device=device)
    with torch.set_grad_enabled(training):
        if isinstance(config, TimmConfig):
            timm_models.check_takes(model, images, config)
        fvcore, norms = count_with_fvcore(model, images)
        flop_counter = count_with_flop_counter(model, images)
    counters = {"fvcore": fvcore, "FlopCounterMode": flop_counter}
    if isinstance(config, ViTConfig):
        counters = {"closed form": count_parts(config), **counters}
    elif isinstance(config, TimmConfig) and (by_closed_form := closed_form(config)) is not None:
        totals = {"closed form": by_closed_form, "fvcore": sum(fvcore.values(), Counts())}
        check_agreement({counter: {"the model": total} for counter, total in totals.items()})
    return AgreedCounts(counters, norms, check_agreement(counters))


def _count_users_code(config: ModelConfig) -> AgreedCounts:
    """By FlopCounterMode. fvcore is not asked: it has no count for much that users' code may do."""
    from vitbench.costs.user_counts import count_user_model

    counted = count_user_model(config)
    counters = {"FlopCounterMode": counted.parts}
    if isinstance(config, ViTConfig):
        counters = {"closed form, users' parts counted": count_parts(config), **counters}
    return AgreedCounts(counters, None, check_agreement(counters), counted.uncounted)


def check_agreement(counts: Mapping[str, Mapping[str, Counts]]) -> float:
    """The largest relative difference between counters of MACs or activations in any part.

    `counts` are by counter and part; a part that a counter leaves out counts as empty. Raises CountMismatchError, with the
    part and every counter's number, where parameters differ at all or others by more than `TOLERANCE`.
    """
    largest = 0.0
    for part in dict.fromkeys(part for parts in counts.values() for part in parts):
        for quantity, tolerance in (("params", 0.0), ("macs", TOLERANCE), ("activations", TOLERANCE)):
            numbers = {counter: getattr(parts.get(part, Counts()), quantity) for counter, parts in counts.items()}
            spread = max(numbers.values()) - min(numbers.values())
            difference = spread / max(map(abs, numbers.values())) if spread else 0.0
            if difference > tolerance:
                each = ", ".join(f"{number:,} by {counter}" for counter, number in numbers.items())
                raise CountMismatchError(f"counts of {part} disagree: {quantity} are {each}")
            largest = max(largest, difference)
    return largest


def _check_traceable(config: ViTConfig) -> None:
    """Raises ValueError for a model that is too large to be traced."""
    in_stem = sum(config.stem_layers) if config.stem == "resnet" else 0
    if config.depth + in_stem > MOST_BLOCKS:
        field, blocks = ("depth", config.depth) if config.depth > in_stem else ("stem_layers", config.stem_layers)
        raise ValueError(
            f"{field} {blocks} is more than can be traced, {MOST_BLOCKS:,} blocks in all; make it smaller "
            "(equal blocks cost the same each)"
        )
    if config.num_tokens > MOST_TOKENS:
        raise ValueError(
            f"image_size {config.image_size} gives {config.num_tokens:,} tokens at patch_size {config.patch_size}, more "
            f"than can be traced, {MOST_TOKENS:,}; make it smaller, or patch_size larger"
        )
    for part, counts in count_parts(config).items():
        if counts.macs > MOST_MACS_OF_A_PART:
            raise ValueError(
                f"width {config.width}, mlp_ratio {config.mlp_ratio} and image_size {config.image_size} give {part} "
                f"{counts.macs:.1e} MACs, more than can be traced, {MOST_MACS_OF_A_PART:.1e}; make them smaller"
            )


def _evaluated_model(config: ModelConfig, device: torch.device) -> nn.Module:
    """In evaluation mode. One of ours has no weights: no count depends on what they are."""
    if isinstance(config, TimmConfig):
        return timm_models.create(config).eval().to(device)  # as it is: its constructor may compute with values
    assert isinstance(config, ViTConfig), config
    with torch.device("meta"):
        model = ViT(config).eval()
    return model if device.type == "meta" else model.to_empty(device=device)
