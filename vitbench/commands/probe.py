"""`vitbench probe`: how good a trained model's frozen features are, measured once and recorded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from statistics import mean, stdev
from typing import TYPE_CHECKING, Annotated

import typer

from vitbench.commands.arguments import DONE, FAILED, AsJson, DeviceOptions
from vitbench.commands.features import FeatureOptions
from vitbench.commands.options import with_options
from vitbench.config import MOST
from vitbench.text import counted

if TYPE_CHECKING:
    from vitbench.records.transfer import TransferRecord


@with_options
def probe(
    options: FeatureOptions,
    method: Annotated[str, typer.Option(help="Some of these, with commas between.")] = "linear,few-shot,knn",
    shots: Annotated[str, typer.Option(help="Training images of each class, few-shot.")] = "1,5,10,25",
    again: Annotated[bool, typer.Option("--again", help="Measure again what is recorded.")] = False,
    device_options: DeviceOptions = DeviceOptions(),
    as_json: AsJson = False,
) -> None:
    """How good a trained model's frozen features are: linear probe, few-shot and nearest neighbours, recorded."""
    from vitbench.execution import display
    from vitbench.inspection.probe import METHODS, measure_methods
    from vitbench.records import Faults
    from vitbench.records.transfer import TransferStore

    methods = method.split(",")
    for name in methods:
        if name not in METHODS:
            raise ValueError(f"method {name!r} is not known; use {', '.join(METHODS)}")
    numbers = _numbers(shots)
    faults = Faults()
    store = TransferStore(options.results, faults)
    with display.progress(f"reading {options.data}") as progress:
        extractor = options.extractor(device_options.open_device(), progress)
        records, recorded_before = measure_methods(extractor, store, methods=methods, shots=numbers, again=again)
    if as_json:
        print(json.dumps([record.to_dict() for record in records]))
    else:
        _print_records(records)
        path = store.path(extractor.data.info.dataset)
        print(f"recorded in {path}" + (" before; --again measures it again" if recorded_before else ""))
    raise typer.Exit(FAILED if faults else DONE)


def _numbers(shots: str) -> list[int]:
    """`5,1`: each once, ascending."""
    parts = shots.split(",")
    if not all(part.strip().isdecimal() and 0 < float(part) <= MOST for part in parts):
        raise ValueError(f"shots {shots!r} is not a list of positive numbers, {MOST} at most; give 1,5,10,25")
    return sorted({int(part) for part in parts})


def _print_records(records: Sequence[TransferRecord]) -> None:
    first = records[0]
    sizes = f"{counted(first.width, 'feature')} of {first.train_images:,} train and {first.test_images:,} test images"
    classes = counted(first.num_classes, "class", "classes")
    print(f"{first.request.weights} on {first.request.dataset}: {sizes}, {classes}; test top-1:")
    for record in records:
        details, remark = record.details, ""
        if record.request.method == "linear":
            edge = ", at the edge of the grid" if details["at_edge"] else ""
            doubt = "" if details["converged"] else "; NOT converged"
            remark = (
                f"  (L2 {details['l2']:g} by validation{edge}; {counted(details['iterations'], 'iteration')}{doubt})"
            )
        for classifier, draws in groupby(record.accuracies, key=lambda accuracy: accuracy.classifier):
            top1 = [draw.top1 for draw in draws]
            spread = f" ± {100 * stdev(top1):.2f} over {len(top1)} draws" if len(top1) > 1 else ""
            print(f"  {classifier:14}{100 * mean(top1):6.2f} %{spread}{remark}")
