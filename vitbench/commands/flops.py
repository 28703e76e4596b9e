"""`vitbench flops`: what one model costs, part by part, as a table or as JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from vitbench.commands.arguments import FAILED, AsJson, Mode, ModelOptions, Variant, at_least_one
from vitbench.commands.options import ModelFields, with_options
from vitbench.commands.terminal_table import print_table
from vitbench.config import MOST, ModelConfig, TimmConfig, ViTConfig
from vitbench.costs.counts import Counts
from vitbench.costs.macs import CONVENTIONS, FORWARDS
from vitbench.text import counted

if TYPE_CHECKING:
    from vitbench.costs.cross_check import AgreedCounts


@with_options
def flops(
    model: ModelFields,
    variant: Variant,
    batch_size: Annotated[
        int, typer.Option(max=MOST, callback=at_least_one, help="Images in the batch whose FLOPs are told.")
    ] = 1,
    mode: Mode = "infer",
    device: Annotated[str, typer.Option(help="meta (shapes, no arithmetic), or auto, cpu, cuda, cuda:N.")] = "meta",
    model_options: ModelOptions = ModelOptions(),
    as_json: AsJson = False,
) -> None:
    """Parameters, MACs and activations per block, counted three ways that must agree; any field of the model."""
    import torch

    from vitbench.costs.cross_check import CountMismatchError, cross_check
    from vitbench.device import open_device

    target = model_options.target(variant, model)
    config = target.model
    torch_device = torch.device("meta") if device == "meta" else open_device(device).torch_device
    try:
        agreed = cross_check(config, device=torch_device, training=mode == "train")
    except CountMismatchError as error:
        print(f"vitbench: {error}", file=sys.stderr)
        raise typer.Exit(FAILED) from error
    unmeasured = target.tell_unmeasured()
    batch_flops = 2 * agreed.total().macs * batch_size * FORWARDS[mode]
    if as_json:
        request = {"variant": variant, "mode": mode, "batch_size": batch_size, "device": str(torch_device)}
        request["not_measured"] = unmeasured
        print(json.dumps({**request, **_facts(config, agreed), "flops": batch_flops}))
        return
    print(f"{variant}: {_shape(config)}")
    print_table(_table_rows(agreed), texts=["part"], last_is_total=True)
    _print_totals(agreed, batch_flops, batch_size, mode)


def _facts(config: ModelConfig, agreed: AgreedCounts) -> dict[str, object]:
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
        "macs_incomplete": list(agreed.uncounted),
        "conventions": list(CONVENTIONS),
    }


def _shape(config: ModelConfig) -> str:
    if not isinstance(config, ViTConfig):
        model = "as timm has it" if isinstance(config, TimmConfig) else config.model_name
        return f"{_size(config.image_hw)} px, {model}" + (f" with {config.options}" if config.options else "")
    return (
        f"{_size(config.image_hw)} px in {config.num_patches} patches of {_size(config.patch_hw)} px, "
        f"{config.num_tokens} tokens × {config.width} channels × {config.depth} blocks"
    )


def _table_rows(agreed: AgreedCounts) -> list[dict[str, str]]:
    """Equal blocks that follow each other are one row, empty parts none."""
    total, rows = agreed.total(), []
    by_counts = groupby(agreed.parts.items(), key=lambda part: (part[0].startswith("blocks."), part[1]))
    for (is_block, counts), group in by_counts:
        names, share = [name for name, _ in group], f"{counts.macs / total.macs:.1%}"
        if is_block and len(names) > 1:
            last = names[-1].removeprefix("blocks.")
            rows.append((f"{names[0]}–{last}, each", counts, f"{len(names)} × {share}"))
        elif counts != Counts():
            rows += [(name, counts, share) for name in names]
    return [
        {
            "part": part,
            "params": f"{counts.params:,}",
            "MACs": f"{counts.macs:,}",
            "activations": f"{counts.activations:,}",
            "of all MACs": share,
        }
        for part, counts, share in [*rows, ("total", total, "100%")]
    ]


def _print_totals(agreed: AgreedCounts, batch_flops: int, batch_size: int, mode: str) -> None:
    total = agreed.total()
    print(
        f"{_rounded(total.params)} parameters; an image: {_rounded(total.macs)}MACs forward, "
        f"{_rounded(total.activations)} activations"
    )
    images = counted(batch_size, "image")
    print(f"{images}, {mode}: {_rounded(batch_flops)}FLOPs ({2 * FORWARDS[mode]} × MACs × images)")
    counters = ", ".join(agreed.counters)
    if len(agreed.counters) == 1:
        print(f"counted by {counters} alone: a user's model has no other count")
    else:
        number = {2: "two", 3: "three"}[len(agreed.counters)]
        print(f"{number} counts agree: {counters}; largest relative difference {agreed.difference:.2%}")
    if agreed.uncounted:
        print(f"MACs are incomplete: {', '.join(agreed.uncounted)} have no count")
    if agreed.norms is not None:
        norms = _rounded(agreed.norms)
        print(f"norms, not counted, would add {norms}MACs, as fvcore counts them and timm publishes them")
    print(*CONVENTIONS, sep="\n")


def _rounded(number: int) -> str:
    """17.56 G, to be followed by a unit."""
    for factor, prefix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.4g} {prefix}"
    return f"{number} "


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]}"
