"""Plans into records: data read once, device opened, jobs handed to an executor, records appended as they come."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitbench.commands.display import RunDisplay, is_live
from vitbench.commands.request import Request, Standing, num_gpus, resolve_jobs
from vitbench.execution import Job
from vitbench.execution.arrivals import Arrivals
from vitbench.execution.claims import Claims, JobQueue
from vitbench.execution.current_environment import Here
from vitbench.execution.pretraining import Pretrained, Wave
from vitbench.execution.reuse import Planned, by_run_id, has_weights, in_place_of, take_over
from vitbench.records import Outcome, Record, RecordStore
from vitbench.studies import PlannedRun
from vitbench.text import counted, printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vitbench.config import RunConfig
    from vitbench.device import Device


@dataclass
class _Tally:
    """What a command has come to so far; runs are named by (study, run_id)."""

    failed: set[tuple[str, str]] = field(default_factory=set)
    """Here, or meanwhile in another process: not tried again in this call."""
    given_up: set[tuple[str, str]] = field(default_factory=set)
    trained: set[str] = field(default_factory=set)
    """run_ids of what was trained here."""
    executed: set[tuple[str, str]] = field(default_factory=set)
    """Trained here, or taken over from another study: once in a call, even where its images change meanwhile."""
    recorded: int = 0
    """Runs that did not fail here."""
    elsewhere: set[tuple[str, str]] = field(default_factory=set)
    """Recorded meanwhile by another process, or to be taken over from its record, and then executed too."""


def run_studies(
    request: Request, *, device: str, executor: str, jobs: str, threads: int | None, keep_weights: bool = False
) -> int:
    """Runs what is pending and appends each record as it comes, then what follows from these, until nothing is pending.

    Other processes may do the same on the same results: each run is claimed by one of them, and what others record counts.
    Returns how many runs failed; they are tried again by the next call.
    """
    threads = threads or 1
    here = _open_here(request, device=device, threads=threads) if request.again else None
    tally, store = _Tally(), request.store
    arrivals = Arrivals(store)
    with Claims(request.results) as claims:
        if request.match == "time":
            _settle_rates(request, claims, device=device, threads=threads)
        for line in request.left_out():
            print(line)
        while True:
            arrivals.start_again()  # before the store is read, so that nothing falls between
            failed = tally.failed | arrivals.failed()
            # Asked each time: files may change while runs do.
            content = request.content(partial(decode, data_root=request.data_root, download=request.download))
            standing = Standing.of(request, failed, here, content)
            tally.failed |= failed & {(run.study, run.run_id) for _, run in standing.planned}
            pending = standing.pending(tally.failed | tally.given_up | tally.executed)
            if not pending:
                break
            workers = resolve_jobs(jobs, device=device, pending=len(pending))
            opened, make_job = prepare(
                request.data_root,
                device=device,
                threads=threads,
                workers=workers,
                results=request.results,
                keep_weights=keep_weights,
            )
            share = _Share(claims, arrivals, tally, executor)
            on_this = Here(opened, threads=threads)
            devices = _devices(opened, device)
            _run_wave(request, standing, pending, make_job, on_this, share, devices=devices, workers=workers)
    if keep_weights:
        _print_without_weights(request, standing)
    changed = tally.executed - tally.failed - standing.done
    for line in standing.about_images() if changed or not tally.recorded else ():
        print(line)
    _print_end(tally, len(standing.planned), store)
    return len(tally.failed) + len(changed)


@dataclass(frozen=True)
class _Share:
    """How the runs of a wave are shared with other processes."""

    claims: Claims
    arrivals: Arrivals
    tally: _Tally
    executor: str

    def queue(self, jobs: Sequence[Job], **callbacks: Any) -> JobQueue:
        """The jobs, each to be claimed; those that another process records meanwhile are dropped."""
        return JobQueue(
            jobs,
            self.claims,
            look=self.arrivals.look,
            is_settled=lambda job: self.arrivals.had(job.run.run_id),
            by_process=self.executor != "ray",
            **callbacks,
        )

    def is_lost(self, run_id: str) -> bool:
        """Whether another process took over a run that was finished here: one that was stopped for longer than a lease."""
        try:
            return self.claims.is_anothers(run_id) or (not self.claims.holds(run_id) and self.arrivals.has(run_id))
        except OSError:  # what was finished is not lost for a claim that cannot be read
            return False


def _run_wave(
    request: Request,
    standing: Standing,
    pending: Sequence[Planned],
    make_job: Callable[[str, PlannedRun], Job],
    on_this: Here,
    share: _Share,
    *,
    devices: Sequence[str],
    workers: int,
) -> None:
    """Runs what of `pending` can run now."""
    store, tally = request.store, share.tally
    pretrained = Pretrained.of(request.results, standing.records, on_this, tally.trained)
    wave = pretrained.wave(pending, standing.planned)
    ready = wave.ready
    jobs_of = {run.run_id: _from_weights(make_job(name, run), pretrained, wave) for name, run in reversed(ready)}
    data_sha256 = load_data([*pending, *ready], data_root=request.data_root, download=request.download)
    store.prepare()
    device_name = make_job(*pending[0]).device_name
    print(
        f"{len(pending)} of {counted(len(standing.planned), 'run')} to do, {workers} at a time, on {device_name}",
        flush=True,
    )
    if standing.later is not None:
        print(f"then at most {standing.later.runs} more, which the results of these decide", flush=True)
    for line in _said_of(wave):
        print(line, flush=True)
    for line in standing.about_images() if not tally.recorded else ():
        print(line, flush=True)
    if not tally.recorded and (elsewhere := standing.recorded_elsewhere(on_this)).runs:
        print(elsewhere, flush=True)
    _record_hopeless(wave, make_job, store, share)
    kept = {run_id for run_id, job in jobs_of.items() if job.keep_weights}
    left = take_over(store, ready, on_this, data_sha256, share.claims, share.arrivals, with_weights=kept)
    tally.recorded += len(ready) - len(left)
    tally.executed |= {(run.study, run.run_id) for _, run in ready} - {(run.study, run.run_id) for _, run in left}
    places = by_run_id(left)
    if shared := len(left) - len(places):
        are, once = ("is a run", "is") if shared == 1 else ("are runs", "are")
        print(f"{shared} of them {are} of another study too, and {once} trained once", flush=True)
    if taken := len(ready) - len(left):
        print(f"{taken} of them {_is(taken)} taken over from the records of another study", flush=True)
    prepared = [jobs_of[run_id] for run_id in places]
    _execute(prepared, places, store, share, devices=devices, workers=workers)


def _record_hopeless(wave: Wave, make_job: Callable[[str, PlannedRun], Job], store: RecordStore, share: _Share) -> None:
    """Records what can never run, as its pretraining diverged, failed or left no weights."""
    before_of = {run.run_id: before for (_, run), before in wave.hopeless}
    for job in share.queue([make_job(name, run) for (name, run), _ in wave.hopeless]):
        run = job.run
        record = job.without_pretraining(before_of[run.run_id])
        store.append(record)
        share.claims.release(run.run_id)
        line = f"{run.study}, {run.arm}, seed {record.seed}: {record.outcome}: {record.reason}"
        print(printable(line), flush=True)
        failed = record.outcome is Outcome.FAILED
        share.tally.recorded += not failed
        (share.tally.failed if failed else share.tally.given_up).add((run.study, run.run_id))


def _print_end(tally: _Tally, planned: int, store: RecordStore) -> None:
    elsewhere = tally.elsewhere - tally.executed
    if not tally.recorded and not elsewhere and not tally.failed:
        print(f"{'the run is' if planned == 1 else f'all {planned} runs are'} recorded in {store.root}")
        return
    parts = [f"{counted(tally.recorded, 'run')} recorded in {store.directory}"]
    if elsewhere:
        parts.append(f"{len(elsewhere)} by other processes")
    if tally.failed:
        parts.append(f"{len(tally.failed)} failed")
    print(", ".join(parts))


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _said_of(wave: Wave) -> Iterator[str]:
    if kept := len(wave.kept):
        yield f"{kept} of them {'comes' if kept == 1 else 'come'} before others, which go on from their weights"
    if again := len(wave.again):
        their, run = ("its", "runs") if again == 1 else ("their", "run")
        yield f"{again} of these {_is(again)} recorded without {their} weights, and {run} again for them"


def _from_weights(job: Job, pretrained: Pretrained, wave: Wave) -> Job:
    """The job with the file of its pretraining's weights; it keeps its own where others go on from them."""
    before = job.run.config.pretraining
    file = None if before is None else pretrained.weights(before.run_id)
    return replace(job, init=str(file) if file else None, keep_weights=job.keep_weights or job.run.run_id in wave.kept)


