"""`vitbench records`: checks, repairs and merges the record files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vitbench.commands.arguments import DONE, FAILED, LOCAL_RESULTS, AsJson, Results
from vitbench.files import expanded
from vitbench.records import Faults, upkeep
from vitbench.text import agreeing, counted, printable

records = typer.Typer(help="The record files themselves: check, repair and merge them.", no_args_is_help=True)


@records.command()
def check(results: Results = LOCAL_RESULTS, as_json: AsJson = False) -> None:
    """All that is damaged in the record files, and lines of one run that contradict each other."""
    faults = Faults(say=lambda _: None)  # all are printed below, however many there are
    num_files, num_records = upkeep.check(results, faults)
    if as_json:
        print(json.dumps({"files": num_files, "records": num_records, "faults": [fault.to_dict() for fault in faults]}))
    else:
        _print_all(faults)
        sound = f"{counted(num_records, 'record')} in {counted(num_files, 'file')} {agreeing(num_records, 'is', 'are')} sound"
        print(sound + (f"; {counted(len(faults), 'fault')}" if faults else ""))
    raise typer.Exit(FAILED if faults else DONE)


@records.command()
def repair(
    results: Results = LOCAL_RESULTS,
    conflicts: Annotated[
        bool, typer.Option("--conflicts", help="Also the later of two lines of one run with other numbers.")
    ] = False,
) -> None:
    """Set damaged lines aside, into FILE.damaged with their numbers; all other lines stay as they are."""
    faults = Faults(say=lambda _: None)  # all are printed below, however many there are
    moved = upkeep.repair(results, faults, conflicts=conflicts)
    for path, wrong in moved.items():
        for fault in wrong:
            print(printable(f"{path} line {fault.line}: {fault.what}"))
        print(printable(f"{counted(len(wrong), 'line')} of {path} moved to {path.with_suffix(upkeep.SIDE_FILE)}"))
    if not moved:
        print("no damaged line")
    _print_all(faults)
    raise typer.Exit(FAILED if faults else DONE)


@records.command()
def merge(
    into: Annotated[Path, typer.Argument(callback=expanded, help="Results folder that the records go into.")],
    source: Annotated[
        Path, typer.Argument(callback=expanded, help="Results folder that they come from; it stays as it is.")
    ],
) -> None:
    """Add the records of one results folder to another; a second time adds nothing."""
    if not into.is_dir():
        raise ValueError(
            f"results {str(into)!r} is no folder that records could go into; make it first, or give another"
        )
    faults = Faults(say=lambda _: None)  # all are printed below, however many there are
    for path, number in upkeep.merge(into, source, faults).items():
        print(printable(f"{counted(number, 'record')} added to {path}"))
    _print_all(faults)
    raise typer.Exit(FAILED if faults else DONE)


def _print_all(faults: Faults) -> None:
    for fault in faults:
        print(printable(str(fault)))
