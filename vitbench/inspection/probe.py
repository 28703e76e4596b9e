"""How good are a trained model's frozen features: by linear probe, few-shot and nearest neighbours?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vitbench.config import DataConfig
from vitbench.data import split
from vitbench.evaluation.features import LabelledFeatures
from vitbench.evaluation.few_shot import CONSTANT, DRAWS, L2, draw_images, few_shot
from vitbench.evaluation.neighbours import TEMPERATURE, K, neighbours
from vitbench.evaluation.probe import L2_GRID, MOST_ITERATIONS, TOLERANCE, linear_probe
from vitbench.inspection.features import FeatureExtractor
from vitbench.machine import utc_now
from vitbench.records.transfer import TransferAccuracy, TransferRecord, TransferRequest, TransferStore, probe_id

Measurement = tuple[list[TransferAccuracy], dict[str, Any]]
"""(accuracies, details)."""


@dataclass(frozen=True)
class Method:
    """One way to measure, on the images of one extractor."""

    constants: dict[str, Any]
    """All that its accuracies depend on besides the features, as JSON has it."""
    measure: Callable[[LabelledFeatures, LabelledFeatures], Measurement]
    """From the features of train and test."""


def measure_methods(
    extractor: FeatureExtractor, store: TransferStore, *, methods: Sequence[str], shots: Sequence[int], again: bool
) -> tuple[list[TransferRecord], bool]:
    """Measures and records what `store` does not have yet, or all of it `again`.

    Returns a record for each method, and whether all of them were there before. Raises ValueError where a method cannot be
    measured on these images.
    """
    facts, planned = extractor.facts(), {name: METHODS[name](extractor, shots) for name in methods}
    requests = [TransferRequest(**facts, method=name, constants=method.constants) for name, method in planned.items()]
    recorded = {} if again else {record.identity: record for record in store.read(extractor.data.info.dataset)}
    missing = [request for request in requests if probe_id(request) not in recorded]
    if missing:
        train, test = extractor.labelled("train"), extractor.labelled("test")
        for request in missing:
            started, start = utc_now(), time.perf_counter()
            accuracies, details = planned[request.method].measure(train, test)
            record = TransferRecord(
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
            store.append(record)
            recorded[record.identity] = record
    return [recorded[probe_id(request)] for request in requests], not missing


def _linear(extractor: FeatureExtractor, _shots: Sequence[int]) -> Method:
    run, fraction, seed = extractor.loaded.run, DataConfig().validation_fraction, 0
    if run is not None and run.data.dataset == extractor.data.info.dataset:
        # The model has seen all other images, and on those every probe would look good.
        fraction, seed = run.data.validation_fraction, run.seed
    fit_rows, validation_rows = split(extractor.images("train").labels, validation_fraction=fraction, seed=seed)

    def measure(train: LabelledFeatures, test: LabelledFeatures) -> Measurement:
        device = extractor.device.torch_device
        result = linear_probe(
            train, test, fit_rows=fit_rows, validation_rows=validation_rows, grid=L2_GRID, device=device
        )
        details = {
            "l2": result.l2,
            "at_edge": result.at_edge,
            "validation_top1": {f"{l2:g}": top1 for l2, top1 in result.validation_top1.items()},
            "iterations": result.iterations,
            "converged": result.converged,
        }
        return [TransferAccuracy(classifier="linear", top1=result.top1)], details

    constants = {
        "l2_grid": list(L2_GRID),
        "tolerance": TOLERANCE,
        "most_iterations": MOST_ITERATIONS,
        "validation": {"validation_fraction": fraction, "seed": seed},
    }
    return Method(constants, measure)


def _few_shot(extractor: FeatureExtractor, shots: Sequence[int]) -> Method:
    for number in shots:
        draw_images(extractor.images("train").labels, shots=number, draw=0)  # refuses too few images

    def measure(train: LabelledFeatures, test: LabelledFeatures) -> Measurement:
        top1 = few_shot(train, test, shots=shots)
        return [TransferAccuracy(classifier=f"{n}-shot", draw=draw, top1=top1[n, draw]) for n, draw in top1], {}

    return Method({"shots": list(shots), "draws": DRAWS, "l2": L2, "constant": CONSTANT}, measure)


def _knn(extractor: FeatureExtractor, _shots: Sequence[int]) -> Method:
    if (images := len(extractor.data.train)) < K:
        raise ValueError(f"method 'knn' takes {K} neighbours, but there are {images} training images; give more")

    def measure(train: LabelledFeatures, test: LabelledFeatures) -> Measurement:
        accuracy = neighbours(train, test, device=extractor.device.torch_device)
        by_vote = {"knn": accuracy.weighted, "knn-majority": accuracy.majority}
        return [TransferAccuracy(classifier=name, top1=top1) for name, top1 in by_vote.items()], {}

    return Method({"k": K, "temperature": TEMPERATURE, "similarity": "cosine"}, measure)


METHODS = {"linear": _linear, "few-shot": _few_shot, "knn": _knn}
"""By name, from the extractor and the numbers of shots; raises ValueError for what cannot be measured on its images."""
