"""How good are a trained model's frozen features: by linear probe, few-shot and nearest neighbours?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vitbench.data import split
from vitbench.evaluation.features import LabelledFeatures
from vitbench.evaluation.few_shot import CONSTANT, DRAWS, L2, draw_images, few_shot
from vitbench.evaluation.neighbours import TEMPERATURE, K, neighbours
from vitbench.evaluation.probe import L2_GRID, MOST_ITERATIONS, TOLERANCE, linear_probe
from vitbench.inspection.features import SPLITS, FeatureExtractor
from vitbench.machine import utc_now
from vitbench.records.transfer import TransferAccuracy, TransferRecord, TransferRequest, TransferStore, probe_id

Constants = dict[str, Any]
"""All that a method's accuracies depend on besides the features, as JSON has it."""
Measurement = tuple[list[TransferAccuracy], dict[str, Any]]
"""(accuracies, details)."""


@dataclass(frozen=True)
class Method:
    constants: Callable[[FeatureExtractor, Sequence[int]], Constants]
    """For these numbers of shots; raises ValueError for what cannot be measured, before features are computed."""
    measure: Callable[[FeatureExtractor, LabelledFeatures, LabelledFeatures, Constants], Measurement]
    """From the features of train and test."""


def measure_methods(
    extractor: FeatureExtractor, store: TransferStore, *, methods: Sequence[str], shots: Sequence[int], again: bool
) -> tuple[list[TransferRecord], bool]:
    """Measures and records what `store` does not have yet, or all of it `again`.

    Returns a record for each method, and whether all of them were there before. Raises ValueError where a method cannot be
    measured on these images.
    """
    facts = extractor.facts()
    requests = [
        TransferRequest(**facts, method=method, constants=METHODS[method].constants(extractor, shots))
        for method in dict.fromkeys(methods)
    ]
    recorded = {} if again else {record.identity: record for record in store.read(extractor.data.info.dataset)}
    missing = [request for request in requests if probe_id(request) not in recorded]
    if missing:
        train, test = (extractor.labelled(part) for part in SPLITS)
        for request in missing:
            record = _measured(extractor, request, train, test)
            store.append(record)
            recorded[record.identity] = record
    return [recorded[probe_id(request)] for request in requests], not missing


def _measured(
    extractor: FeatureExtractor, request: TransferRequest, train: LabelledFeatures, test: LabelledFeatures
) -> TransferRecord:
    started, start = utc_now(), time.perf_counter()
    accuracies, details = METHODS[request.method].measure(extractor, train, test, request.constants)
    return TransferRecord(
        probe_id=probe_id(request),
        run_id=extractor.loaded.run_id,
        request=request,
        width=train.width,
        num_classes=extractor.data.info.num_classes,
        train_images=len(train),
        test_images=len(test),
        accuracies=tuple(accuracies),
        details=details,
        seconds=time.perf_counter() - start,
        environment=extractor.environment,
        started=started,
        finished=utc_now(),
    )


def _linear_constants(extractor: FeatureExtractor, _shots: Sequence[int]) -> Constants:
    validation = extractor.validation_split()
    split(extractor.labels("train"), **validation)  # refuses too few images
    return {
        "l2_grid": list(L2_GRID),
        "tolerance": TOLERANCE,
        "most_iterations": MOST_ITERATIONS,
        "validation": validation,
    }


def _linear(
    extractor: FeatureExtractor, train: LabelledFeatures, test: LabelledFeatures, constants: Constants
) -> Measurement:
    fit_rows, validation_rows = split(train.labels, **constants["validation"])
    result = linear_probe(
        train,
        test,
        fit_rows=fit_rows,
        validation_rows=validation_rows,
        grid=constants["l2_grid"],
        device=extractor.device.torch_device,
    )
    details = {
        "l2": result.l2,
        "at_edge": result.at_edge,
        "validation_top1": {f"{l2:g}": top1 for l2, top1 in result.validation_top1.items()},
        "iterations": result.iterations,
        "converged": result.converged,
    }
    return [TransferAccuracy(classifier="linear", top1=result.top1)], details


def _few_shot_constants(extractor: FeatureExtractor, shots: Sequence[int]) -> Constants:
    for number in shots:
        draw_images(extractor.labels("train"), shots=number, draw=0)  # refuses too few images
    return {"shots": list(shots), "draws": DRAWS, "l2": L2, "constant": CONSTANT}


def _few_shot(
    _extractor: FeatureExtractor, train: LabelledFeatures, test: LabelledFeatures, constants: Constants
) -> Measurement:
    top1 = few_shot(train, test, shots=constants["shots"], draws=constants["draws"], l2=constants["l2"])
    return [
        TransferAccuracy(classifier=f"{shots}-shot", draw=draw, top1=value) for (shots, draw), value in top1.items()
    ], {}


def _knn_constants(extractor: FeatureExtractor, _shots: Sequence[int]) -> Constants:
    if (images := len(extractor.labels("train"))) < K:
        raise ValueError(f"method 'knn' takes {K} neighbours, but there are {images} training images; give more")
    return {"k": K, "temperature": TEMPERATURE, "similarity": "cosine"}


def _knn(
    extractor: FeatureExtractor, train: LabelledFeatures, test: LabelledFeatures, constants: Constants
) -> Measurement:
    device = extractor.device.torch_device
    accuracy = neighbours(train, test, k=constants["k"], temperature=constants["temperature"], device=device)
    return [
        TransferAccuracy(classifier="knn", top1=accuracy.weighted),
        TransferAccuracy(classifier="knn-majority", top1=accuracy.majority),
    ], {}


METHODS = {
    "linear": Method(_linear_constants, _linear),
    "few-shot": Method(_few_shot_constants, _few_shot),
    "knn": Method(_knn_constants, _knn),
}
