"""Made-up records of frozen features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.made_up_records import ENVIRONMENT
from vitbench.records.transfer import TransferAccuracy, TransferRecord, TransferRequest, probe_id


def make_transfer(
    method: str,
    top1: Mapping[str, Sequence[float]],
    *,
    environment: Mapping[str, Any] | None = None,
    details: dict[str, Any] | None = None,
    run_id: str = "",
    **request: Any,
) -> TransferRecord:
    """With these accuracies, by classifier; several are draws. `request` replaces parts of what was asked."""
    asked = TransferRequest.model_validate(
        {
            "weights": f"run:{run_id}@00000000" if run_id else "timm:vit@01234567",
            "weights_sha256": "0" * 64,
            "dataset": "digits",
            "data_sha256": "d" * 64,
            "image_size": (8, 8),
            "mean": (0.3,),
            "std": (0.2,),
            "precision": "fp32",
            "method": method,
            "constants": {},
            **request,
        }
    )
    return TransferRecord(
        probe_id=probe_id(asked),
        run_id=run_id,
        request=asked,
        width=32,
        num_classes=10,
        train_images=1198,
        test_images=599,
        accuracies=tuple(
            TransferAccuracy(classifier=name, draw=draw if len(values) > 1 else None, top1=value)
            for name, values in top1.items()
            for draw, value in enumerate(values)
        ),
        details=details or {},
        seconds=1.0,
        environment=ENVIRONMENT.model_copy(update={"precision": asked.precision, **(environment or {})}),
        started="2026-11-01T00:00:00.000+00:00",
        finished="2026-11-01T00:01:00.000+00:00",
    )
