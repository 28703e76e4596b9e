"""`vitbench doctor`: what this machine can do, what is missing, and how to get it."""

from __future__ import annotations

import importlib.util
import json
import shutil
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitbench.commands.arguments import AsJson, DataRoot

if TYPE_CHECKING:
    from vitbench.device import Device
WIDTHS = (64, 96, 192, 384, 768)
"""Of models, for which operators are chosen: Micro, Mini, Ti and Small32, S, B."""


def doctor(data_root: DataRoot = None, as_json: AsJson = False) -> None:
    """What this machine can do: device, speed per precision, compiler, data; what is missing and how to get it."""
    if data_root is not None and not data_root.is_dir():
        raise ValueError(
            f"data root {str(data_root)!r} is not a folder; give the one that holds the data as --data-root"
        )
    facts = _facts(data_root)
    if as_json:
        print(json.dumps(facts))
        return
    from vitbench.data import BUILT_IN

    print(f"device      {facts['device']}, torch {facts['torch']}, {facts['threads']} threads")
    print(
        f"precision   bf16 matrix products run {facts['bf16_over_fp32']:g} × as fast as fp32: "
        f"`auto` is {facts['auto_precision']}"
    )
    print(f"compiler    {facts['compiler'] or 'none: torch.compile needs g++ on CPU (Debian: apt-get install g++)'}")
    print(f"kernels     on CPU in bf16: {facts['kernels']}")
    for line in facts["attention"].values():
        print(f"attention   {line}")
    if not facts["attention"]:
        print("attention   by a rule on CPU; on CUDA the fastest kernel is measured for each shape")
    for width, choice in facts["kernel_choices"].items():
        print(f"            width {width}: {choice['operators']} ({choice['why']})")
    for name, module in (("tensorboard", "traces in TensorBoard"), ("nvml", "energy, clocks and temperature of a GPU")):
        print(f"{name:11} {'installed' if facts[name] else f'not installed ({module}): pip install vitbench[{name}]'}")
    print(f"ray         {'installed' if facts['ray'] else 'not installed: pip install vitbench[ray]'}")
    where = f"under {data_root}: {', '.join(facts['datasets']) or 'none'}" if data_root else "give --data-root to look"
    print(f"data        built in: {', '.join(BUILT_IN)}; well-known sets: {where}")
    print(f"cache       {facts['cache']} (decoded images, measured speeds; set VITBENCH_CACHE to move it)")


def _facts(data_root: Path | None) -> dict[str, Any]:
    import torch

    from vitbench.device import open_device
    from vitbench.device.device import FAST_BF16
    from vitbench.kernels import native
    from vitbench.kernels.choice import can_be_native, chosen
    from vitbench.machine import cache_directory

    native.check_asked()
    device = open_device("auto")
    speedup = device.bf16_speedup()
    try:
        cache = str(cache_directory())
    except ValueError as error:
        cache = f"none: {error}"
    return {
        "device": device.name,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "bf16_over_fp32": speedup,
        "auto_precision": "bf16" if speedup >= FAST_BF16 else "fp32",
        "compiler": shutil.which("g++") or shutil.which("clang++") or "",
        "kernels": native.describe(),
        "attention": _attention(device, "bf16" if speedup >= FAST_BF16 else "fp32"),
        "kernel_choices": {width: asdict(chosen(width)) for width in WIDTHS if can_be_native(width)},
        "tensorboard": importlib.util.find_spec("torch_tb_profiler") is not None,
        "nvml": importlib.util.find_spec("pynvml") is not None,
        "cache": cache,
        "ray": importlib.util.find_spec("ray") is not None,
        "datasets": _well_known_sets(data_root),
    }


def _attention(device: Device, precision: str) -> dict[str, str]:
    """By shape: which kernel is fastest on this GPU, and times of all over its. Empty on CPU."""
    from vitbench.kernels.attention_choice import AttentionShape, forced_kernel, measured, remembered_choices

    if device.torch_device.type != "cuda":
        return {}
    forced = forced_kernel()
    if forced != "auto":
        return {"forced": f"{forced}, forced by VITBENCH_ATTENTION"}
    for heads, tokens in ((12, 197), (6, 197), (3, 65)):  # of B/16, S/16, Ti/4 on 32 pixels
        measured(AttentionShape(128, heads, tokens, tokens, 64), precision, device)
    return {
        shape: f"{kernels.fastest} for {shape.replace(' | ', ', ')}; times over the fastest: {kernels.ratios}"
        for shape, kernels in remembered_choices(device).items()
    }


def _well_known_sets(data_root: Path | None) -> list[str]:
    """Those that timm opens under the data root."""
    from vitbench.data.info import BUILT_IN, KNOWN
    from vitbench.data.opening import open_splits
    from vitbench.data.sources import find

    names = []
    for name in KNOWN if data_root else ():
        if name not in BUILT_IN:
            with suppress(ValueError):
                open_splits(find(name, data_root), download=False)
                names.append(name)
    return names
