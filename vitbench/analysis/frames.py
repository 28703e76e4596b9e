"""Records and verdicts as pandas frames, for notebooks and scripts: what `vitbench.load` gives. Columns: docs/notebook.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from vitbench.analysis.comparison.arm import ArmResult
from vitbench.analysis.comparison.assessment import Assessment
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.comparison.findings import Finding
from vitbench.analysis.comparison.load import load_assessments
from vitbench.files import expanded
from vitbench.records import Faults, Record, RecordStore

OF_A_RECORD = ("run_id", "study", "arm", "budget", "variant", "seed", "learning_rate", "outcome", "reason")
OF_VERDICTS = (
    *(
        "study",
        "comparison",
        "dataset",
        "budget",
        "variant",
        "epochs",
        "device",
        "precision",
        "arm",
        "baseline",
        "metric",
    ),
    *("unit", "seeds", "mean", "sd", "difference", "low", "high", "confidence", "p_holm", "margin", "verdict"),
    *("seeds_to_settle", "learning_rate", "params", "macs", "train_images_per_second", "infer_images_per_second"),
    *("peak_memory_bytes", "runs"),
)


@dataclass(frozen=True)
class Results:
    """What a results folder holds. Damaged records are left out, and told on stderr."""

    root: Path
    faults: Faults = field(default_factory=Faults, repr=False)

    def records(self) -> pd.DataFrame:
        """A row for each recorded run, in the order of their studies and ends.

        Metrics are as recorded, accuracies fractions. Fields of `config` are named `config.train.epochs` and so on, those of
        the environment `environment.device`; `config.pretraining` is the run_id of the run that one went on from.
        """
        return pd.DataFrame([_record_row(record) for record in self._records])

    def curves(self) -> pd.DataFrame:
        """A row for each epoch of each run: `run_id`, `epoch`, `train_loss`, `val_loss` (nats), `val_top1` (a fraction)."""
        rows = [{"run_id": record.run_id, **point.model_dump()} for record in self._records for point in record.curve]
        return pd.DataFrame(rows, columns=["run_id", "epoch", "train_loss", "val_loss", "val_top1", "fraction"])

    def verdicts(self, *, metric: str | None = None) -> pd.DataFrame:
        """A row for each arm of each comparison, the baseline among them, as the tables have it.

        `metric`: judge by this one (`top1`, `loss`, …) instead of what each study declared. Mean, difference, interval and
        margin are in `unit`: points of 100 for accuracies. Raises ValueError for a metric that is none or that no record has.
        """
        assessments = (
            self._assessments if metric is None else load_assessments(self.root, metric=metric, faults=self.faults)
        )
        rows = [row for assessment in assessments for row in _verdict_rows(assessment)]
        return pd.DataFrame(rows, columns=list(OF_VERDICTS))

    @cached_property
    def _records(self) -> list[Record]:
        store = RecordStore(self.root, self.faults)
        return [record for study in store.studies() for record in store.read(study)]

    @cached_property
    def _assessments(self) -> list[Assessment]:
        return load_assessments(self.root, needed=False, faults=self.faults)


def load(results: str | Path) -> Results:
    """The results folder, as `--results` names it. Raises ValueError where it has no records."""
    root = expanded(Path(results))
    loaded = Results(root)
    if not RecordStore(root, loaded.faults).studies():
        raise ValueError(f"no records under {str(results)!r}; run `vitbench run` first, or give another folder")
    return loaded


def _record_row(record: Record) -> dict[str, Any]:
    dumped = record.model_dump(mode="json")
    if record.config.pretraining is not None:
        dumped["config"]["pretraining"] = record.config.pretraining.run_id
    flat = {
        **{name: dumped[name] for name in OF_A_RECORD},
        "dataset": record.config.data.dataset,
        **record.metrics,
        **dumped["cost"],
        "started": pd.Timestamp(record.started),
        "finished": pd.Timestamp(record.finished),
    }
    for name in ("config", "environment"):
        flat |= {f"{name}.{key}": value for key, value in _flat(dumped[name]).items()}
    return flat


def _flat(nested: dict[str, Any]) -> dict[str, Any]:
    """`{"train.epochs": 4}` of `{"train": {"epochs": 4}}`."""
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        inner = _flat(value) if isinstance(value, dict) else {}
        flat |= {f"{name}.{key}": each for key, each in inner.items()} if inner else {name: value}
    return flat


def _verdict_rows(assessment: Assessment) -> list[dict[str, Any]]:
    comparison = assessment.comparison
    return [
        {
            **_place(comparison),
            **_arm_facts(comparison, arm),
            **_decision(comparison, assessment.findings.arms.get(arm.label)),
        }
        for arm in comparison.arms
    ]


def _place(comparison: Comparison) -> dict[str, Any]:
    return {
        "study": comparison.study,
        "comparison": comparison.slug,
        "dataset": comparison.data.dataset,
        "budget": comparison.budget,
        "variant": comparison.variant,
        "device": comparison.environment.device,
        "precision": comparison.environment.precision,
        "metric": comparison.metric.name,
        "unit": comparison.metric.unit,
        "margin": comparison.metric.scale * comparison.metric.margin,
    }


def _arm_facts(comparison: Comparison, arm: ArmResult) -> dict[str, Any]:
    metric, summary, other = comparison.metric, comparison.summary(arm), comparison.compared_with(arm)
    return {
        "arm": arm.label,
        "epochs": arm.epochs,
        "baseline": other.label if other else None,
        "mean": metric.scale * summary.mean if summary else None,
        "sd": metric.scale * summary.sd if summary and summary.sd is not None else None,
        "seeds": summary.n if summary else 0,
        "learning_rate": arm.learning_rate,
        "params": arm.params,
        "macs": arm.macs,
        "train_images_per_second": arm.median_cost("train_images_per_second"),
        "infer_images_per_second": arm.median_cost("infer_images_per_second"),
        "peak_memory_bytes": max(arm.costs("peak_memory_bytes"), default=None),
        "runs": len(arm.runs),
    }


def _decision(comparison: Comparison, finding: Finding | None) -> dict[str, Any]:
    """Nothing for the baseline."""
    if finding is None:
        return {}
    decision, scale = finding.decision, comparison.metric.scale
    low, high = (None, None) if decision.interval is None else (scale * end for end in decision.interval)
    return {
        "difference": scale * decision.difference.mean if decision.difference else None,
        "low": low,
        "high": high,
        "confidence": decision.confidence,
        "p_holm": decision.adjusted_p,
        "verdict": decision.verdict.value,
        "seeds_to_settle": finding.to_settle.num_seeds if finding.to_settle else None,
    }
