"""What was measured of an implementation at one setting, and how is it written?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from vitbench.analysis.writing.words import ABSENT, filled, significant
from vitbench.costs.macs import FORWARDS


@dataclass(frozen=True, kw_only=True)
class Heat:
    """Seconds of each step in the qualifying rounds; without any, `reason` says why."""

    implementation: str
    precision: str
    compiled: bool
    cuda_graphs: bool = False
    samples: Sequence[float]
    reason: str

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> Self:
        """From a part's JSON, which may hold more."""
        return cls(**{field.name: facts[field.name] for field in fields(cls) if field.name in facts})

    @property
    def setting(self) -> str:
        """`bf16 compiled`."""
        return f"{self.precision} {'graphs' if self.cuda_graphs else 'compiled' if self.compiled else 'eager'}"

    @property
    def ran(self) -> bool:
        return bool(self.samples)


@dataclass(frozen=True, kw_only=True)
class Row(Heat):
    """A row of `vitbench throughput --json`; what is None was not measured."""

    mode: str
    batch_size: int
    macs: int
    images_per_second: float | None
    images_per_second_interval: tuple[float, float] | None
    """95 %."""
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    mfu: float | None
    peak_memory_bytes: int | None
    settled: bool
    last_block: str = ""
    """`class token` or `all tokens`: which it computes; empty in older rows."""
    in_turn: bool = True
    """False where it did not fit into memory beside the others, and was timed alone."""
    device_state: Mapping[str, Any] | None = None

    @property
    def took_turns(self) -> bool:
        return self.ran and self.in_turn

    @property
    def is_noisy(self) -> bool:
        """Whether the median's 95 % interval is wider than 2 %."""
        return self.ran and not self.settled

    @property
    def flops_per_second(self) -> float | None:
        rate = self.images_per_second
        return None if rate is None else 2 * self.macs * FORWARDS[self.mode] * rate

    @property
    def rate_text(self) -> str:
        """`1,234 [1,200, 1,260]` images/s."""
        if self.images_per_second_interval is None:
            return ABSENT
        low, high = map(significant, self.images_per_second_interval)
        return f"{significant(self.images_per_second)} [{low}, {high}]"

    @property
    def mfu_text(self) -> str:
        """`93%`."""
        return filled("{:.0%}", self.mfu)

    @property
    def rounds_text(self) -> str:
        """`32`, with a star where it is noisy."""
        return f"{len(self.samples)}{' *' if self.is_noisy else ''}"

    def raw(self) -> dict[str, Any]:
        """Its numbers, one to a column, without the samples."""
        low, high = self.images_per_second_interval or (None, None)
        names = ("latency_p50_ms", "latency_p99_ms", "macs", "mfu", "peak_memory_bytes", "settled")
        return {
            **{name: getattr(self, name) for name in ("implementation", "precision", "compiled", "images_per_second")},
            "images_per_second_ci95_low": low,
            "images_per_second_ci95_high": high,
            **{name: getattr(self, name) for name in names},
            "rounds": len(self.samples),
            "reason": self.reason,
        }
