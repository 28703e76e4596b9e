"""Does training in bf16, on its faster operators, reach the accuracy of fp32? Paired by seed, on data of your own.

    python benchmarks/precision.py --data torch/fashion_mnist --data-root ~/data

Trains the position study's baseline at both precisions from the same seeds, on the same batches, one run per worker and
thread; what is recorded under --results already is not run again. Prints the paired differences with their 95 %
interval (Student's t) and the ratio of training times.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from scipy import stats
from vitbench.commands.display import Terminal

from vitbench.data import describe
from vitbench.device import open_device
from vitbench.execution import Job
from vitbench.execution.local import run_jobs
from vitbench.execution.preparation import DataReader, JobMaker
from vitbench.machine import cpu_cores
from vitbench.records import Outcome, Record, RecordStore
from vitbench.studies import BUDGETS, Overrides, load_study, make_plan
from vitbench.studies.plan import PlannedRun

PRECISIONS = ("fp32", "bf16")
STUDY = load_study("position")


def planned(
    dataset: str, root: Path | None, *, precision: str, seeds: int, epochs: int, images: int
) -> list[PlannedRun]:
    overrides = Overrides(seeds=seeds, train_images=images, train={"epochs": epochs, "precision": precision})
    runs = make_plan(STUDY, BUDGETS["quick"], describe(dataset, root=root), overrides).runs
    return [run for run in runs if run.arm == STUDY.baseline.name]


def main(
    data: str = "digits",
    data_root: Path | None = None,
    seeds: Annotated[int, typer.Option(min=2)] = 5,
    epochs: int = 10,
    train_images: int = 20_000,
    results: Path = Path("results/local/precision"),
) -> None:
    """Runs what is not recorded yet, then prints one JSON document."""
    store = RecordStore(results)
    runs = {
        p: planned(data, data_root, precision=p, seeds=seeds, epochs=epochs, images=train_images) for p in PRECISIONS
    }
    recorded = {record.identity: record for record in store.read(STUDY.name) if record.outcome is Outcome.COMPLETED}
    # fp32 and bf16 of one seed after each other, so that a machine that drifts favours neither.
    pending = [run for pair in zip(*runs.values(), strict=True) for run in pair if run.run_id not in recorded]
    if pending:
        workers = min(cpu_cores(), len(pending))
        maker = JobMaker(device=open_device("cpu"), data_root=data_root, threads=1, workers=workers)
        DataReader(Terminal(), data_root).read([(data, run) for run in pending])
        store.prepare()

        def on_record(_: Job, record: Record) -> None:
            assert record.outcome is Outcome.COMPLETED, record.reason
            store.append(record)
            recorded[record.identity] = record

        jobs = [maker.job(data, run) for run in pending]
        run_jobs(jobs, workers=workers, devices=["cpu"], on_record=on_record, on_report=lambda *_: None)
    records = {p: [recorded[run.run_id] for run in of_precision] for p, of_precision in runs.items()}
    top1 = {p: [record.metrics["test_top1"] for record in of_precision] for p, of_precision in records.items()}
    seconds = {p: [record.cost.train_seconds for record in of_precision] for p, of_precision in records.items()}
    differences = 100 * (np.array(top1["bf16"]) - np.array(top1["fp32"]))
    low, high = stats.t.interval(0.95, seeds - 1, loc=differences.mean(), scale=stats.sem(differences))
    print(
        json.dumps(
            {
                "data": data,
                "kernels": sorted({record.environment.kernels for record in records["bf16"]}),
                "test_top1": top1,
                "bf16_minus_fp32_points": {"mean": differences.mean(), "interval": [low, high], "seeds": seeds},
                "train_seconds": seconds,
                "fp32_over_bf16_seconds": float(np.median(np.array(seconds["fp32"]) / np.array(seconds["bf16"]))),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    typer.run(main)
