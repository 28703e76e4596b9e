"""How do the plans of studies become records? In waves: what can run now is claimed, run and recorded.

Then plans are made again, as the new records decide what follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

from vitbench.execution import rates
from vitbench.execution.arrivals import Arrivals
from vitbench.execution.claims import Claims, JobQueue, SharedWork
from vitbench.execution.current_environment import CurrentEnvironment
from vitbench.execution.job import Job
from vitbench.execution.observer import Observer, RunObserver
from vitbench.execution.preparation import DataReader, JobMaker, Planned, resolve_jobs, worker_devices
from vitbench.execution.pretraining import Pretrained, Wave
from vitbench.execution.request import Request
from vitbench.execution.reuse import by_run_id, has_weights, recorded_as, take_over
from vitbench.execution.standing import Standing
from vitbench.records import Outcome, Record, RecordStore
from vitbench.studies import PlannedRun
from vitbench.text import agreeing, counted

if TYPE_CHECKING:
    from vitbench.device import Device


@dataclass(frozen=True)
class Workers:
    """What computes the runs, as the user asked for it."""

    device: str
    executor: str
    """`local` or `ray`."""
    jobs: str
    """How many at a time: a number, or `auto`."""
    threads: int = 1
    """Of each, on CPU."""


@dataclass
class Tally:
    """What a command has come to so far; runs are named by (study, run_id)."""

    failed: set[tuple[str, str]] = field(default_factory=set)
    """In this process or meanwhile in another: not tried again in this call."""
    given_up: set[tuple[str, str]] = field(default_factory=set)
    trained: set[str] = field(default_factory=set)
    """run_ids of what this process trained."""
    executed: set[tuple[str, str]] = field(default_factory=set)
    """Trained, or taken over from another study: once in a call, even where its images change meanwhile."""
    recorded: int = 0
    """Runs that did not fail in this process."""
    by_others: set[tuple[str, str]] = field(default_factory=set)
    """Recorded meanwhile by another process, or to be taken over from its record, and then executed too."""

    def over(self) -> set[tuple[str, str]]:
        """Runs that this call does not try again."""
        return self.failed | self.given_up | self.executed

    def trained_all(self, runs: Sequence[PlannedRun], outcome: Outcome) -> None:
        """Counts one training, which is recorded in these places."""
        keys = {run.key for run in runs}
        if outcome is Outcome.FAILED:
            self.failed |= keys
        else:
            self.recorded += len(runs)
        self.trained |= {run.run_id for run in runs}
        self.executed |= keys


def run_studies(request: Request, workers: Workers, observer: Observer, *, keep_weights: bool = False) -> int:
    """Runs what is pending and appends each record as it comes, then what follows from these, until nothing is pending.

    Other processes may do the same on the same results: each run is claimed by one of them, and what others record counts.
    Returns how many runs failed; they are tried again by the next call. Raises ValueError for what is wrong with the request.
    """
    with Claims(request.results) as claims:
        return StudyRuns(request, workers, observer, claims, keep_weights=keep_weights).run_all()


class StudyRuns:
    """One call of `run_studies`: what was asked for, and what it has come to."""

    def __init__(
        self, request: Request, workers: Workers, observer: Observer, claims: Claims, *, keep_weights: bool
    ) -> None:
        self.request, self.workers, self.observer, self.keep_weights = request, workers, observer, keep_weights
        self.store, self.tally = request.store, Tally()
        self.reader = DataReader(observer, request.data_root, request.download)
        self.shared = SharedWork(claims, Arrivals(self.store), by_process=workers.executor != "ray")

    def run_all(self) -> int:
        if self.request.overrides.match == "time":
            self._settle_rates()
        self._say(self.request.left_out())  # which refuses a wrong request before torch is imported
        while pending := (standing := self._standing()).pending(self.tally.over()):
            self._run_wave(standing, pending)
        if self.keep_weights:
            self._say_without_weights(standing)
        changed = self.tally.executed - self.tally.failed - standing.done
        if changed or not self.tally.recorded:
            self._say(standing.about_images())
        self._say_end(len(standing.planned))
        return len(self.tally.failed) + len(changed)

    @cached_property
    def device(self) -> Device:
        from vitbench.device import open_device

        return open_device(self.workers.device)

    @cached_property
    def current(self) -> CurrentEnvironment:
        return CurrentEnvironment(self.device, threads=self.workers.threads)

    def _settle_rates(self) -> None:
        """Sees to it that the images/s of all arms are kept, by which plans match epochs; what cannot run is refused first.

        One process measures them: plans of other rates would have other epochs.
        """
        estimated = Standing.of(self.request, self.request.content()).planned
        device = self.device
        self.reader.read(estimated)
        self.store.prepare()
        waits = partial(self.observer.warn, "another process measures images/s: waiting for it")
        with self.shared.claims.held("rates", on_wait=waits):
            for resolved in self.request.resolved_studies():
                records, threads = self.store.read(resolved.study.name), self.workers.threads
                rates.settle(
                    self.request.results, resolved, records, device=device, threads=threads, say=self.observer.say
                )

    def _standing(self) -> Standing:
        arrivals, tally = self.shared.arrivals, self.tally
        arrivals.forget()  # before the store is read, so that nothing falls between
        failed = tally.failed | arrivals.failed()
        # Asked each time: files may change while runs do.
        content = self.request.content(self.reader.decode)
        standing = Standing.of(self.request, content, failed, self.current if self.request.again else None)
        tally.failed |= failed & {run.key for _, run in standing.planned}
        return standing

    def _run_wave(self, standing: Standing, pending: Sequence[Planned]) -> None:
        """Runs what of `pending` can run now."""
        request, tally = self.request, self.tally
        num_workers = resolve_jobs(self.workers.jobs, device=self.workers.device, pending=len(pending))
        maker = JobMaker(
            device=self.device,
            data_root=request.data_root,
            threads=self.workers.threads,
            workers=num_workers,
            results=request.results,
            keep_weights=self.keep_weights,
        )
        pretrained = Pretrained.of(request.results, standing.records, self.current, tally.trained)
        wave = pretrained.wave(pending, standing.planned)
        ready = list(wave.ready.values())
        jobs = {run.run_id: _from_weights(maker.job(name, run), pretrained, wave) for name, run in reversed(ready)}
        hashes = self.reader.read([*pending, *ready])
        self.store.prepare()
        to_do = f"{len(pending)} of {counted(len(standing.planned), 'run')} to do"
        self._say([f"{to_do}, {num_workers} at a time, on {self.device.name}", *_about_wave(standing, wave)])
        if not tally.recorded:
            self._say(standing.about_images())
            if (elsewhere := standing.recorded_elsewhere(self.current)).runs:
                self._say([str(elsewhere)])
        self._record_hopeless(wave, maker)
        kept = {run_id for run_id, job in jobs.items() if job.keep_weights}
        left = take_over(self.store, ready, self.current, hashes, self.shared, with_weights=kept)
        tally.recorded += len(ready) - len(left)
        tally.executed |= {run.key for _, run in ready} - {run.key for _, run in left}
        places = by_run_id(left)
        self._say(_about_other_studies(len(ready), len(left), len(places)))
        self._execute([jobs[run_id] for run_id in places], places, num_workers)

    def _record_hopeless(self, wave: Wave, maker: JobMaker) -> None:
        """Records what can never run, as its pretraining diverged, failed or left no weights."""
        pretraining_records = {run.run_id: before for (_, run), before in wave.hopeless}
        jobs = [maker.job(name, run) for (name, run), _ in wave.hopeless]
        for job in JobQueue(jobs, self.shared):
            run = job.run
            record = job.without_pretraining(pretraining_records[run.run_id])
            self.store.append(record)
            self.shared.claims.release(run.run_id)
            self._say([f"{run.study}, {run.arm}, seed {record.seed}: {record.outcome}: {record.reason}"])
            self.tally.recorded += record.is_done
            (self.tally.given_up if record.is_done else self.tally.failed).add(run.key)

    def _execute(self, jobs: list[Job], places: Mapping[str, Sequence[Planned]], num_workers: int) -> None:
        """Runs the jobs that no other process has claimed, and records each in all `places` of its run_id."""
        with self.observer.runs(jobs) as display:
            recorder = _Recorder(self.store, self.shared, self.tally, display, places)
            make_queue = partial(JobQueue, shared=self.shared, on_settled=recorder.on_settled, on_wait=recorder.on_wait)
            if self.workers.executor == "ray":
                from vitbench.execution import cluster

                cluster.run_jobs(jobs, workers=num_workers, on_record=recorder.on_record, make_queue=make_queue)
            else:
                from vitbench.execution import local

                local.run_jobs(
                    jobs,
                    workers=num_workers,
                    devices=worker_devices(self.device, self.workers.device),
                    on_record=recorder.on_record,
                    on_report=display.report,
                    make_queue=make_queue,
                )

    def _say(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.observer.say(line)

    def _say_without_weights(self, standing: Standing) -> None:
        """Says how many of the planned runs completed, but have no weights kept."""
        completed = [record for record in standing.records if record.outcome is Outcome.COMPLETED]
        kept = {record.key for record in completed if has_weights(self.request.results, record)}
        planned = {run.key for _, run in standing.planned}
        if without := len((planned & {record.key for record in completed}) - kept):
            were, their = agreeing(without, "was", "were"), agreeing(without, "its", "their")
            self.observer.say(
                f"{without} of the recorded runs {were} recorded without --keep-weights; give another --results to have "
                f"{their} weights"
            )

    def _say_end(self, planned: int) -> None:
        tally, by_others = self.tally, self.tally.by_others - self.tally.executed
        if not tally.recorded and not by_others and not tally.failed:
            runs = agreeing(planned, "the run is", f"all {planned} runs are")
            self.observer.say(f"{runs} recorded in {self.store.root}")
            return
        parts = [f"{counted(tally.recorded, 'run')} recorded in {self.store.directory}"]
        if by_others:
            parts.append(f"{len(by_others)} by other processes")
        if tally.failed:
            parts.append(f"{len(tally.failed)} failed")
        self.observer.say(", ".join(parts))


@dataclass(frozen=True)
class _Recorder:
    """Appends what the runs of a wave come to, and counts it."""

    store: RecordStore
    shared: SharedWork
    tally: Tally
    display: RunObserver
    places: Mapping[str, Sequence[Planned]]

    def on_record(self, job: Job, record: Record) -> bool:
        if self.shared.is_lost(job.run.run_id):
            self.on_settled(job)
            return False
        self.store.append(record)
        other_places = [run for _, run in self.places[job.run.run_id] if run != job.run]
        for run in other_places:
            self.store.append(recorded_as(record, run))
        self.tally.trained_all([job.run, *other_places], record.outcome)
        self.display.record(job, record)
        return True

    def on_settled(self, job: Job) -> None:
        self.tally.by_others.update(run.key for _, run in self.places[job.run.run_id])
        self.display.recorded_by_others(job)

    def on_wait(self, left: int) -> None:
        self.display.say(f"waiting for {counted(left, 'run')} that other processes have claimed")


def _from_weights(job: Job, pretrained: Pretrained, wave: Wave) -> Job:
    """The job with the file of its pretraining's weights; its own are kept where others go on from them."""
    before = job.run.config.pretraining
    file = None if before is None else pretrained.weights(before.run_id)
    return replace(job, init=str(file) if file else None, keep_weights=job.keep_weights or job.run.run_id in wave.kept)


def _about_wave(standing: Standing, wave: Wave) -> list[str]:
    lines = []
    if standing.later is not None:
        lines.append(f"then at most {standing.later.runs} more, which the results of these decide")
    if kept := len(wave.kept):
        lines.append(f"{kept} of them {agreeing(kept, 'comes', 'come')} before others, which go on from their weights")
    if again := len(wave.again):
        are, their, run = agreeing(again, "is", "are"), agreeing(again, "its", "their"), agreeing(again, "runs", "run")
        lines.append(f"{again} of these {are} recorded without {their} weights, and {run} again for them")
    return lines


def _about_other_studies(ready: int, left: int, distinct: int) -> list[str]:
    lines = []
    if shared := left - distinct:
        are, is_once = agreeing(shared, "is a run", "are runs"), agreeing(shared, "is", "are")
        lines.append(f"{shared} of them {are} of another study too, and {is_once} trained once")
    if taken := ready - left:
        lines.append(f"{taken} of them {agreeing(taken, 'is', 'are')} taken over from the records of another study")
    return lines
