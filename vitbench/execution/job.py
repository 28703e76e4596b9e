"""What is an executor given for one run, and what does it tell while it runs? Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vitbench.costs.counts import Counts
from vitbench.costs.macs import count
from vitbench.files import remove_leftovers
from vitbench.machine import utc_now
from vitbench.records import Cost, Outcome, Record, describe_environment
from vitbench.studies.plan import PlannedRun


@dataclass(frozen=True)
class Job:
    """A planned run and where it runs. `dataset` is as the user named it: a name or a path."""

    run: PlannedRun
    dataset: str
    data_root: Path | None
    device: str
    """As `device.open_device` takes it: `cpu`, `cuda:0`."""
    device_name: str
    precision: str
    """`fp32` or `bf16`: what `auto` became on this machine."""
    threads: int
    workers: int
    """Runs that share the machine with this one, itself among them."""
    init: str | None = None
    """Where the weights to start from are, as the user named them, or the file that a pretraining's are kept in.

    Their identity is in the run's configuration.
    """
    checkpoints: Path | None = None
    """Folder in which unfinished runs keep their state; None keeps none."""
    keep_weights: bool = False
    """Whether the weights of the finished run are kept there, too."""
    study_file: Path | None = None
    """The user's file that the run was planned from, absolute, as named: where workers find its classes."""
    data_sha256: str = ""
    """Of the images that it was planned with, where they are known: a node of a cluster that has others is given no runs."""
    counts: Counts | None = None
    """Of the model, counted where the run was planned: a worker may not have the user's code that it is of."""

    @property
    def checkpoint(self) -> Path | None:
        """The file for the state of this run."""
        return self.checkpoints and self.checkpoints / f"{self.run.run_id}.pt"

    @property
    def weights(self) -> Path | None:
        """The file for the weights of the finished run."""
        return weights_path(self.checkpoints, self.run.run_id) if self.keep_weights and self.checkpoints else None

    def remove_checkpoint(self) -> None:
        """For whoever has recorded the run. Takes what writers that were killed left half-written with it."""
        if self.checkpoint is not None:
            self.checkpoint.unlink(missing_ok=True)
            remove_leftovers(self.checkpoint)

    def hand_over(self, record: Record, on_record: OnRecord) -> None:
        """Gives the record of the finished run to whoever keeps it; then the checkpoint goes."""
        if on_record(self, record) is not False:
            self.remove_checkpoint()

    def failed(self, reason: str, *, started: str) -> Record:
        """The record of this run as one that could not be done."""
        counts = self.counts or count(self.run.config.model)
        return self.record(
            started=started,
            outcome=Outcome.FAILED,
            reason=reason,
            cost=Cost(params=counts.params, macs=counts.macs),
            environment=describe_environment(
                self.device_name, precision=self.precision, threads=self.threads, workers=self.workers
            ),
        )

    def without_pretraining(self, before: Record) -> Record:
        """The record of this run where that of its pretraining left no weights: diverged like that, or failed."""
        why = f": {before.reason}" if before.reason else ", but its weights could not be kept"
        failed = self.failed(f"its pretraining, run {before.run_id}, {before.outcome}{why}", started=utc_now())
        if before.outcome is not Outcome.DIVERGED:
            return failed
        # The chain diverged there; of this run's own data nothing was read.
        environment = before.environment.model_copy(update={"data_sha256": ""})
        return failed.model_copy(update={"outcome": Outcome.DIVERGED, "environment": environment})

    def record(self, *, started: str, **measured: object) -> Record:
        """The record of this run with what was measured."""
        config = self.run.config
        fields = {
            **place_in_study(self.run),
            "seed": config.seed,
            "learning_rate": config.train.learning_rate,
            "config": config,
            "started": started,
            "finished": utc_now(),
        }
        return Record.model_validate({**fields, **measured})


def place_in_study(run: PlannedRun) -> dict[str, object]:
    """The fields of a record that say which planned run it is of."""
    return {name: getattr(run, name) for name in ("run_id", "study", "arm", "budget", "variant", "design")}


def weights_path(checkpoints: Path, run_id: str) -> Path:
    """Where the weights of a finished run are kept."""
    return checkpoints / f"{run_id}.safetensors"


@dataclass(frozen=True)
class Report:
    """How far a job is: `fraction` of its training, and what to show of it."""

    fraction: float
    text: str


OnReport = Callable[[Job, Report], None]
OnRecord = Callable[[Job, Record], bool | None]
"""Keeps the record of a job. False where another process has taken the run over: the checkpoint is then that one's."""
