"""Is a run on this device what it is on the CPU, and how fast is each attention kernel? Parts of `gpu_check.py`.

    python benchmarks/gpu_check_parts.py --device cuda checks|attention

Prints one JSON document. Needs no pytest.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitbench.config import DISTORTIONS, DataConfig, TimmConfig, TrainConfig, ViTConfig
from vitbench.data import Augment, Images, normalise
from vitbench.device import Device, open_device
from vitbench.evaluation import evaluate
from vitbench.evaluation.distorted_images import distorted
from vitbench.kernels import install
from vitbench.kernels.attention_choice import AttentionShape, choose_attention, describe_attention, measured
from vitbench.models import build_model
from vitbench.studies.recipes import RECIPES
from vitbench.text import error_with_type
from vitbench.training.optimizer import build_optimizer
from vitbench.training.step import training_step

BATCH = 8
SMALL: dict[str, Any] = {"image_size": 16, "patch_size": 4, "width": 32, "depth": 2, "num_heads": 2, "num_classes": 7}
KINDS: dict[str, dict[str, Any]] = {
    **{pool: {"pool": pool, "num_registers": 2} for pool in ("cls", "gap", "mean_all", "map")},
    **{place: {"position": place} for place in ("none", "learned_1d", "learned_2d", "sincos_2d")},
    **{place: {"position": place, "position_site": "every_layer"} for place in ("relative", "rope_2d")},
    "patch_norm": {"stem": "patch_norm"},
    "conv": {"stem": "conv", "stem_width": 8},
    "resnet": {"stem": "resnet", "stem_layers": (1,), "stem_width": 8},
    "qk-norm, LayerScale, SwiGLU": {"qk_norm": True, "layer_scale": 0.1, "activation": "swiglu", "head": "mlp"},
}
CLOSE = 2e-3
"""Largest difference over the largest value, fp32 on either device."""


def checks(device: Device) -> Iterator[tuple[str, Callable[[], str]]]:
    """(name, what raises AssertionError or gives a detail)."""
    for name, fields in KINDS.items():
        yield f"model, {name}", partial(_equals_cpu, ViTConfig(**{**SMALL, **fields}), device)
    options = {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]}
    resnet = TimmConfig(timm="resnet18", image_size=32, in_channels=3, num_classes=7, options=options)
    yield "model, timm's ResNet", partial(_equals_cpu, resnet, device)
    yield "training, 10 steps", partial(_trains_as_on_cpu, device)
    for name, recipe in RECIPES.items():
        yield (
            f"augmentation, {name}",
            partial(_augments_as_on_cpu, DataConfig(**{"crop_padding": 0, **recipe.data}), device),
        )
    for name in DISTORTIONS:
        yield f"distortion, {name}", partial(_distorts_as_on_cpu, name, device)
    yield "evaluation, resident and ragged", partial(_evaluates_as_on_cpu, device)
    yield "fp32 is not TF32, autocast is bf16", partial(_precisions, device)
    yield "memory is counted and comes back", partial(_memory, device)
    yield "clocks, power, energy", partial(_state, device)
    if device.torch_device.type == "cuda":
        yield "CUDA graphs, other images each time", partial(_graphs, device)


def _images(config: ViTConfig | TimmConfig, seed: int = 0) -> Tensor:
    shape = (BATCH, config.in_channels, *config.image_hw)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _difference(a: Tensor, b: Tensor) -> float:
    return ((a.cpu().float() - b.cpu().float()).abs().max() / b.abs().max().clamp_min(1e-6)).item()


def _equals_cpu(config: ViTConfig | TimmConfig, device: Device) -> str:
    """Logits and gradients, in fp32, with the attention kernel that is chosen here."""
    results = []
    for place in (open_device("cpu"), device):
        model: nn.Module = place.place(install(build_model(config))).eval()
        choose_attention(model, place, precision="fp32", batch_size=BATCH)
        logits = model(_images(config).to(place.torch_device))
        logits.square().sum().backward()
        assert logits.device.type == place.torch_device.type
        # Together: some are nothing but rounding, as those of the keys' bias.
        gradients = torch.cat([p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None])
        results.append([logits.detach(), gradients])
    largest = max(_difference(b, a) for a, b in zip(*results, strict=True))
    assert largest < CLOSE, f"differs by {largest:.2g}"
    return f"differs by {largest:.1g}; {describe_attention(model) or 'torch chooses'}"


def _trains_as_on_cpu(device: Device) -> str:
    config, recipe = ViTConfig(**SMALL), TrainConfig()
    losses = []
    for place in (open_device("cpu"), device):
        model = place.place(install(build_model(config))).train()
        optimizer, parameters = build_optimizer(model, recipe), list(model.parameters())
        targets = (torch.arange(BATCH) % config.num_classes).to(place.torch_device)
        curve = []
        for step in range(10):
            images = _images(config, seed=step).to(place.torch_device)
            autocast = partial(place.autocast, "fp32")
            curve.append(training_step(model, optimizer, images, targets, parameters, recipe, autocast).detach())
        losses.append(torch.stack(curve))
    largest = _difference(losses[1], losses[0])
    assert largest < CLOSE, f"losses differ by {largest:.2g}"
    return f"losses differ by {largest:.1g}"


def _augments_as_on_cpu(config: DataConfig, device: Device) -> str:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (BATCH, 3, 24, 20), dtype=torch.uint8, generator=generator)
    labels = torch.arange(BATCH) % 7
    augment = Augment(config, num_classes=7, label_smoothing=0.1, mean=(0.5,) * 3, std=(0.2,) * 3)
    largest = 0.0
    for step in range(8):
        expected = augment(pixels, labels, seed=1, step=step)
        result = augment(pixels.to(device.torch_device), labels.to(device.torch_device), seed=1, step=step)
        largest = max([largest, *(_difference(a, b) for a, b in zip(result, expected, strict=True))])
    assert largest < 1e-5, f"differs by {largest:.2g}"
    return "equal bits" if largest == 0 else f"differs by {largest:.1g}"


def _distorts_as_on_cpu(name: str, device: Device) -> str:
    pixels = torch.randint(0, 256, (BATCH, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    change = partial(normalise, mean=(0.5,) * 3, std=(0.2,) * 3)
    options: dict[str, Any] = {"indices": np.arange(BATCH), "normalise": change, "patch_hw": (4, 4)}
    strength = max(DISTORTIONS[name].strengths)
    on_cpu = distorted(pixels, name, strength, **options)
    largest = _difference(distorted(pixels.to(device.torch_device), name, strength, **options), on_cpu)
    assert largest < 1e-4, f"differs by {largest:.2g}"
    return f"differs by {largest:.1g}"


def _evaluates_as_on_cpu(device: Device) -> str:
    config = ViTConfig(**SMALL)
    pixels = np.random.default_rng(0).integers(0, 256, (70, 3, 16, 16), dtype=np.uint8)
    data, metrics = Images(pixels, np.arange(70) % 7), []
    for place in (open_device("cpu"), device):
        batches = data.batches(np.arange(70), 32, place.torch_device)
        normalised = ((normalise(p, (0.5,) * 3, (0.2,) * 3), labels) for p, labels in batches)
        model = place.place(build_model(config))
        result = evaluate(model, normalised, autocast=partial(place.autocast, "fp32"), synchronize=place.synchronize)
        metrics.append(result.metrics)
    largest = max(abs(metrics[0][name] - metrics[1][name]) for name in ("loss", "brier"))
    assert largest < 1e-4, f"differs by {largest:.2g}"
    return f"loss and Brier score differ by {largest:.1g}"


def _precisions(device: Device) -> str:
    x = torch.full((64, 64), 1 + 2**-12, device=device.torch_device)  # TF32 keeps 10 bits of the fraction
    with device.autocast("bf16"):
        assert (x @ x).dtype == torch.bfloat16, "autocast is off"
    with device.autocast("fp32"):
        assert torch.allclose(x @ torch.eye(64, device=x.device), x, rtol=1e-7, atol=0), "products are TF32"
    return f"bf16 runs {device.bf16_speedup():g} × as fast as fp32"


def _memory(device: Device) -> str:
    if not device.raises_out_of_memory:
        return "a CPU's system ends what runs out of memory: nothing to check"
    device.start_memory()
    kept = torch.ones(1 << 18, device=device.torch_device)
    assert device.peak_memory_bytes() == 4 * kept.numel(), device.peak_memory_bytes()
    del kept
    device.release()
    before = torch.cuda.memory_reserved()
    filled: list[Any] = []
    try:
        while True:
            filled.append(torch.empty(1 << 34, dtype=torch.uint8, device=device.torch_device))
    except torch.OutOfMemoryError:
        number = len(filled)
    filled.clear()
    device.release()
    assert torch.cuda.memory_reserved() == before, "memory did not come back"
    return f"ran out after {16 * number} GiB, and all came back"


def _state(device: Device) -> str:
    before = device.state()
    told = device.state_between(before, device.state())
    numbers = {key: value for key, value in told.after.items() if key.startswith("gpu_")}
    return told.missing or ", ".join(f"{key} {value}" for key, value in numbers.items()) or "no GPU"


def _graphs(device: Device) -> str:
    model = device.place(build_model(ViTConfig(**SMALL))).eval()
    compiled, is_compiled, note = device.compile(
        copy.deepcopy(model), "on", example=_images(model.config).to(device.torch_device)
    )
    assert is_compiled, note
    largest = 0.0
    with torch.inference_mode():
        for seed in range(4):  # the first calls are captured, the others replayed
            images = _images(model.config, seed).to(device.torch_device)
            largest = max(largest, _difference(compiled(images).clone(), model(images)))
    assert largest < CLOSE, f"differs by {largest:.2g}"
    return f"differs by {largest:.1g} from eager"


def attention(device: Device) -> list[dict[str, Any]]:
    """Each kernel at the shapes of B/16, S/16 and Micro/4, in turn."""
    gpu = device.torch_device.type == "cuda"
    shapes = [(128, 12, 197, 64), (256, 6, 197, 64), (512, 3, 65, 64)] if gpu else [(2, 3, 65, 16)]
    found = []
    for batch, heads, tokens, head_dim in shapes:
        usual = AttentionShape(batch, heads, tokens, tokens, head_dim)
        last = AttentionShape(batch, heads, 1, tokens, head_dim)
        forward = AttentionShape(batch, heads, tokens, tokens, head_dim, backward=False)
        biased = AttentionShape(batch, heads, tokens, tokens, head_dim, bias=True)
        for shape, precision in [*((s, "bf16") for s in (usual, forward, last, biased)), (usual, "fp32")]:
            kernels = measured(shape, precision, device)
            facts = {"shape": str(shape), "precision": precision, "fastest": kernels.fastest, "ratios": kernels.ratios}
            found.append({**facts, **asdict(kernels)})
    return found


def run_checks(device: Device) -> list[dict[str, Any]]:
    results = []
    for name, check in checks(device):
        try:
            results.append({"name": name, "passed": True, "detail": check()})
        except Exception as error:  # each check's failure is its result
            results.append({"name": name, "passed": False, "detail": error_with_type(error)})
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("part", choices=("checks", "attention"))
    options = parser.parse_args()
    device = open_device(options.device)
    results = (run_checks if options.part == "checks" else attention)(device)
    print(json.dumps(results))
    wrong = [result["name"] for result in results if not result.get("passed", True)]
    if wrong:
        print(f"wrong: {'; '.join(wrong)}", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