def _print_without_weights(request: Request, standing: Standing) -> None:
    """Says how many of the planned runs completed, but have no weights kept."""
    planned = {(run.study, run.run_id) for _, run in standing.planned}
    completed = [record for record in standing.records if record.outcome is Outcome.COMPLETED]
    kept = {(record.study, record.identity) for record in completed if has_weights(request.results, record)}
    if without := len((planned & {(record.study, record.identity) for record in completed}) - kept):
        were, their = ("was", "its") if without == 1 else ("were", "their")
        print(
            f"{without} of the recorded runs {were} recorded without --keep-weights; give another --results to have "
            f"{their} weights"
        )


def _open_here(request: Request, *, device: str, threads: int) -> Here:
    from vitbench.device import open_device

    request.resolved_studies()  # a wrong request is refused before torch is imported
    return Here(open_device(device), threads=threads)


def _settle_rates(request: Request, claims: Claims, *, device: str, threads: int) -> None:
    """Sees to it that the images/s of all arms are kept, by which plans match epochs; what cannot run is refused first.

    One process measures them: plans of other rates would have other epochs.
    """
    from vitbench.commands import rates
    from vitbench.device import open_device

    estimated = Standing.of(request).planned
    open_device(device)
    load_data(estimated, data_root=request.data_root, download=request.download)
    store = request.store
    store.prepare()

    def say_waits() -> None:
        print("vitbench: another process measures images/s: waiting for it", file=sys.stderr, flush=True)

    with claims.held("rates", on_wait=say_waits):
        for whole in request.resolved_studies():
            rates.settle(request.results, whole, store.read(whole.study.name), device=device, threads=threads)


