"""How do the plans of studies become records? In waves: what can run now is claimed, run and recorded.

Then plans are made again, as the new records decide what follows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING

from vitbench.execution import rates
from vitbench.execution.arrivals import Arrivals
from vitbench.execution.claims import Claims, JobQueue, SharedWork
from vitbench.execution.current_environment import CurrentEnvironment
from vitbench.execution.display import RunDisplay
from vitbench.execution.job import Job
from vitbench.execution.preparation import DataReader, Planned, make_job, resolve_jobs, worker_devices
from vitbench.execution.pretraining import Pretrained, Wave
from vitbench.execution.request import Request
from vitbench.execution.reuse import by_run_id, has_weights, recorded_as, take_over
from vitbench.execution.standing import Standing
from vitbench.records import Outcome, Record
from vitbench.records.metrics import TOP1
from vitbench.text import agreeing, counted, printable, say

if TYPE_CHECKING:
    from vitbench.device import Device


class StudyRuns:
    """One call of `vitbench run`: what was asked for, and what it has come to. Runs are named by (study, run_id)."""

    def __init__(
        self,
        request: Request,
        *,
        device: str,
        executor: str,
        jobs: str,
        threads: int,
        keep_weights: bool,
        hours: float = math.inf,
    ) -> None:
        """`executor`: `local` or `ray`. `jobs`: how many at a time, a number or `auto`. `threads`: of each, on CPU.
        `hours`: after which no further run is begun.
        """
        self.until = time.monotonic() + 3600 * hours
        self.request, self.keep_weights = request, keep_weights
        self.device_name, self.executor, self.jobs, self.threads = device, executor, jobs, threads
        self.store = request.store
        self.reader = DataReader(request.data_root, request.download)
        self.claims = Claims(request.results)
        self.shared = SharedWork(self.claims, Arrivals(self.store), by_process=executor != "ray")
        self.recorded = 0
        """Runs that did not fail in this process."""
        self.failed: set[tuple[str, str]] = set()
        """In this process or meanwhile in another: not tried again in this call."""
        self.hopeless: set[tuple[str, str]] = set()
        """Recorded without being run, as their pretraining diverged or left no weights."""
        self.executed: set[tuple[str, str]] = set()
        """Trained, or taken over from another study: once in a call, even where its images change meanwhile."""
        self.by_others: set[tuple[str, str]] = set()
        """Recorded meanwhile by another process, or to be taken over from its record, and then executed too."""
        self.looks: dict[tuple[str, str], int] = {}
        """(study, data set) to the last look of which was told."""
        self.at_ceiling: set[tuple[str, str]] = set()
        """(study, data set) whose baseline is there."""
        self.trained: set[str] = set()
        """run_ids of what this process trained."""

    def run_all(self) -> int:
        """Runs what is pending and appends each record as it comes, then what follows from these, until nothing is pending.

        Other processes may do the same on the same results: each run is claimed by one of them, and what others record
        counts. Returns how many runs failed; they are tried again by the next call. Raises ValueError for what is wrong with
        the request.
        """
        with self.claims:
            if self.request.overrides.match == "time":
                self._settle_rates()
            _print(self.request.left_out())  # which refuses a wrong request before torch is imported
            while pending := (standing := self._standing()).pending(self.failed | self.hopeless | self.executed):
                self._print_looks(standing)
                if time.monotonic() >= self.until:
                    break
                self._run_wave(standing, pending)
            self._print_looks(standing)
            if self.keep_weights:
                self._print_without_weights(standing)
            changed = self.executed - self.failed - standing.done
            if changed or not self.recorded:
                _print([*standing.about_metrics(), *standing.about_images()])
            self._print_end(len(standing.planned))
            if pending:
                _print([f"the hours are over with {counted(len(pending), 'run')} left; the next call goes on"])
            return len(self.failed) + len(changed)

    def _tell_of_ceiling(self, record: Record, tell: Callable[[str], None]) -> None:
        """Says once, as soon as a seed shows it, that no arm can be better than the baseline by more than the margin."""
        place = record.study, record.config.data.dataset
        is_judged = record.arm == record.design.baseline and record.design.metric == TOP1.name
        if is_judged and place not in self.at_ceiling and record.metrics.get(TOP1.key, 0.0) > 1 - TOP1.margin:
            self.at_ceiling.add(place)
            top1 = f"{100 * record.metrics[TOP1.key]:.2f} % of the test images right with seed {record.seed}"
            tell(
                f"{record.study} on {place[1]}: the baseline, {record.arm}, gets {top1}: no arm can be better by more "
                "than the margin; take harder data, or fewer images or epochs (Ctrl-C keeps what is recorded)"
            )

    def _print_looks(self, standing: Standing) -> None:
        """Says what each look that is over has shown, once."""
        for study, dataset, looked_at in standing.looked_at:
            if looked_at.look > self.looks.get((study, dataset), 0):
                self.looks[study, dataset] = looked_at.look
                _print([looked_at.sentence(study, dataset)])

    @cached_property
    def device(self) -> Device:
        from vitbench.device import open_device

        return open_device(self.device_name)

    @cached_property
    def current(self) -> CurrentEnvironment:
        return CurrentEnvironment(self.device, threads=self.threads)

    def _settle_rates(self) -> None:
        """Sees to it that the images/s of all arms are kept, by which plans match epochs; what cannot run is refused first.

        One process measures them: plans of other rates would have other epochs.
        """
        estimated = Standing.of(self.request, self.request.content()).planned
        device = self.device
        self.reader.read(estimated)
        self.store.prepare()
        with self.claims.held("rates", on_wait=partial(say, "another process measures images/s: waiting for it")):
            for resolved in self.request.resolved_studies():
                records = self.store.read(resolved.study.name)
                rates.settle(self.request.results, resolved, records, device=device, threads=self.threads)

    def _standing(self) -> Standing:
        arrivals = self.shared.arrivals
        arrivals.forget()  # before the store is read, so that nothing falls between
        failed = self.failed | arrivals.failed()
        # Asked each time: files may change while runs do.
        content = self.request.content(self.reader.decode)
        standing = Standing.of(self.request, content, failed, self.current if self.request.again else None)
        self.failed |= failed & {run.key for _, run in standing.planned}
        return standing

    def _run_wave(self, standing: Standing, pending: Sequence[Planned]) -> None:
        """Runs what of `pending` can run now."""
        request = self.request
        num_workers = resolve_jobs(self.jobs, device=self.device_name, pending=len(pending))
        pretrained = Pretrained(request.results, standing.records, self.current, self.trained)
        wave = pretrained.wave(pending, standing.planned)
        ready = list(wave.ready.values())
        job_of = partial(
            make_job,
            device=self.device,
            data_root=request.data_root,
            threads=self.threads,
            workers=num_workers,
            results=request.results,
        )
        jobs = {}
        for name, run in reversed(ready):
            before = run.config.pretraining
            weights = pretrained.weights(before.run_id) if before else None
            keeps = self.keep_weights or run.run_id in wave.kept
            with run.naming_its_arm():
                jobs[run.run_id] = job_of(
                    name,
                    run,
                    init=str(weights) if weights else None,
                    keep_weights=keeps,
                    study_file=request.study_files.get(run.study),
                )
        hashes = self.reader.read([*pending, *ready])
        self.store.prepare()
        to_do = f"{len(pending)} of {counted(len(standing.planned), 'run')} to do"
        _print([f"{to_do}, {num_workers} at a time, on {self.device.name}", *_about_wave(standing, wave)])
        if not self.recorded:
            _print([*standing.about_images(), *standing.recorded_elsewhere(self.current).lines])
        self._record_hopeless([(job_of(name, run), before) for (name, run), before in wave.hopeless])
        kept = {run_id for run_id, job in jobs.items() if job.keep_weights}
        left = take_over(self.store, ready, self.current, hashes, self.shared, with_weights=kept)
        self.recorded += len(ready) - len(left)
        self.executed |= {run.key for _, run in ready} - {run.key for _, run in left}
        places = by_run_id(left)
        _print(_about_other_studies(len(ready), len(left), len(places)))
        self._execute([jobs[run_id] for run_id in places], places, num_workers)

    def _record_hopeless(self, hopeless: Sequence[tuple[Job, Record]]) -> None:
        """Records what can never run, as its pretraining, whose record comes with it, diverged, failed or left no weights."""
        pretraining_records = {job.run.run_id: before for job, before in hopeless}
        for job in JobQueue([job for job, _ in hopeless], self.shared):
            run = job.run
            record = job.without_pretraining(pretraining_records[run.run_id])
            self.store.append(record)
            self.claims.release(run.run_id)
            _print([f"{run.study}, {run.arm}, seed {record.seed}: {record.outcome}: {record.reason}"])
            self.recorded += record.is_done
            (self.hopeless if record.is_done else self.failed).add(run.key)

    def _execute(self, jobs: list[Job], places: Mapping[str, Sequence[Planned]], num_workers: int) -> None:
        """Runs the jobs that no other process has claimed, and records each in all `places` of its run_id."""
        with RunDisplay(jobs) as display:

            def on_settled(job: Job) -> None:
                self.by_others.update(run.key for _, run in places[job.run.run_id])
                display.recorded_by_others(job)

            def on_record(job: Job, record: Record) -> bool:
                if self.shared.is_lost(job.run.run_id):
                    on_settled(job)
                    return False
                runs = [run for _, run in places[job.run.run_id]]
                self.store.append(record)
                for run in runs:
                    if run != job.run:
                        self.store.append(recorded_as(record, run))
                keys = {run.key for run in runs}
                if record.outcome is Outcome.FAILED:
                    self.failed |= keys
                else:
                    self.recorded += len(runs)
                for run in runs:
                    self._tell_of_ceiling(recorded_as(record, run), display.say)
                self.trained.add(job.run.run_id)
                self.executed |= keys
                display.record(job, record)
                return True

            def on_wait(left: int) -> None:
                display.say(f"waiting for {counted(left, 'run')} that other processes have claimed")

            queue = JobQueue(jobs, self.shared, on_settled=on_settled, on_wait=on_wait, until=self.until)
            if self.executor == "ray":
                from vitbench.execution import cluster

                on_gpus = self.device.torch_device.type == "cuda"
                cluster.run_jobs(queue, workers=num_workers, on_gpus=on_gpus, on_record=on_record)
            else:
                from vitbench.execution import local

                devices = worker_devices(self.device, self.device_name)
                local.run_jobs(
                    queue, workers=num_workers, devices=devices, on_record=on_record, on_report=display.report
                )

    def _print_without_weights(self, standing: Standing) -> None:
        """Says how many of the planned runs completed, but have no weights kept."""
        completed = [record for record in standing.records if record.outcome is Outcome.COMPLETED]
        kept = {record.key for record in completed if has_weights(self.request.results, record)}
        planned = {run.key for _, run in standing.planned}
        if without := len((planned & {record.key for record in completed}) - kept):
            were, their = agreeing(without, "was", "were"), agreeing(without, "its", "their")
            line = (
                f"{without} of the recorded runs {were} recorded without --keep-weights; give another --results to have"
            )
            _print([f"{line} {their} weights"])

    def _print_end(self, planned: int) -> None:
        by_others = self.by_others - self.executed
        if not self.recorded and not by_others and not self.failed:
            runs = agreeing(planned, "the run is", f"all {planned} runs are")
            _print([f"{runs} recorded in {self.store.root}"])
            return
        parts = [f"{counted(self.recorded, 'run')} recorded in {self.store.directory}"]
        if by_others:
            parts.append(f"{len(by_others)} by other processes")
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        _print([", ".join(parts)])


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(printable(line), flush=True)


def _about_wave(standing: Standing, wave: Wave) -> list[str]:
    lines = []
    if standing.later is not None:
        likely = f", and {standing.expected.runs} by what seeds have shown" if standing.expected else ""
        lines.append(f"then at most {standing.later.runs} more, which the results of these decide{likely}")
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
