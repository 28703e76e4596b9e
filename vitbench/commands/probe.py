"""How good a trained model's frozen features are: linear probe, few-shot and nearest neighbours, recorded."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from vitbench.commands.features import SPLITS, Trunk, TrunkRequest, open_trunk, validation_split
from vitbench.config import MOST
from vitbench.data import split
from vitbench.evaluation.features import LabelledFeatures, keep
from vitbench.evaluation.few_shot import CONSTANT, DRAWS, L2, SHOTS, draw_images, few_shot
from vitbench.evaluation.neighbours import TEMPERATURE, K, neighbours
from vitbench.evaluation.probe import L2_GRID, MOST_ITERATIONS, TOLERANCE, linear_probe
from vitbench.machine import cache_directory, utc_now
from vitbench.records import Faults
from vitbench.records.transfer import TransferAccuracy, TransferRecord, TransferRequest, TransferStore, probe_id

Found = tuple[list[TransferAccuracy], dict[str, Any]]
"""Accuracies, details."""


@dataclass(frozen=True)
class Method:
    """`constants` of a trunk are all that its accuracies depend on; `check` refuses before features are computed."""

    constants: Callable[[Trunk, Sequence[int]], dict[str, Any]]
    check: Callable[[Trunk, dict[str, Any]], None]
    measure: Callable[[Trunk, LabelledFeatures, LabelledFeatures, dict[str, Any]], Found]


def probe_features(
    request: TrunkRequest,
    *,
    methods: Sequence[str],
    shots: str,
    again: bool,
    as_json: bool,
    faults: Faults | None = None,
) -> list[TransferRecord]:
    """Measures and records what is not recorded yet, or all of it `again`; prints and returns the records, by method.

    `faults` as of `TransferStore`. Raises ValueError for a wrong request, before any feature is computed.
    """
    for method in methods:
        if method not in METHODS:
            raise ValueError(f"method {method!r} is not known; use {', '.join(METHODS)}")
    numbers = _numbers(shots)
    trunk = open_trunk(request)
    store = TransferStore(request.results, faults)
    asked = {
        method: TransferRequest(**trunk.facts(), method=method, constants=METHODS[method].constants(trunk, numbers))
        for method in dict.fromkeys(methods)
    }
    before = {} if again else {record.identity: record for record in store.read(trunk.data.info.dataset)}
    found = {method: before.get(probe_id(one)) for method, one in asked.items()}
    missing = [method for method, record in found.items() if record is None]
    for method in missing:
        METHODS[method].check(trunk, asked[method].constants)
    if missing:
        train, test = (_features(trunk, part, batch_size=request.batch_size) for part in SPLITS)
        for method in missing:
            found[method] = record = _measured(trunk, asked[method], train, test)
            store.append(record)
    records = [record for record in found.values() if record is not None]
    if as_json:
        print(json.dumps([record.to_dict() for record in records]))
    else:
        _print_records(records, recorded_before=not missing, path=store.path(trunk.data.info.dataset))
    return records


def _numbers(shots: str) -> list[int]:
    """`1,5`: each once, ascending."""
    parts = shots.split(",")
    if not all(part.strip().isdecimal() and 0 < float(part) <= MOST for part in parts):
        raise ValueError(
            f"shots {shots!r} is not a list of positive numbers, {MOST} at most; give {','.join(map(str, SHOTS))}"
        )
    return sorted({int(part) for part in parts})


def _features(trunk: Trunk, part: str, *, batch_size: int) -> LabelledFeatures:
    """Features of a split, on disk: those of a million images need not fit in memory."""
    labels = getattr(trunk.data, part).labels
    batches = trunk.batches(part, batch_size=batch_size)
    return LabelledFeatures(keep(batches, num_images=len(labels), folder=cache_directory()), labels)


def _measured(
    trunk: Trunk, request: TransferRequest, train: LabelledFeatures, test: LabelledFeatures
) -> TransferRecord:
    started, start = utc_now(), time.perf_counter()
    accuracies, details = METHODS[request.method].measure(trunk, train, test, request.constants)
    return TransferRecord(
        probe_id=probe_id(request),
        run_id=trunk.of.run_id,
        request=request,
        width=train.width,
        num_classes=trunk.data.info.num_classes,
        train_images=len(train),
        test_images=len(test),
        accuracies=tuple(accuracies),
        details=details,
        seconds=time.perf_counter() - start,
        environment=trunk.environment,
        started=started,
        finished=utc_now(),
    )


def _linear_constants(trunk: Trunk, _shots: Sequence[int]) -> dict[str, Any]:
    grid = {"l2_grid": list(L2_GRID), "tolerance": TOLERANCE, "most_iterations": MOST_ITERATIONS}
    return {**grid, "validation": validation_split(trunk)}


def _check_linear(trunk: Trunk, constants: dict[str, Any]) -> None:
    split(trunk.data.train.labels, **constants["validation"])


def _linear(trunk: Trunk, train: LabelledFeatures, test: LabelledFeatures, constants: dict[str, Any]) -> Found:
    fit_rows, validation_rows = split(train.labels, **constants["validation"])
    result = linear_probe(
        train,
        test,
        fit_rows=fit_rows,
        validation_rows=validation_rows,
        grid=constants["l2_grid"],
        device=trunk.device.torch_device,
    )
    details = {
        "l2": result.l2,
        "at_edge": result.at_edge,
        "validation_top1": {f"{l2:g}": top1 for l2, top1 in result.validation_top1.items()},
        "iterations": result.iterations,
        "converged": result.converged,
    }
    return [TransferAccuracy(classifier="linear", top1=result.top1)], details


def _few_shot_constants(_trunk: Trunk, shots: Sequence[int]) -> dict[str, Any]:
    return {"shots": list(shots), "draws": DRAWS, "l2": L2, "constant": CONSTANT}


def _check_few_shot(trunk: Trunk, constants: dict[str, Any]) -> None:
    for shots in constants["shots"]:
        draw_images(trunk.data.train.labels, shots=shots, draw=0)


def _few_shot(_trunk: Trunk, train: LabelledFeatures, test: LabelledFeatures, constants: dict[str, Any]) -> Found:
    top1 = few_shot(train, test, shots=constants["shots"], draws=constants["draws"], l2=constants["l2"])
    return [
        TransferAccuracy(classifier=f"{shots}-shot", draw=draw, top1=value) for (shots, draw), value in top1.items()
    ], {}


def _knn_constants(_trunk: Trunk, _shots: Sequence[int]) -> dict[str, Any]:
    return {"k": K, "temperature": TEMPERATURE, "similarity": "cosine"}


def _check_knn(trunk: Trunk, constants: dict[str, Any]) -> None:
    if (images := len(trunk.data.train)) < constants["k"]:
        raise ValueError(
            f"method 'knn' takes {constants['k']} neighbours, but there are {images} training images; give more"
        )


def _knn(trunk: Trunk, train: LabelledFeatures, test: LabelledFeatures, constants: dict[str, Any]) -> Found:
    device = trunk.device.torch_device
    found = neighbours(train, test, k=constants["k"], temperature=constants["temperature"], device=device)
    return [
        TransferAccuracy(classifier="knn", top1=found.weighted),
        TransferAccuracy(classifier="knn-majority", top1=found.majority),
    ], {}


METHODS = {
    "linear": Method(_linear_constants, _check_linear, _linear),
    "few-shot": Method(_few_shot_constants, _check_few_shot, _few_shot),
    "knn": Method(_knn_constants, _check_knn, _knn),
}


def _print_records(records: Sequence[TransferRecord], *, recorded_before: bool, path: Path) -> None:
    first = records[0]
    print(
        f"{first.request.weights} on {first.request.dataset}: {first.width} features of {first.train_images:,} train and "
        f"{first.test_images:,} test images, {first.num_classes} classes; test top-1:"
    )
    for record in records:
        for classifier in dict.fromkeys(one.classifier for one in record.accuracies):
            top1 = [one.top1 for one in record.accuracies if one.classifier == classifier]
            spread = f" ± {100 * stdev(top1):.2f} over {len(top1)} draws" if len(top1) > 1 else ""
            print(f"  {classifier:14}{100 * mean(top1):6.2f} %{spread}{_remark(record)}")
    print(f"recorded in {path}" + (" before; --again measures it again" if recorded_before else ""))


def _remark(record: TransferRecord) -> str:
    """How the linear probe's penalty was found, and what is doubtful about it."""
    details = record.details
    if record.request.method != "linear":
        return ""
    edge = ", at the edge of the grid" if details["at_edge"] else ""
    doubt = "" if details["converged"] else "; NOT converged"
    return f"  (L2 {details['l2']:g} by validation{edge}; {details['iterations']} iterations{doubt})"
