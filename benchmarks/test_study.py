"""What does a study of many tiny runs cost: how are two cores best used, and how soon does a warm worker train?"""

from __future__ import annotations

import time
from statistics import median

import pytest
import torch
from torch import nn

from vitbench.data import describe
from vitbench.device import open_device
from vitbench.execution.job import Job
from vitbench.execution.local import run_jobs
from vitbench.execution.run import execute
from vitbench.kernels import native
from vitbench.machine import cpu_cores
from vitbench.records import Outcome
from vitbench.studies import BUDGETS, Overrides, load_study, make_plan
from vitbench.studies.plan import PlannedRun

pytestmark = pytest.mark.timeout(7200)

RUNS = {False: 20, True: 200}
"""By `full`; `--study-runs` says otherwise."""
MIN_RUNS = 6
"""Three a half: as many as show what a run costs once both workers are warm."""
EPOCHS = 4
SETTINGS = {
    "2 workers × 1 thread": (2, 1, {}),
    "1 worker × 2 threads": (1, 2, {}),
    "1 worker × 2 threads, torch's operators": (1, 2, {native.SWITCH: "torch"}),
    "2 workers × 1 thread, torch's operators": (2, 1, {native.SWITCH: "torch"}),
}
"""Workers, threads of each, and the environment that they start with."""
STARTS = 12


def planned(number: int, *, epochs: int) -> list[PlannedRun]:
    """The first of the position study's runs on digits, in the order in which `vitbench run` takes them."""
    study, data = load_study("position"), describe("digits")
    seeds = -(-number // len(make_plan(study, BUDGETS["quick"], data, Overrides(seeds=1)).runs))
    train = {"epochs": epochs}
    return make_plan(study, BUDGETS["quick"], data, Overrides(seeds=seeds, train=train)).runs[:number]


def job(run: PlannedRun, *, workers: int, threads: int) -> Job:
    precision = open_device("cpu").resolve_precision(run.config.train.precision)
    return Job(run, run.config.data.dataset, None, "cpu", "cpu", precision, threads, workers)


def seconds_of_study(runs: list[PlannedRun], *, workers: int, threads: int) -> tuple[float, float]:
    """(from the first worker's start to the last record, and per run once as many are recorded as there are workers)."""
    jobs = [job(run, workers=workers, threads=threads) for run in runs]
    finished: list[float] = []

    def on_record(_: Job, record: object) -> None:
        assert record.outcome is Outcome.COMPLETED, record.reason
        finished.append(time.perf_counter())

    start = time.perf_counter()
    run_jobs(jobs, workers=workers, devices=["cpu"], on_record=on_record, on_report=lambda *_: None)
    assert len(finished) > workers
    return finished[-1] - start, (finished[-1] - finished[workers - 1]) / (len(finished) - workers)


def test_two_workers_of_one_thread_against_one_of_two(in_turn, pytestconfig, full):
    if cpu_cores() < 2:
        pytest.skip("one core cannot be shared in two ways")
    number = max(MIN_RUNS, pytestconfig.getoption("--study-runs") or RUNS[full])
    runs = planned(number, epochs=EPOCHS)
    warm: dict[str, list[float]] = {name: [] for name in SETTINGS}

    def both_ways() -> dict[str, list[float]]:
        # There and back, half of the runs each, so that a drifting machine favours neither.
        seconds: dict[str, list[float]] = {name: [] for name in SETTINGS}
        for names, half in ((list(SETTINGS), runs[::2]), (list(reversed(SETTINGS)), runs[1::2])):
            for name in names:
                workers, threads, environment = SETTINGS[name]
                with pytest.MonkeyPatch.context() as patch:
                    for variable, value in environment.items():
                        patch.setenv(variable, value)
                    whole, each = seconds_of_study(half, workers=workers, threads=threads)
                seconds[name].append(whole)
                warm[name].append(each)
        return seconds

    samples = in_turn(both_ways, group="study")
    totals = {name: sum(values) for name, values in samples.items()}
    first, *others = SETTINGS
    print(f"\nstudy of {number} runs of {EPOCHS} epochs on digits: {first} {totals[first]:.1f} s, 1 ×")
    for other in others:
        print(
            f"  {other} {totals[other]:.1f} s, {totals[other] / totals[first]:.2f} × as long with the start of the workers, "
            f"{sum(warm[other]) / sum(warm[first]):.2f} × once they are warm"
        )


def test_a_warm_worker_starts_a_run(in_turn):
    """In this process, which has made a run before, as a worker calls it."""
    (run,) = planned(1, epochs=1)
    one_step = run.config.replace(data=run.config.data.replace(train_images=run.config.train.batch_size))
    one_run = job(PlannedRun(**{**vars(run), "config": one_step}), workers=1, threads=1)

    def starts() -> dict[str, list[float]]:
        execute(one_run)
        seconds = [seconds_to_first_step(one_run) for _ in range(STARTS)]
        first, whole = zip(*seconds, strict=True)
        return {"to the first step": list(first), "whole run of one step": list(whole)}

    samples = in_turn(starts, group="study").items()
    texts = [f"{name} {median(values):.3f} s ({min(values):.3f} to {max(values):.3f})" for name, values in samples]
    print(f"\nstart-up of a run in a warm worker, n = {STARTS}: {', '.join(texts)}")


def seconds_to_first_step(one_run: Job) -> tuple[float, float]:
    """(from the job's arrival to the first forward pass in training mode, to the record)."""
    steps: list[float] = []

    def note(module: nn.Module, _: object) -> None:
        if module.training and not steps:
            steps.append(time.perf_counter())

    handle = torch.nn.modules.module.register_module_forward_pre_hook(note)
    start = time.perf_counter()
    try:
        record = execute(one_run)
    finally:
        handle.remove()
    end = time.perf_counter()
    assert record.outcome is Outcome.COMPLETED, record.reason
    return steps[0] - start, end - start
