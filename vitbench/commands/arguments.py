"""Arguments and options that several commands have: their names, what they take, and what `--help` says of them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vitbench.config import MOST
from vitbench.files import expanded


class BudgetName(StrEnum):
    smoke = "smoke"
    quick = "quick"
    standard = "standard"
    paper = "paper"


class ExecutorName(StrEnum):
    local = "local"
    ray = "ray"


def _path(path: Path | None) -> Path | None:
    return None if path is None else expanded(path)


def expanded_name(name: str | None) -> str | None:
    """What may be a path or another name, with the home folder for a `~`."""
    return str(expanded(Path(name))) if name and name.startswith("~") else name


def _results(path: Path) -> Path:
    folder = expanded(path)
    for place in (folder, *folder.parents):
        if place.exists():
            if not place.is_dir():
                why = "is" if place == folder else f"cannot be written below {str(place)!r}, which is"
                raise ValueError(f"results {str(folder)!r} {why} not a folder; give another --results")
            break
    return folder


MOST_THREADS = 1024
"""More than any machine has cores, and fewer than a system lets a process have."""
MOST_SEEDS = 1000

Results = Annotated[Path, typer.Option(callback=_results, help="Folder with records/, tables/ and plots/.")]
DataRoot = Annotated[Path | None, typer.Option(callback=_path, help="Folder in which the data set lies.")]
Out = Annotated[Path, typer.Option(callback=_path, help="FILE.npz or FILE.parquet.")]
TraceOut = Annotated[Path, typer.Option(callback=_path, help="Folder; each trace gets one of its own within.")]
Download = Annotated[bool, typer.Option("--download", help="Let the data set's library download what is missing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
DeviceName = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Threads = Annotated[int | None, typer.Option(min=1, max=MOST_THREADS, help="Threads a worker computes with on CPU.")]
Studies = Annotated[list[str] | None, typer.Argument(help="Names of studies, paths of study files; all by default.")]
BudgetOption = Annotated[BudgetName, typer.Option(help="How much to spend.")]
Data = Annotated[list[str] | None, typer.Option(help="Data set: a name, a folder; may be given again.")]
Seeds = Annotated[int | None, typer.Option(min=1, max=MOST_SEEDS, help="Seeds per arm; the budget's where not given.")]
Variant = Annotated[str | None, typer.Option(help="Base variant, in place of the budget's: Mini/4.")]
PrecisionOption = Annotated[str | None, typer.Option(help="auto, fp32 or bf16; the budget's where not given.")]
CompileOption = Annotated[str | None, typer.Option(help="torch.compile: off, auto or on.")]
Epochs = Annotated[float | None, typer.Option(help="In place of the budget's; 2.5 is two and a half.")]
BatchSize = Annotated[int | None, typer.Option(help="In place of the budget's.")]
TrainImages = Annotated[int | None, typer.Option(help="Train on a subset of this size, in place of the budget's.")]
Rates = Annotated[list[float] | None, typer.Option("--learning-rate", help="Grid for every arm; may be given again.")]
TuneSeeds = Annotated[
    int | None,
    typer.Option(
        min=1, max=MOST_SEEDS, help="Choose settings on so many seeds; run the others at chosen settings alone."
    ),
]
Extend = Annotated[
    int | None,
    typer.Option(
        min=0, max=100, help="Steps by which the grid may grow where an arm is best at its edge; 0 only flags it."
    ),
]
Tune = Annotated[
    list[str] | None,
    typer.Option(help="FIELD=VALUE,VALUE: tune it with the learning rate, in every combination; may be given again."),
]
Match = Annotated[str, typer.Option(help="Equal for all arms: epochs, flops (of training) or time (of training).")]
Again = Annotated[
    bool, typer.Option("--again", help="Run here too what was recorded on another machine or with another torch.")
]
ModelKwargs = Annotated[
    list[str] | None,
    typer.Option("--model-kwargs", help="KEY=VALUE: an argument of a timm:NAME, as JSON; may be given again."),
]
TrunkName = Annotated[
    str, typer.Argument(metavar="RUN", help="A run_id of --results or its beginning, FILE.safetensors, or timm:NAME.")
]
Images = Annotated[str, typer.Option("--data", help="Data set: a name or a folder; resized to what the model takes.")]
FeatureBatch = Annotated[int, typer.Option(min=1, max=MOST, help="Images whose features are computed at a time.")]
FeaturePrecision = Annotated[str, typer.Option(help="fp32 or bf16.")]
KeepWeights = Annotated[bool, typer.Option(help="Keep trained weights in checkpoints/, as RUN_ID.safetensors.")]
Jobs = Annotated[str, typer.Option(help="Worker processes: a number, or auto (one per CPU core or GPU).")]

LOCAL_RESULTS = Path("results/local")
"""The default of `--results`."""
