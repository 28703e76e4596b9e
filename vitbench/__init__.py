"""vitbench: ablations and benchmarks of Vision Transformers, by one identical harness."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vitbench.analysis.frames import Results

__version__ = "0.1.0"


def load(results: str | Path) -> Results:
    """What a results folder holds, as pandas frames: `load("results/local").verdicts()`.

    Raises ValueError where it holds no records.
    """
    from vitbench.analysis.frames import load as load_results  # pandas takes half a second

    return load_results(results)