def _execute(
    jobs: list[Job],
    places: Mapping[str, Sequence[Planned]],
    store: RecordStore,
    share: _Share,
    *,
    devices: Sequence[str],
    workers: int,
) -> None:
    """Runs the jobs that no other process has claimed, and records each in all `places` of its run_id."""
    tally = share.tally
    with RunDisplay(jobs) as display:

        def on_record(job: Job, record: Record) -> bool:
            if share.is_lost(job.run.run_id):
                on_settled(job)
                return False
            store.append(record)
            elsewhere = [run for _, run in places[job.run.run_id] if run != job.run]
            for run in elsewhere:
                store.append(in_place_of(record, run))
            if record.outcome is Outcome.FAILED:
                tally.failed.update((run.study, run.run_id) for run in (job.run, *elsewhere))
            else:
                tally.recorded += 1 + len(elsewhere)
            tally.trained.add(job.run.run_id)
            tally.executed.update((run.study, run.run_id) for run in (job.run, *elsewhere))
            display.record(job, record)
            return True

        def on_settled(job: Job) -> None:
            tally.elsewhere.update((run.study, run.run_id) for _, run in places[job.run.run_id])
            display.elsewhere(job)

        def on_wait(left: int) -> None:
            display.say(f"waiting for {left} run{'s' * (left > 1)} that other processes have claimed")

        queue_of = partial(share.queue, on_settled=on_settled, on_wait=on_wait)
        if share.executor == "ray":
            from vitbench.execution import cluster

            cluster.run_jobs(jobs, workers=workers, on_record=on_record, queue_of=queue_of)
        else:
            from vitbench.execution import local

            local.run_jobs(
                jobs,
                workers=workers,
                devices=devices,
                on_record=on_record,
                on_report=display.report,
                queue_of=queue_of,
            )


