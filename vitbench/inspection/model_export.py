"""How does a trained model leave for elsewhere? As safetensors, a folder for timm, or ONNX, read back and compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from vitbench.config import RunConfig, ViTConfig
from vitbench.files import cannot_write, replacing
from vitbench.models import ViT
from vitbench.models.convert.source import refuse
from vitbench.models.convert.to_timm import arguments, to_timm
from vitbench.models.weights import Trained, load_trained, save_trained

TOLERANCE = 1e-4
"""Between logits in float32, relative to the largest: other kernels add in another order."""
TIMM_NORM_EPS = 1e-6
"""Of timm's own LayerNorm; a folder for timm cannot name another."""
BATCHES = (1, 3)
"""Sizes of the batches that are compared."""


def export_model(trained: Trained, out: Path, to: str) -> dict[str, Any]:
    """Writes the model, in evaluation mode, and gives what was written and how far its logits are from the model's.

    `to`: `safetensors` (a file: weights, and the run's configuration), `timm` (a folder that
    `timm.create_model("local-dir:FOLDER", pretrained=True)` reads) or `onnx` (a file; images [batch, C, H, W] to logits
    [batch, K], normalised as `mean` and `std` in its metadata say). What was written is read back first, and stays only where
    logits of random images agree to a `TOLERANCE`. Raises ValueError where they do not, for a model that the format cannot
    express, and where a library is missing.
    """
    try:
        largest = _FORMATS[to](trained, out)
    except OSError as error:
        raise cannot_write("out", out, error, "give another --out") from error
    return {
        "weights": trained.identity,
        "to": to,
        "out": str(out),
        "largest_difference": largest,
        "mean": list(trained.mean),
        "std": list(trained.std),
        "class_names": list(trained.class_names),
    }


def _as_safetensors(trained: Trained, out: Path) -> float:
    with replacing(out) as new:
        save_trained(
            new, trained.model, trained.config, mean=trained.mean, std=trained.std, class_names=trained.class_names
        )
        return _compared(trained, load_trained(new).model)


def _as_timm(trained: Trained, out: Path) -> float:
    config = trained.model.config
    if not isinstance(trained.model, ViT) or not isinstance(config, ViTConfig):
        raise refuse("model", type(trained.model).__name__, "it is no ViT; export it as safetensors or onnx")
    if config.norm_eps != TIMM_NORM_EPS or config.activation == "swiglu":
        field, value = ("activation", "swiglu") if config.activation == "swiglu" else ("norm_eps", config.norm_eps)
        raise refuse(field, value, "a folder for timm cannot name it; in Python, convert.to_timm(model) does")
    module = to_timm(trained.model)
    document = {
        "architecture": "vit_tiny_patch16_224",
        "num_classes": config.num_classes,
        "num_features": config.width,
        "global_pool": module.global_pool,
        "model_args": {name: value for name, value in arguments(config).items() if name != "num_classes"},
        "pretrained_cfg": {
            "input_size": [config.in_channels, *config.image_hw],
            "fixed_input_size": True,
            "crop_pct": trained.config.data.eval_crop,
            "mean": list(trained.mean),
            "std": list(trained.std),
            "num_classes": config.num_classes,
            "classifier": "head",
            "first_conv": "patch_embed.proj",
            "pool_size": None,
            **({"label_names": list(trained.class_names)} if trained.class_names else {}),
        },
        "vitbench": json.loads(trained.config.canonical_json()),
    }
    with _new_folder(out) as new:
        (new / "config.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        save_file(module.state_dict(), new / "model.safetensors", metadata={"format": "pt"})
        return _compared(trained, timm.create_model(f"local-dir:{new}", pretrained=True).eval())


def _as_onnx(trained: Trained, out: Path) -> float:
    for library in ("onnx", "onnxscript", "onnxruntime"):
        if find_spec(library) is None:
            raise ValueError(f"to 'onnx' needs {library}, which is not installed; pip install vitbench[onnx]")
    onnx, runtime = import_module("onnx"), import_module("onnxruntime")
    example = _images(trained.config, 2)
    program: Any = torch.onnx.export(
        trained.model,
        (example,),
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        verbose=False,
    )
    described = program.model_proto
    facts = {"run_id": trained.run_id, "mean": trained.mean, "std": trained.std, "class_names": trained.class_names}
    onnx.helper.set_model_props(described, {name: json.dumps(value) for name, value in facts.items()})
    with replacing(out) as new:
        onnx.save(described, str(new))
        session = runtime.InferenceSession(str(new), providers=["CPUExecutionProvider"])
        return _compared(
            trained, lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])
        )


_FORMATS: dict[str, Callable[[Trained, Path], float]] = {
    "safetensors": _as_safetensors,
    "timm": _as_timm,
    "onnx": _as_onnx,
}
FORMATS = tuple(_FORMATS)


@torch.no_grad()
def _compared(trained: Trained, exported: Callable[[Tensor], Tensor]) -> float:
    """How far the logits lie apart, relative to the largest. Raises ValueError where that is too far."""
    worst = 0.0
    for size in BATCHES:
        images = _images(trained.config, size)
        ours, theirs = trained.model(images), exported(images)
        worst = max(worst, float((ours - theirs).abs().max() / ours.abs().max().clamp(min=1.0)))
    if not worst <= TOLERANCE:
        raise ValueError(
            f"weights {trained.identity!r} have other outputs once exported, by {worst:.1e}: nothing was written"
        )
    return worst


def _images(config: RunConfig, size: int) -> Tensor:
    model = config.model
    return torch.randn(size, model.in_channels, *model.image_hw, generator=torch.Generator().manual_seed(size))


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Another folder beside it, which takes its place in the end. Raises ValueError where there is something already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"out {str(folder)!r} is there already; give a new folder, or remove it")
    new = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
        if folder.exists():
            folder.rmdir()
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
