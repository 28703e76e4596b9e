"""vitbench: ablations and benchmarks of Vision Transformers, by one identical harness."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "0.1.0"


def load(results: str | Path) -> Any:
    """What a results folder holds, as pandas frames: `analysis.frames.Results`. `load("results/local").verdicts()`.

    Raises ValueError where it holds no records.
    """
    # Imported when it is called: pandas takes half a second, and all that is below vitbench imports this file.
    return import_module("vitbench.analysis.frames").load(results)
