"""`vitbench figures`: what a trained model looks like inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from vitbench.commands.arguments import LOCAL_RESULTS, AsJson, DataRoot, DeviceName, Download, Results, StudyFiles
from vitbench.commands.callbacks import expanded_name
from vitbench.config import MOST
from vitbench.files import shown

NAMES = ("filters", "position", "distance", "rollout", "class-token", "cka", "confusion")


def figures(
    run: Annotated[
        str,
        typer.Argument(
            help="A run of --results with weights kept, its .safetensors, STUDY:ARM, timm:NAME or FILE.npz."
        ),
    ],
    with_run: Annotated[
        str | None,
        typer.Option("--with", callback=expanded_name, help="Another such model: CKA between the layers of both."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Data set; that of the run where not given; others have none.")
    ] = None,
    data_root: DataRoot = None,
    only: Annotated[list[str] | None, typer.Option(help=f"{', '.join(NAMES)}; with commas, or again.")] = None,
    images: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST,
            help="Test images whose attention and layers are looked at; 128, or all where they are fewer.",
        ),
    ] = None,
    device: DeviceName = "auto",
    results: Results = LOCAL_RESULTS,
    study: StudyFiles = None,  # noqa: ARG001 – loaded when it is parsed
    download: Download = False,
    as_json: AsJson = False,
) -> None:
    """What a trained model looks like inside, as SVG and PNG in --results' figures/RUN_ID/, with the numbers behind."""
    kinds = _kinds(only or [], is_compared=with_run is not None)
    from vitbench.analysis.insides.figures import write_figures
    from vitbench.execution import display
    from vitbench.execution.kept_run import kept_run
    from vitbench.inspection.figure_numbers import compute_figures

    run, with_run = kept_run(run, results), with_run and kept_run(with_run, results)
    with display.progress(f"figures of {run}") as progress:
        numbers = compute_figures(
            run,
            other_name=with_run,
            kinds=kinds,
            dataset=data,
            data_root=data_root,
            download=download,
            num_images=images,
            device=device,
            results=results,
            progress=progress,
        )
        paths = write_figures(numbers)
    if as_json:
        print(numbers.to_json(), end="")
        return
    print(*map(shown, paths), sep="\n")
    for name in numbers.computed:
        if name in numbers.skipped:
            print(f"{name} has no figure: {numbers.skipped[name]}")


def _kinds(only: Sequence[str], *, is_compared: bool) -> list[str]:
    asked = [name for names in only for name in names.split(",") if name]
    for name in asked:
        if name not in NAMES:
            raise ValueError(f"only {name!r} is not a figure; use {', '.join(NAMES)}")
    if is_compared and asked and "cka" not in asked:
        raise ValueError("--with is for cka, which --only leaves out; add it there, or leave --with out")
    return [name for name in NAMES if name in asked or not asked]
