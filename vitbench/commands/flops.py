"""What one model costs, part by part, as three counters have it that must agree."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from vitbench.config import ModelConfig, TimmConfig, ViTConfig
from vitbench.costs.agreement import check_agreement
from vitbench.costs.comparators import closed_form
from vitbench.costs.counts import Counts
from vitbench.costs.macs import CONVENTIONS, FORWARDS, count_parts
from vitbench.variants import model as named_model

if TYPE_CHECKING:
    import torch
    from torch import nn

MOST_BLOCKS = 1_000
"""Of the encoder and of a ResNet stem together: two tracers walk through each, which takes minutes for so many."""
MOST_TOKENS = 1_000_000
MOST_MACS_OF_A_PART = 2**60
"""No tensor has more elements than its part has MACs, and PyTorch counts a tensor's bytes (4 × elements) in 63 bits."""


@dataclass(frozen=True)
class Agreed:
    """Counts by counter and part for one image; `norms` are what fvcore would add; `difference` is the largest, relative."""

    counters: Mapping[str, Mapping[str, Counts]]
    norms: int
    difference: float

    @property
    def parts(self) -> Mapping[str, Counts]:
        """By the counter that is quoted: the first, of models of ours the closed form."""
        return next(iter(self.counters.values()))

    def total(self, counter: str = "") -> Counts:
        """By the counter of that name, or the one that is quoted."""
        return sum((self.counters[counter] if counter else self.parts).values(), Counts())


def show_flops(variant: str, *, model: dict[str, Any], batch_size: int, mode: str, device: str, as_json: bool) -> None:
    """Prints parameters, MACs and activations of an image, and the FLOPs of a batch of `batch_size` in `mode`.

    Raises ValueError for a wrong request, CountMismatchError where the counters disagree.
    """
    config = named_model(variant, **model)
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size} is not a number of images; give 1 or more")
    if isinstance(config, ViTConfig):
        _check_size(config)
    torch_device = _torch_device(device)
    agreed = count_three_times(config, device=torch_device, training=mode == "train")
    flops = 2 * agreed.total().macs * batch_size * FORWARDS[mode]
    if as_json:
        request = {"variant": variant, "mode": mode, "batch_size": batch_size, "device": str(torch_device)}
        print(json.dumps({**request, **_facts(config, agreed), "flops": flops}))
        return
    print(f"{variant}: {_shape(config)}")
    _print_table(agreed)
    total = agreed.total()
    print(
        f"{_rounded(total.params)} parameters; an image: {_rounded(total.macs)}MACs forward, "
        f"{_rounded(total.activations)} activations"
    )
    images = "1 image" if batch_size == 1 else f"{batch_size} images"
    print(f"{images}, {mode}: {_rounded(flops)}FLOPs ({2 * FORWARDS[mode]} × MACs × images)")
    names = ", ".join(agreed.counters)
    number = {2: "two", 3: "three"}[len(agreed.counters)]
    print(f"{number} counts agree: {names}; largest relative difference {agreed.difference:.2%}")
    print(f"norms, not counted, would add {_rounded(agreed.norms)}MACs, as fvcore counts them and timm publishes them")
    print(*CONVENTIONS, sep="\n")


def _check_size(config: ViTConfig) -> None:
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
    for name, counts in count_parts(config).items():
        if counts.macs > MOST_MACS_OF_A_PART:
            raise ValueError(
                f"width {config.width}, mlp_ratio {config.mlp_ratio} and image_size {config.image_size} give {name} "
                f"{counts.macs:.1e} MACs, more than can be traced, {MOST_MACS_OF_A_PART:.1e}; make them smaller"
            )


def _shape(config: ModelConfig) -> str:
    if isinstance(config, TimmConfig):
        return f"{_size(config.image_hw)} px, as timm has it" + (f" with {config.options}" if config.options else "")
    return (
        f"{_size(config.image_hw)} px in {config.num_patches} patches of {_size(config.patch_hw)} px, "
        f"{config.num_tokens} tokens × {config.width} channels × {config.depth} blocks"
    )


