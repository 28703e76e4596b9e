"""What one model costs, part by part: the counts that agree, as a table or as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

from vitbench.config import ModelConfig, TimmConfig
from vitbench.costs.counts import Counts
from vitbench.costs.macs import CONVENTIONS, FORWARDS
from vitbench.variants import model as named_model

if TYPE_CHECKING:
    import torch

    from vitbench.costs.cross_check import AgreedCounts


def show_flops(variant: str, *, model: dict[str, Any], batch_size: int, mode: str, device: str, as_json: bool) -> None:
    """Prints parameters, MACs and activations of an image, and the FLOPs of a batch of `batch_size` in `mode`.

    Raises ValueError for a wrong request, CountMismatchError where the counters disagree.
    """
    config = named_model(variant, **model)
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size} is not a number of images; give 1 or more")
    from vitbench.costs.cross_check import cross_check

    torch_device = _torch_device(device)
    agreed = cross_check(config, device=torch_device, training=mode == "train")
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


def _shape(config: ModelConfig) -> str:
    if isinstance(config, TimmConfig):
        return f"{_size(config.image_hw)} px, as timm has it" + (f" with {config.options}" if config.options else "")
    return (
        f"{_size(config.image_hw)} px in {config.num_patches} patches of {_size(config.patch_hw)} px, "
        f"{config.num_tokens} tokens × {config.width} channels × {config.depth} blocks"
    )


def _torch_device(device: str) -> torch.device:
    """`meta`, which computes shapes alone, or what `open_device` knows."""
    import torch

    from vitbench.device import open_device

    return torch.device("meta") if device == "meta" else open_device(device).torch_device


def _facts(config: ModelConfig, agreed: AgreedCounts) -> dict[str, Any]:
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


def _print_table(agreed: AgreedCounts) -> None:
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
