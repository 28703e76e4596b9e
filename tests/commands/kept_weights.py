"""Weights for commands that take a run's: of a small model as its seed makes it, kept as a run keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.made_up_records import NANO
from vitbench.config import DataConfig, RunConfig, TrainConfig
from vitbench.data import load
from vitbench.models import build_model
from vitbench.models.weights import save_trained


def keep_weights(
    results: Path,
    *,
    dataset: str = "digits",
    validation_fraction: float = 0.1,
    seed: int = 0,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    **model: Any,
) -> Path:
    """Writes `checkpoints/<run_id>.safetensors`; normalised as digits are, unless told otherwise."""
    config = RunConfig(
        model=NANO.replace(**model),
        data=DataConfig(dataset=dataset, validation_fraction=validation_fraction),
        train=TrainConfig(epochs=1),
        seed=seed,
    )
    digits, channels = load("digits"), config.model.in_channels
    path = results / "checkpoints" / f"{config.run_id}.safetensors"
    trained = build_model(config.model, seed=seed)
    save_trained(path, trained, config, mean=mean or digits.mean * channels, std=std or digits.std * channels)
    return path
