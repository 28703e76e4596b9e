"""What is a run judged by? Each metric of the test split: its names, unit, direction, and the difference that matters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vitbench.text import did_you_mean

Unit = Literal["points", "nats", "units"]


@dataclass(frozen=True)
class Metric:
    """A number of a run's test images that arms can be compared by. `key` is its name in `Record.metrics`."""

    name: str
    """On the command line and in studies."""
    key: str
    words: str
    """In sentences and above columns."""
    unit: Unit
    """Of differences. Points: hundredths of a share, which is itself written in %."""
    margin: float
    """Differences within it count as none, as a share, in nats or in units. docs/statistics.md argues for each."""
    larger_is_better: bool
    fewest_classes: int = 2
    """With fewer it says nothing."""

    @property
    def scale(self) -> float:
        """By which the number is multiplied where it is written."""
        return 100.0 if self.unit == "points" else 1.0

    @property
    def digits(self) -> int:
        """After the point, where it is written."""
        return 2 if self.unit == "points" else 4

    @property
    def value_unit(self) -> str:
        """That of the number itself: `%`, `nats`, or nothing."""
        return {"points": "%", "nats": "nats", "units": ""}[self.unit]

    @property
    def heading(self) -> str:
        """`top-1 (%)`, `loss (nats)`, `Brier score`: above a column of means."""
        return f"{self.words} ({self.value_unit})" if self.value_unit else self.words

    def heading_at(self, place: str) -> str:
        """`top-1 at PLACE (%)`."""
        return f"{self.words} at {place} ({self.value_unit})" if self.value_unit else f"{self.words} at {place}"

    @property
    def is_top1(self) -> bool:
        """Whether it counts images right, which records list one by one."""
        return self.name == "top1"


METRICS = {
    metric.name: metric
    for metric in (
        Metric("top1", "test_top1", "top-1", "points", 0.005, larger_is_better=True),
        Metric("top5", "test_top5", "top-5", "points", 0.005, larger_is_better=True, fewest_classes=6),
        Metric("balanced", "test_balanced_top1", "balanced accuracy", "points", 0.005, larger_is_better=True),
        Metric("loss", "test_loss", "loss", "nats", 0.013, larger_is_better=False),
        Metric("brier", "test_brier", "Brier score", "units", 0.0065, larger_is_better=False),
        Metric("ece", "test_ece", "calibration error", "points", 0.01, larger_is_better=False),
        Metric("ece_mass", "test_ece_mass", "calibration error, equal mass", "points", 0.01, larger_is_better=False),
    )
}
"""By name; in the order in which tables have them."""
TOP1 = METRICS["top1"]


def metric_named(name: str) -> Metric:
    """Raises ValueError for a name that no metric has."""
    if name not in METRICS:
        hint = did_you_mean(name, METRICS, f"take one of {', '.join(METRICS)}")
        raise ValueError(f"metric {name!r} is none; {hint}")
    return METRICS[name]
