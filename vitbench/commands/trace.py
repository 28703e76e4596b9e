"""`vitbench trace`: what happens in a step of a model or a peer, for Perfetto, for TensorBoard and in short tables."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from vitbench.commands import arguments, callbacks
from vitbench.commands.options import ModelFields, with_options
from vitbench.commands.terminal_table import print_table
from vitbench.config import MOST, Precision
from vitbench.files import cannot_write, shown

if TYPE_CHECKING:
    from vitbench.device import Device
    from vitbench.profiling.throughput import Candidate
    from vitbench.profiling.trace import Trace

SUMMARY_NAME = "summary.json"


@with_options
def trace(
    model: ModelFields,
    variant: arguments.Variant,
    mode: arguments.Modes = None,
    precision: arguments.PrecisionName = None,
    compile: arguments.CompileName = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            max=MOST,
            callback=callbacks.at_least_one,
            help="Images; default: an arm's, where its study sets it, else 64.",
        ),
    ] = None,
    peer: Annotated[
        str | None, typer.Option(help="timm, vit-pytorch, torchvision or transformers in place of ours.")
    ] = None,
    steps: Annotated[
        int, typer.Option(max=10_000, callback=callbacks.at_least_one, help="Steps that are recorded, after warm-up.")
    ] = 5,
    model_options: arguments.ModelOptions = arguments.ModelOptions(),
    device_options: arguments.DeviceOptions = arguments.DeviceOptions(),
    out: arguments.TraceOut = arguments.LOCAL_RESULTS / "traces",
    as_json: arguments.AsJson = False,
) -> None:
    """Where the time of a step goes, by block, kind of operation and operator; traces for Perfetto and TensorBoard."""
    from vitbench.profiling.candidates import OURS, candidate_of, is_compiled

    device, target = device_options.open_device(), model_options.target(variant, model)
    settings = {**arguments.MEASURED_SETTINGS, **target.settings}
    unmeasured = target.tell_unmeasured(arguments.MEASURED_SETTINGS)
    documents = []
    for mode_name in dict.fromkeys(mode or arguments.MODES):
        candidate = candidate_of(
            target.model,
            variant,
            implementation=peer or OURS,
            mode=mode_name,
            precision=device.resolve_precision(cast(Precision, precision or settings["precision"])),
            compiled=is_compiled(compile or settings["compile"], device.torch_device),
            batch_size=batch_size or settings["batch_size"],
        )
        document = _trace(candidate, device, steps=steps, folder=out / slug(candidate, model), quiet=as_json)
        documents.append({**document, "not_measured": unmeasured})
    if as_json:
        print(json.dumps(documents))
    raise typer.Exit(arguments.FAILED if any(document["reason"] for document in documents) else arguments.DONE)


def _trace(candidate: Candidate, device: Device, *, steps: int, folder: Path, quiet: bool) -> dict[str, Any]:
    """Records one mode into `folder`, prints what it comes to unless `quiet`, and returns it as JSON has it."""
    import torch

    from vitbench.analysis.writing.files import write
    from vitbench.profiling.batch_size import failure_reason
    from vitbench.profiling.trace import record, write_trace

    try:
        trace = record(candidate, device, steps=steps)
    except Exception as error:  # one mode's failure is its result, and the other goes on
        reason = failure_reason(error, candidate.batch_size)
        if not quiet:
            print(f"{candidate.name}: {reason}")
        names = ("variant", "implementation", "mode", "precision", "compiled", "batch_size")
        return {**{name: getattr(candidate, name) for name in names}, "reason": reason}
    try:
        events = write_trace(trace, folder)
    except OSError as error:
        raise cannot_write("out", folder, error, "give another --out") from error
    summary = write(folder / SUMMARY_NAME, json.dumps(trace.as_json(), indent=1) + "\n")
    files = {"events": str(events), "summary": str(summary)}
    if not quiet:
        _print(trace, files)
    return {**trace.as_json(), "threads": torch.get_num_threads(), "reason": "", "files": files}


def slug(candidate: Candidate, model: dict[str, Any]) -> str:
    """A folder's name that tells candidates apart, fields of the model that were given included."""
    fields = [f"{name}-{value}" for name, value in model.items()]
    return re.sub(r"[^\w.+-]+", "-", " ".join([candidate.name, *fields])).strip("-")


def _print(trace: Trace, files: dict[str, str]) -> None:
    from vitbench.analysis.profile.trace import facts, tables_of, title

    print(title(trace))
    for label, text in facts(trace).items():
        print(f"  {label}: {text}")
    for table in tables_of(trace):
        print()
        print_table(table.rows, texts=table.texts, title=table.title)
    for path in files.values():
        print(shown(Path(path)))
    print(f"TensorBoard (extra tensorboard): tensorboard --logdir {shown(Path(files['events']).parent.parent)}")
    print()