def count_three_times(config: ModelConfig, *, device: torch.device, training: bool) -> Agreed:
    """Counts for one image by closed form, by fvcore and by FlopCounterMode, the last two of a model on `device`.

    Of a model of timm the closed form, where there is one, must agree with the whole. With `training`, gradients are on,
    which can choose other kernels. Raises CountMismatchError where they disagree.
    """
    import torch

    from vitbench.costs.counters import count_with_flop_counter, count_with_fvcore
    from vitbench.models import timm_models

    model = _on_device(config, device)
    images = torch.zeros(1, config.in_channels, *config.image_hw, device=device)
    with torch.set_grad_enabled(training):
        if isinstance(config, TimmConfig):
            timm_models.check_takes(model, images, config)
        fvcore, norms = count_with_fvcore(model, images)
        flop_counter = count_with_flop_counter(model, images)
    counters = {"fvcore": fvcore, "FlopCounterMode": flop_counter}
    if isinstance(config, ViTConfig):
        counters = {"closed form": count_parts(config), **counters}
    elif (whole := closed_form(config)) is not None:
        check_agreement({"closed form": {"the model": whole}, "fvcore": {"the model": sum(fvcore.values(), Counts())}})
    return Agreed(counters, norms, check_agreement(counters))


def _on_device(config: ModelConfig, device: torch.device) -> nn.Module:
    """The model in evaluation mode. One of ours has no weights: no count depends on what they are."""
    import torch

    from vitbench.models import ViT, timm_models

    if isinstance(config, TimmConfig):
        return timm_models.create(config).eval().to(device)  # as it is: its constructor may compute with values
    with torch.device("meta"):
        model = ViT(config).eval()
    return model if device.type == "meta" else model.to_empty(device=device)


def _torch_device(device: str) -> torch.device:
    """`meta`, which computes shapes alone, or what `open_device` knows."""
    import torch

    from vitbench.device import open_device

    return torch.device("meta") if device == "meta" else open_device(device).torch_device


def _facts(config: ModelConfig, agreed: Agreed) -> dict[str, Any]:
    parts = [{"name": name, **asdict(counts)} for name, counts in agreed.parts.items()]
    return {
        "image_size": list(config.image_hw),
        "config": config.model_dump(mode="json"),
        **asdict(agreed.total()),
        "blocks": [part for part in parts if part["name"].startswith("blocks.")],
        "parts": parts,
        "counters": {counter: asdict(agreed.total(counter)) for counter in agreed.counters},
        "largest_difference": agreed.difference,
        "norms": {"macs": agreed.norms},
        "conventions": list(CONVENTIONS),
    }


def _print_table(agreed: Agreed) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("part")
    for heading in ("params", "MACs", "activations", "of all MACs"):
        table.add_column(heading, justify="right")
    total = agreed.total()
    for name, number, counts in _folded(agreed.parts):
        share = f"{counts.macs / total.macs:.1%}"
        table.add_row(name, *_exact(counts), share if number == 1 else f"{number} × {share}")
    table.add_row("total", *_exact(total), "100%", style="bold")
    Console(width=None if os.isatty(1) else 160).print(table)


def _folded(parts: Mapping[str, Counts]) -> list[tuple[str, int, Counts]]:
    """(name, how many, counts of each), equal blocks that follow each other as one; without empty parts."""
    rows = []
    for (is_block, counts), group in groupby(parts.items(), key=lambda part: (part[0].startswith("blocks."), part[1])):
        names = [name for name, _ in group]
        if is_block and len(names) > 1:
            last = names[-1].removeprefix("blocks.")
            rows.append((f"{names[0]}–{last}, each", len(names), counts))
        elif counts != Counts():
            rows += [(name, 1, counts) for name in names]
    return rows


def _exact(counts: Counts) -> tuple[str, str, str]:
    return f"{counts.params:,}", f"{counts.macs:,}", f"{counts.activations:,}"


def _rounded(number: int) -> str:
    """17.56 G, to be followed by a unit."""
    for factor, prefix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.4g} {prefix}"
    return f"{number} "


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]}"
