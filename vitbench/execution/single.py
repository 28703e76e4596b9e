"""How does one run outside any study come about: which model, from which weights, on which data, and is it recorded?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitbench.config import (
    DataConfig,
    RunConfig,
    TrainConfig,
    block_width,
)
from vitbench.costs import count
from vitbench.data import DataInfo, describe
from vitbench.execution import display, operators
from vitbench.execution.claims import Claims
from vitbench.execution.content import Content
from vitbench.execution.job import Job, MicroBatch
from vitbench.execution.preparation import DataReader, make_job, run_devices, worker_devices
from vitbench.execution.reuse import has_weights
from vitbench.execution.single_model import single_model
from vitbench.launched import launched
from vitbench.machine import cpu_cores
from vitbench.records import Design, Faults, Outcome, Record, RecordStore
from vitbench.signals import RECORDING_SECONDS, HeldSignals
from vitbench.studies import BUDGETS, PlannedRun
from vitbench.studies.budgets import CUSTOM
from vitbench.studies.recipes import RECIPES, Recipe
from vitbench.studies.resolved_study import check_batch, data_settings
from vitbench.studies.target import arm_name, target_of
from vitbench.text import agreeing, say

if TYPE_CHECKING:
    from vitbench.execution.torchrun import Peers

STUDY = "train"
"""Under which single runs are recorded."""


@dataclass(frozen=True)
class SingleRequest:
    """What the user asked `train` for."""

    variant: str | None
    init: str | None
    """Weights to start from: a run_id of `results` or its beginning, a file, or `timm:NAME`."""
    keep_head: bool
    model: Mapping[str, Any]
    train: Mapping[str, Any]
    data: Mapping[str, Any]
    """Fields that were given, of each configuration."""
    recipe: str | None
    """The published recipe, or the budget, that the others are as."""
    dataset: str
    data_root: Path | None
    download: bool
    evaluate: tuple[str, ...]
    """Names of distortions of the test images."""
    seed: int
    device: str
    threads: int | None
    micro_batch: MicroBatch
    checkpoint_minutes: float
    keep_weights: bool
    results: Path
    devices_per_run: int = 1


def train_one(request: SingleRequest, faults: Faults) -> tuple[Record, bool]:
    """(the record of the run, whether it was recorded before). `faults` as of `RecordStore`.

    What is recorded already is not run again, unless its weights are to be kept and are not there. Raises ValueError for what
    is wrong with the request.
    """
    launch = launched()
    if launch is None:
        return _train_one(request, faults, None)
    if request.devices_per_run > 1:
        raise ValueError(
            f"devices_per_run {request.devices_per_run} is for torchrun to say, which started this; leave it out"
        )
    if ":" in request.device:
        raise ValueError(f"device {request.device!r} is one for {launch.size} processes of torchrun; use cuda or cpu")
    from vitbench.execution.torchrun import Peers

    peers = Peers(launch)
    record, recorded_before = _train_one(request, faults, peers)
    if recorded_before:
        peers.give(None)
    return record, recorded_before


def _train_one(request: SingleRequest, faults: Faults, peers: Peers | None) -> tuple[Record, bool]:
    info = describe(request.dataset, root=request.data_root, download=request.download)
    init = request.init
    if init is not None:
        from vitbench.models.weights import find_weights, is_run

        init = str(find_weights(init, request.results)) if is_run(init) else init
    reader = DataReader(request.data_root, request.download)
    run = planned_run(request, init, info)
    _tell_left_out(request, info)
    if request.keep_head and init is not None:
        reader.decode(request.dataset, run.config.model.image_hw)
        _check_classes(init, request.dataset, request.data_root, run.config)
    store = RecordStore(request.results, faults)
    content = Content({info.dataset: request.dataset}, request.data_root, reader.decode)
    recorded = partial(_recorded, store, run, content, with_weights=request.keep_weights)
    if (record := recorded()) is not None:
        return record, True
    job = _job(request, run, init, peers, store)
    reader.read([(request.dataset, run)])
    store.prepare()
    on_wait = partial(say, f"run {run.run_id} is claimed by another process: waiting for it")
    with Claims(store.root) as claims, claims.held(run.run_id, on_wait=on_wait):
        if (record := recorded()) is not None:
            return record, True

        def keep(record: Record) -> None:
            store.append(record)
            if not claims.is_taken_by_another(run.run_id):  # as after it was stopped for longer than a lease
                job.clean_up(record)

        if peers is not None:
            return _execute_among(peers, job, keep), False
        record = execute_watched(job)
        with HeldSignals(patience=RECORDING_SECONDS):
            keep(record)
        return record, False


def _job(request: SingleRequest, run: PlannedRun, init: str | None, peers: Peers | None, store: RecordStore) -> Job:
    from vitbench.device import open_device
    from vitbench.execution.micro_batch import check_micro_batch

    device = open_device(request.device)
    if peers is None:
        alone = request.devices_per_run == 1
        dealt = [str(device.torch_device)] if alone else worker_devices(device, request.device, request.devices_per_run)
        devices, on_this_machine = run_devices(dealt, request.devices_per_run), request.devices_per_run
    else:
        from vitbench.execution.torchrun import device_of

        launch = peers.launch
        devices, on_this_machine = [device_of(str(device.torch_device), launch)] * launch.size, launch.local_size
    check_micro_batch(request.micro_batch, {run.arm: run.config}, devices=len(devices))
    threads = request.threads or max(1, cpu_cores() // on_this_machine)
    settled = operators.settle(store.read(STUDY), [run.config], device=device, threads=threads)
    job = make_job(
        request.dataset,
        run,
        device=device,
        data_root=request.data_root,
        threads=threads,
        workers=1,
        results=request.results,
        init=init,
        keep_weights=request.keep_weights,
        devices=len(devices),
        micro_batch=request.micro_batch,
        checkpoint_minutes=request.checkpoint_minutes,
        operators=settled.get(block_width(run.config.model) or 0),
    )
    return job.on(devices)


def _recorded(store: RecordStore, run: PlannedRun, content: Content, *, with_weights: bool) -> Record | None:
    """The record of the run that makes it needless to run it again."""
    records = store.done([run.run_id], where=content.agrees, study=STUDY).get(run.run_id, [])
    if with_weights:
        kept = [record for record in records if has_weights(store.root, record)]
        records = kept or [record for record in records if record.outcome is Outcome.DIVERGED]
    return records[-1] if records else None


def execute_watched(job: Job) -> Record:
    """Runs it in this process, or in one for each of its devices."""
    from vitbench.execution.rank_processes import RankProcesses
    from vitbench.execution.run import execute

    with display.progress("starting") as advance, RankProcesses() as ranks:
        compute = execute if job.num_devices == 1 else ranks.execute
        return compute(job, lambda report: advance(report.text, report.fraction, 1.0))


def _execute_among(peers: Peers, job: Job, keep: Callable[[Record], None]) -> Record:
    """Runs it as rank 0 of those that torchrun has started; `keep` gets its record."""
    from vitbench.execution.torchrun import execute_first

    with display.progress("starting") as advance:
        return execute_first(peers, job, lambda report: advance(report.text, report.fraction, 1.0), keep)


def _check_classes(init: str, dataset: str, data_root: Path | None, config: RunConfig) -> None:
    """Raises ValueError where a head that is kept knows other classes; says so where it has no names for them."""
    from vitbench.data import load
    from vitbench.inspection.loaded_model import tell_unknown_classes
    from vitbench.models.weights import SUFFIX, differing_class, load_trained

    data = load(dataset, root=data_root, image_size=config.model.image_hw)
    trained = load_trained(init) if init.endswith(SUFFIX) else None
    if trained is not None and (difference := differing_class(trained.class_names, data.class_names)):
        raise ValueError(
            f"keep_head: {difference} ({data.info.dataset}); leave --keep-head out, or give the data of its classes"
        )
    is_own_data = trained is not None and trained.config.data.dataset == data.info.dataset
    if not is_own_data and not (trained and trained.class_names and data.class_names):
        tell_unknown_classes(init, data.info)


def _tell_left_out(request: SingleRequest, info: DataInfo) -> None:
    """Says what a study sets for its arm beside the model, which alone is taken, and the request does not give."""
    if request.variant is None or arm_name(request.variant) is None:
        return
    settings = target_of(request.variant, info, BUDGETS["quick"], fields={}).settings
    left_out = [f"{name} {value}" for name, value in settings.items() if name not in {*request.train, *request.data}]
    if left_out:
        say(
            f"{request.variant} also sets {', '.join(left_out)}, which a single run does not take from it; give "
            f"{agreeing(len(left_out), 'it as an option', 'them as options')}"
        )


def _recipe(request: SingleRequest, info: DataInfo, published: Recipe | None) -> tuple[TrainConfig, dict[str, Any]]:
    """(how it trains, fields of the data that go with it), with the fields that were given."""
    if published is not None:
        return published.alone(request.train), published.data_on(info)
    train, data = (TrainConfig(), {}) if request.recipe is None else BUDGETS[request.recipe].recipe_on(info.dataset)
    return train.replace(**request.train), dict(data)


def planned_run(request: SingleRequest, init: str | None, info: DataInfo) -> PlannedRun:
    """The run, with all its fields. `init` as it is loaded. Raises ValueError for fields that do not fit each other."""
    published = RECIPES.get(request.recipe or "")
    recipe, of_the_recipe = _recipe(request, info, published)
    label, model, identity = single_model(
        request.variant, init, info, request.model, keep_head=request.keep_head, recipe=published
    )
    data, _ = data_settings(info, wanted=None)
    data = data.resampled(info.image_size, model.image_hw).replace(**of_the_recipe).with_fields(**request.data)
    for objection in (info.augmentation_objection(data), info.distortion_objection(request.evaluate)):
        if objection:
            raise ValueError(objection)
    left = info.images_left(data.validation_fraction)
    images = left if data.train_images is None else data.train_images
    if images > left:
        raise ValueError(
            f"train_images {images} is more than the {left} of {info.dataset} outside the validation split; make it smaller"
        )
    config = RunConfig(
        model=model,
        data=data,
        train=recipe,
        seed=request.seed,
        init=identity,
        keep_head=request.keep_head,
        evaluate=request.evaluate,
    )
    if config.train.epochs == 0 and config.train.batch_size > images > 0:
        # What only evaluates has no batch to fit.
        config = config.replace(train=recipe.replace(batch_size=images))
    batch_size, fraction, usual = config.train.batch_size, data.validation_fraction, DataConfig().validation_fraction
    if batch_size > images and fraction > usual and batch_size <= round(info.train_images * (1 - usual)):
        raise ValueError(
            f"validation_fraction {fraction} leaves {images} of the {info.train_images} images to train on, fewer than "
            f"batch_size {batch_size}; make it smaller"
        )
    check_batch(config, images)
    count(model)  # refuses, before data are read, what timm makes but cannot run at this size
    rates = (config.train.learning_rate,)
    design = Design(question="", source="", baseline=label, arms=(label,), learning_rates=rates, train_images=images)
    return PlannedRun(STUDY, label, CUSTOM, label, design, config, images)
