"""What is an executor given for one run, and what does it tell while it runs? Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from vitbench.costs.counts import Counts
from vitbench.costs.macs import count
from vitbench.files import remove_leftovers
from vitbench.machine import utc_now
from vitbench.records import Cost, Outcome, Record, describe_environment
from vitbench.studies.plan import PlannedRun

MicroBatch = int | Literal["auto"] | None
SettledOperators = tuple[Literal["native", "torch"], str]
"""(whose operators compute, why)."""


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
    """Of each device, on CPU."""
    workers: int
    """Runs that share the machine with this one, itself among them."""
    rank_devices: tuple[str, ...] = ()
    """The devices that compute the run together, the first of them `device`; empty where that does alone."""
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
    counts: Counts | None = None
    """Of the model, counted where the run was planned: a worker may not have the user's code that it is of."""
    micro_batch: MicroBatch = None
    """Images of a batch whose gradients are computed at a time: all, so many, or as many as fit."""
    checkpoint_minutes: float = math.inf
    """After which the state is kept within an epoch, too."""
    operators: Mapping[str, SettledOperators] = field(default_factory=dict)
    """By machine (`Environment.machine`), where native operators or torch's could compute on a CPU."""

    @property
    def num_devices(self) -> int:
        return max(1, len(self.rank_devices))

    def on(self, devices: Sequence[str]) -> Job:
        """The same job, on these devices."""
        return replace(self, device=devices[0], rank_devices=tuple(devices) if len(devices) > 1 else ())

    @property
    def checkpoint(self) -> Path | None:
        """The file for the state of this run."""
        return self.checkpoints and self.checkpoints / f"{self.run.run_id}.pt"

    @property
    def weights(self) -> Path | None:
        """The file for the weights of the finished run."""
        return weights_path(self.checkpoints, self.run.run_id) if self.keep_weights and self.checkpoints else None

    def remove_checkpoint(self) -> None:
        """Takes what writers that were killed left half-written with it."""
        if self.checkpoint is not None:
            self.checkpoint.unlink(missing_ok=True)
            remove_leftovers(self.checkpoint)

    def clean_up(self, record: Record) -> None:
        """For whoever has recorded the run. One that failed on several devices keeps its checkpoint, as one device's end may
        not be the run's doing.
        """
        if record.is_done or self.num_devices == 1:
            self.remove_checkpoint()

    def hand_over(self, record: Record, on_record: OnRecord) -> None:
        """Gives the record of the finished run to whoever keeps it; then the checkpoint goes."""
        if on_record(self, record) is not False:
            self.clean_up(record)

    def failed(self, reason: str, *, started: str) -> Record:
        """The record of this run as one that could not be done."""
        counts = self.counts or count(self.run.config.model)
        return self.record(
            started=started,
            outcome=Outcome.FAILED,
            reason=reason,
            cost=Cost(params=counts.params, macs=counts.macs),
            environment=describe_environment(
                self.device_name,
                precision=self.precision,
                threads=self.threads,
                workers=self.workers,
                devices=self.num_devices,
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


def images_a_device(batch_size: int, devices: int) -> int:
    """The most images of every batch that one of so many devices computes, by `Ranks.places`."""
    pairs = -(-batch_size // 2)
    has_single = batch_size % 2 and (devices == 1 or pairs % devices == 1)  # and no other device has as many pairs
    return 2 * -(-pairs // devices) - bool(has_single)


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