def _devices(opened: Device, asked: str) -> list[str]:
    """What workers are dealt: all GPUs, unless one was named."""
    if opened.torch_device.type == "cpu":
        return ["cpu"]
    if ":" in asked:
        return [asked]
    return [f"cuda:{i}" for i in range(num_gpus("cuda"))]


def prepare(
    data_root: Path | None,
    *,
    device: str,
    threads: int,
    workers: int,
    results: Path | None = None,
    keep_weights: bool = False,
) -> tuple[Device, Any]:
    """(the device, a function from data set name and planned run to job). Raises ValueError for a device or an
    optimizer that is not there.

    Beside `results`, where they are given, unfinished runs keep their state, and finished ones their weights.
    """
    from vitbench.device import open_device
    from vitbench.training import check_optimizer

    opened = open_device(device)
    checkpoints = None if results is None else results.absolute() / "checkpoints"

    def job(dataset: str, run: PlannedRun) -> Job:
        check_optimizer(run.config.train.optimizer)
        precision = opened.resolve_precision(run.config.train.precision)
        return Job(
            *(run, dataset, data_root, str(opened.torch_device), opened.name, precision, threads, workers),
            checkpoints=checkpoints,
            keep_weights=keep_weights,
        )

    return opened, job


def load_data(
    runs: Sequence[tuple[str, PlannedRun]], *, data_root: Path | None, download: bool
) -> dict[tuple[str, tuple[int, int]], str]:
    """Decodes what is not yet in the cache, here and once, so that wrong data stop the command before any run.

    Returns the hash of the decoded data by data set, as the user named it, and image size.
    """
    from vitbench.data import load

    sizes = dict.fromkeys((name, run.config.model.image_hw) for name, run in runs)
    data_sha256 = {size: decode(*size, data_root=data_root, download=download) for size in sizes}
    alike = {
        (name, run.config.data, run.config.model.image_hw, run.config.train.batch_size): (name, run)
        for name, run in runs
    }
    for name, run in alike.values():
        check_split(load(name, root=data_root, image_size=run.config.model.image_hw).train.labels, run.config)
    return data_sha256


def decode(name: str, image_size: tuple[int, int], *, data_root: Path | None, download: bool) -> str:
    """The hash of a data set's images, decoded here where they are not yet in the cache."""
    from rich.console import Console
    from rich.progress import Progress

    from vitbench.data import load

    with Progress(console=Console(stderr=True), transient=True, disable=not is_live()) as progress:
        row = progress.add_task(f"reading {name}", total=None)

        def show(what: str, done: int, total: int) -> None:
            progress.update(row, description=f"reading {what}", completed=done, total=total)

        return load(name, root=data_root, image_size=image_size, download=download, progress=show).sha256


def check_split(labels: NDArray[np.int64], config: RunConfig) -> None:
    """Raises ValueError where the real labels leave fewer images to train on than the plan took for granted."""
    from vitbench.data import split

    train, _ = split(
        labels,
        validation_fraction=config.data.validation_fraction,
        train_images=config.data.train_images,
        seed=config.seed,
    )
    if len(train) < config.train.batch_size:
        raise ValueError(
            f"batch_size {config.train.batch_size} is more than the {len(train)} training images of "
            f"{config.data.dataset}; make it smaller"
        )
