"""`vitbench train`: one run, with any field set by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vitbench.commands import arguments, callbacks
from vitbench.commands.callbacks import evaluated, images_at_a_time
from vitbench.commands.options import DataFields, ModelFields, RecipeFields, with_options
from vitbench.commands.several_devices import DevicesPerRun
from vitbench.config.distortions import distorted_accuracies, strength_text
from vitbench.launched import launched
from vitbench.records import Faults, Outcome, Record, RecordStore
from vitbench.text import printable


@with_options
def train(
    model: ModelFields,
    recipe_fields: RecipeFields,
    data_fields: DataFields,
    variant: arguments.OptionalVariant = None,
    init: Annotated[
        str | None,
        typer.Option(
            callback=callbacks.expanded_name,
            help="Weights to start from: a RUN of --results, a file (.safetensors, .npz), or timm:NAME.",
        ),
    ] = None,
    keep_head: Annotated[
        bool, typer.Option("--keep-head", help="Take the head over too; with --epochs 0, to evaluate it as it is.")
    ] = False,
    recipe: arguments.RecipeOrBudget = None,
    data: Annotated[str, typer.Option(help="Data set: a name, a folder, FILE.npz or FILE.py[:NAME].")] = "digits",
    data_root: arguments.DataRoot = None,
    evaluate: arguments.Evaluate = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1)] = 0,
    device: arguments.DeviceName = "auto",
    devices_per_run: DevicesPerRun = 1,
    threads: arguments.Threads = None,
    micro_batch: arguments.MicroBatch = None,
    checkpoint_minutes: arguments.CheckpointMinutes = arguments.CHECKPOINT_MINUTES,
    keep_weights: arguments.KeepWeights = True,
    results: arguments.Results = arguments.LOCAL_RESULTS,
    study: arguments.StudyFiles = None,  # noqa: ARG001 – loaded when it is parsed
    download: arguments.Download = False,
    as_json: arguments.AsJson = False,
) -> None:
    """One run, any field of the model, the recipe and the data as an option; started by torchrun, on several devices."""
    launch = launched()
    if launch is not None and launch.rank:
        from vitbench.execution.torchrun import follow

        raise typer.Exit(arguments.DONE if follow(launch) else arguments.FAILED)
    from vitbench.execution.single import STUDY, SingleRequest, train_one

    request = SingleRequest(
        variant=variant,
        init=init,
        keep_head=keep_head,
        model=model,
        train=recipe_fields,
        data=data_fields,
        recipe=recipe,
        dataset=data,
        data_root=data_root,
        download=download,
        evaluate=evaluated(evaluate) or (),
        seed=seed,
        device=device,
        threads=threads,
        micro_batch=images_at_a_time(micro_batch),
        checkpoint_minutes=checkpoint_minutes,
        keep_weights=keep_weights,
        results=results,
        devices_per_run=devices_per_run,
    )
    faults = Faults()
    record, recorded_before = train_one(request, faults)
    if as_json:
        print(record.to_json())
    else:
        _print_record(record, recorded_before=recorded_before, path=RecordStore(results).path(STUDY))
    raise typer.Exit(arguments.FAILED if faults or record.outcome is Outcome.FAILED else arguments.DONE)


def _print_record(record: Record, *, recorded_before: bool, path: Path) -> None:
    where = f"recorded in {path}" + (" before; not run again" if recorded_before else "")
    if record.outcome is not Outcome.COMPLETED:
        print(printable(f"{record.outcome}: {record.reason} ({where})"))
        return
    cost = record.cost
    print(f"test top-1 {record.metrics['test_top1']:.2%}, validation top-1 {record.metrics['val_top1']:.2%}")
    for name, values in distorted_accuracies(record.metrics).items():
        texts = (f"{value:.2%} at {strength_text(name, strength)}" for strength, value in values.items())
        print(f"{name}: test top-1 {', '.join(texts)}")
    print(f"{cost.params:,} parameters, {cost.macs / 1e6:,.3g} MMACs an image (1 MAC = 2 FLOPs)")
    if cost.macs_incomplete:
        print(printable(f"MACs are incomplete: {', '.join(cost.macs_incomplete)} have no count"))
    if record.self_initialised:
        print(printable(f"initialised by their own code: {', '.join(record.self_initialised)}"))
    speeds = {"training": cost.train_images_per_second, "evaluating": cost.infer_images_per_second}
    measured = [f"{speed:,.0f} images/s {what}" for what, speed in speeds.items() if speed is not None]
    print(f"{', '.join(measured)}, on {record.environment.device} at {record.environment.precision}")
    print(f"run {record.run_id}, {where}")
