"""What happens in a step of a model or a peer? Traces for Perfetto and TensorBoard, and short tables."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from vitbench.config import Precision
from vitbench.files import cannot_write, shown
from vitbench.variants import model as named_model

if TYPE_CHECKING:
    from vitbench.analysis.writing.table import Table
    from vitbench.profiling.throughput import Candidate
    from vitbench.profiling.trace import Trace

SUMMARY_NAME = "summary.json"


def show_trace(
    variant: str,
    *,
    model: dict[str, Any],
    modes: Sequence[str],
    precision: str,
    compile: str,
    batch_size: int,
    peer: str | None,
    steps: int,
    device: str,
    threads: int | None,
    out: Path,
    as_json: bool,
) -> int:
    """Records each mode into a folder of its own within `out`, and prints what it comes to.

    A folder holds the events (Chrome trace format, which is also a run of TensorBoard) and `summary.json`.
    Returns how many modes could not be run. Raises ValueError for a wrong request.
    """
    import torch

    from vitbench.device import open_device
    from vitbench.profiling.batch_size import reason_of
    from vitbench.profiling.candidates import OURS, candidate_of
    from vitbench.profiling.trace import record

    for name, number in (("batch_size", batch_size), ("steps", steps)):
        if number < 1:
            raise ValueError(f"{name} {number} is too few; give 1 or more")
    if threads is not None:
        torch.set_num_threads(threads)
    opened = open_device(device)
    resolved = opened.resolve_precision(cast(Precision, precision))
    config = named_model(variant, **model)
    candidates = [
        candidate_of(
            config,
            variant,
            implementation=peer or OURS,
            mode=mode,
            precision=resolved,
            compiled=compile == "on",
            batch_size=batch_size,
        )
        for mode in dict.fromkeys(modes)
    ]
    documents, num_failed = [], 0
    for candidate in candidates:
        try:
            trace = record(candidate, opened, steps=steps)
        except Exception as error:  # one mode's failure is its result, and the other goes on
            num_failed += 1
            documents.append({**_what(candidate), "reason": reason_of(error, batch_size)})
            if not as_json:
                print(f"{candidate.name}: {documents[-1]['reason']}")
            continue
        files = _write(trace, out / slug(candidate, model))
        documents.append({**trace.as_json(), "threads": torch.get_num_threads(), "reason": "", "files": files})
        if not as_json:
            _print(trace, files)
    if as_json:
        print(json.dumps(documents))
    return num_failed


def slug(candidate: Candidate, model: dict[str, Any]) -> str:
    """A folder's name that tells candidates apart, fields of the model that were given included."""
    compiled = "compiled" if candidate.compiled else "eager"
    what = [candidate.variant, candidate.implementation, candidate.mode, candidate.precision, compiled]
    given = [f"{name}-{value}" for name, value in model.items()]
    return re.sub(r"[^\w.+-]+", "-", "-".join([*what, f"batch-{candidate.batch_size}", *given])).strip("-")


def _what(candidate: Candidate) -> dict[str, Any]:
    names = ("variant", "implementation", "mode", "precision", "compiled", "batch_size")
    return {name: getattr(candidate, name) for name in names}


def _write(trace: Trace, folder: Path) -> dict[str, str]:
    """Path by what it is: `events`, `summary`."""
    from vitbench.analysis.writing.files import write
    from vitbench.profiling.trace import write_trace

    try:
        events = write_trace(trace, folder)
    except OSError as error:
        raise cannot_write("out", folder, error, "give another --out") from error
    summary = write(folder / SUMMARY_NAME, json.dumps(trace.as_json(), indent=1) + "\n")
    return {"events": str(events), "summary": str(summary)}


def _print(trace: Trace, files: dict[str, str]) -> None:
    from vitbench.analysis.profile.trace import facts, tables_of, title

    print(title(trace))
    for label, text in facts(trace).items():
        print(f"  {label}: {text}")
    for table in tables_of(trace):
        _print_table(table)
    for path in files.values():
        print(shown(Path(path)))
    print(f"TensorBoard (extra tensorboard): tensorboard --logdir {shown(Path(files['events']).parent.parent)}")
    print()


def _print_table(table: Table) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as RichTable

    shown = RichTable(
        title=escape(table.title),
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    for heading in table.columns:
        shown.add_column(heading, justify="left" if heading in table.texts else "right")
    for row in table.rows:
        shown.add_row(*map(escape, row.values()))
    console = Console(width=None if os.isatty(1) else 160)
    console.print()
    console.print(shown)
