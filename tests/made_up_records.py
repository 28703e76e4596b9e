"""Records made up for tests, through the real schema: `make_record` gives one with the accuracies that a test chooses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vitbench.config import DataConfig, RunConfig, TrainConfig, ViTConfig
from vitbench.records import Cost, Design, Environment, EpochPoint, Outcome, Record

NANO = ViTConfig(
    image_size=8, in_channels=1, patch_size=2, width=32, depth=3, num_heads=1, mlp_ratio=2.0, num_classes=10
)
"""The base variant of the smoke budget on digits."""

MODEL = ViTConfig(image_size=8, in_channels=1, patch_size=2, width=64, depth=4, num_heads=2, num_classes=10)
ENVIRONMENT = Environment(
    device="cpu: Example CPU",
    machine="0123abcd",
    precision="fp32",
    compiled=False,
    threads=2,
    torch="2.14.0",
    timm="1.0.31",
    numpy="2.3.0",
    python="3.11.7",
    vitbench="0.1.0",
    os="Linux 6",
    cpu="Example CPU",
    cpu_cores=2,
    memory_bytes=8 * 2**30,
    data_sha256="d" * 64,
)

DESIGN = Design(question="", source="", baseline="", arms=(), learning_rates=())


def make_record(
    arm: str = "cls",
    *,
    seed: int = 0,
    learning_rate: float = 1e-3,
    test: float | None = 0.9,
    val: float | None = None,
    study: str = "pool",
    budget: str = "quick",
    variant: str = "Micro/2",
    outcome: Outcome = Outcome.COMPLETED,
    reason: str = "",
    model: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    train: dict[str, Any] | None = None,
    init: str | None = None,
    harness_version: int = 1,
    environment: dict[str, Any] | None = None,
    cost: dict[str, Any] | None = None,
    curve: Iterable[float] = (),
    design: Design = DESIGN,
    **fields: Any,
) -> Record:
    """A record; `val` equals `test` unless given. Arm names do not change the model, `model` does."""
    config = RunConfig(
        model=MODEL.replace(**(model or {})),
        data=DataConfig(**(data or {})),
        train=TrainConfig(learning_rate=learning_rate, **(train or {})),
        seed=seed,
        init=init,
        harness_version=harness_version,
    )
    metrics = {} if test is None else {"test_top1": test, "val_top1": test if val is None else val}
    costs = {
        "params": 201_000,
        "macs": 3_120_000,
        "train_seconds": 10.0,
        "train_images_per_second": 1000.0,
        "infer_images_per_second": 3000.0,
        "peak_memory_bytes": 100 * 2**20,
    }
    return Record(
        run_id=config.run_id,
        study=study,
        arm=arm,
        budget=budget,
        variant=variant,
        design=design,
        seed=seed,
        learning_rate=learning_rate,
        config=config,
        outcome=outcome,
        reason=reason,
        metrics=metrics if outcome is Outcome.COMPLETED else {},
        curve=tuple(
            EpochPoint(epoch=epoch, train_loss=1.0, val_top1=top1) for epoch, top1 in enumerate(curve, start=1)
        ),
        cost=Cost(**(costs | (cost or {}))),
        environment=ENVIRONMENT.model_copy(update=environment or {}),
        started="2026-11-01T00:00:00Z",
        finished="2026-11-01T00:01:00Z",
        **fields,
    )
