"""One run outside any study, with any field set by hand."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from vitbench.commands.display import is_live
from vitbench.commands.run import decode, load_data, prepare
from vitbench.config import DataConfig, ModelConfig, RunConfig, TimmConfig, TrainConfig
from vitbench.costs import count
from vitbench.data import DataInfo, describe
from vitbench.execution import Job, Report
from vitbench.execution.claims import Claims
from vitbench.execution.content import Content
from vitbench.execution.reuse import has_weights
from vitbench.machine import cpu_cores
from vitbench.records import Design, Faults, Outcome, Record, RecordStore
from vitbench.signals import RECORDING_SECONDS, HeldSignals
from vitbench.studies import BUDGETS, PlannedRun
from vitbench.studies.budgets import CUSTOM
from vitbench.studies.resolved_study import data_settings, recipe_of
from vitbench.text import printable
from vitbench.variants import TIMM
from vitbench.variants import model as named_model
from vitbench.variants import variant as named_variant


def train_one(
    variant: str | None,
    *,
    init: str | None,
    keep_head: bool = False,
    model: dict[str, Any],
    train: dict[str, Any],
    data: dict[str, Any],
    recipe: str | None,
    dataset: str,
    data_root: Path | None,
    download: bool,
    seed: int,
    device: str,
    threads: int | None,
    keep_weights: bool,
    results: Path,
    as_json: bool,
    faults: Faults | None = None,
) -> Record:
    """One run outside any study, recorded under the study `train`.

    What is recorded already is not run again, unless its weights are to be kept and are not there. `faults` as of
    `RecordStore`.
    """
    info = describe(dataset, root=data_root, download=download)
    if init is not None:
        init = _weights(init, results)
    label, model_config, init_identity = _model(variant, init, info, model, keep_head=keep_head)
    defaults, augment = (TrainConfig(), True) if recipe is None else recipe_of(BUDGETS[recipe], info)
    if not augment:
        data = {"crop_padding": 0, "flip": False, **data}
    start = {"init": init_identity, "keep_head": keep_head}
    run = _single_run(label, model_config, start, info, recipe=defaults.replace(**train), data=data, seed=seed)
    if keep_head and init is not None:
        decode(dataset, run.config.model.image_hw, data_root=data_root, download=download)
        _check_classes(init, dataset, data_root, run.config)
    store = RecordStore(results, faults)
    read = partial(decode, data_root=data_root, download=download)
    content = Content({info.dataset: dataset}, data_root, read)
    recorded = partial(_recorded, store, run, content, with_weights=keep_weights)
    before = recorded()
    if before is not None:
        record = before
    else:
        _, make_job = prepare(
            data_root,
            device=device,
            threads=threads or cpu_cores(),
            workers=1,
            results=results,
            keep_weights=keep_weights,
        )
        job = replace(make_job(dataset, run), init=init)
        load_data([(dataset, run)], data_root=data_root, download=download)
        store.prepare()
        record, before = _run_claimed(job, store, recorded)
    if as_json:
        print(record.to_json())
    else:
        _print_record(record, recorded_before=before is not None, path=store.path("train"))
    return record


def _recorded(store: RecordStore, run: PlannedRun, content: Content, *, with_weights: bool) -> Record | None:
    """The record of the run that makes it needless to run it again."""
    records = [
        record
        for record in store.read("train")
        if record.identity == run.run_id and record.outcome is not Outcome.FAILED and content.agrees(record)
    ]
    if with_weights:
        kept = [record for record in records if has_weights(store.root, record)]
        records = kept or [record for record in records if record.outcome is Outcome.DIVERGED]
    return records[-1] if records else None


def _run_claimed(job: Job, store: RecordStore, recorded: Callable[[], Record | None]) -> tuple[Record, Record | None]:
    """(the record of the job, which is appended, None), or twice that which another process has appended by now.

    `recorded` looks for the latter.
    """
    run_id = job.run.run_id

    def say_waits() -> None:
        print(f"vitbench: run {run_id} is claimed by another process: waiting for it", file=sys.stderr, flush=True)

    with Claims(store.root) as claims, claims.held(run_id, on_wait=say_waits):
        if (before := recorded()) is not None:
            return before, before
        record = _execute_here(job)
        with HeldSignals(patience=RECORDING_SECONDS):
            store.append(record)
            if not claims.is_anothers(run_id):  # as after it was stopped for longer than a lease
                job.remove_checkpoint()
        return record, None


def _weights(init: str, results: Path) -> str:
    """`init` as it is loaded: for a run, the file of its weights."""
    from vitbench.models.weights import find_weights, is_run

    return str(find_weights(init, results)) if is_run(init) else init


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
    own = trained is not None and trained.config.data.dataset == data.info.dataset
    if not own and not (trained and trained.class_names and data.class_names):
        tell_unknown_classes(init, data.info)


def _model(
    variant: str | None, init: str | None, info: DataInfo, fields: dict[str, Any], *, keep_head: bool
) -> tuple[str, ModelConfig, str | None]:
    """(what to call it, its configuration, the identity of its initial weights)."""
    shape = {"in_channels": info.in_channels, "num_classes": info.num_classes}
    for name, value in shape.items():
        if str(fields.get(name, value)) != str(value):
            raise ValueError(f"{name} {fields[name]} does not fit {info.dataset}, which has {value}; leave it out")
    if init is None:
        if variant is None:
            raise ValueError("VARIANT is missing: give one (see `vitbench list`), or weights to start from with --init")
        return variant, named_model(variant, **{"image_size": info.image_size, **shape, **fields}), None
    from vitbench.models import convert
    from vitbench.models.inherit import inherited_config
    from vitbench.models.weights import SUFFIX, load_trained

    if init.endswith(SUFFIX) and isinstance(load_trained(init).config.model, TimmConfig):
        return _model_of_timm(variant, init, {**shape, **fields}, keep_head=keep_head)
    if variant is not None and variant.startswith(TIMM):
        raise ValueError(f"variant {variant!r} is timm's, but init {init!r} is read as a ViT of ours; leave it out")
    hints = convert.Hints(**{name: fields.get(name) for name in ("image_size", "activation", "position")})
    source = convert.load_named(init, in_channels=info.in_channels, hints=hints)
    # The image size is the weights' own, unless one is asked for: that is what their patches were made for.
    wanted = {**shape, **fields}
    if variant is not None:
        named = named_variant(variant, **{"image_size": source.config.image_size, **wanted})
        wanted = {name: getattr(named, name) for name in named.model_fields_set}
    identity = convert.weights_identity(init, source)
    label = identity if variant is None else f"{variant} from {identity}"
    return label, inherited_config(source.config, wanted, keep_head=keep_head), identity


def _model_of_timm(
    variant: str | None, init: str, wanted: dict[str, Any], *, keep_head: bool
) -> tuple[str, ModelConfig, str]:
    """The same where the initial weights are a run's of a model of timm: its name and options come with them."""
    from vitbench.models.inherit import inherited_timm_config
    from vitbench.models.weights import load_trained

    trained = load_trained(init)
    source = trained.config.model
    assert isinstance(source, TimmConfig), source
    if variant is not None and variant != TIMM + source.timm:
        raise ValueError(
            f"variant {variant!r} is not that of the initial weights, {TIMM + source.timm!r}; leave it out"
        )
    if source.in_channels != wanted["in_channels"]:
        raise ValueError(
            f"init {init!r} is for images of {source.in_channels} channels, but the data's have {wanted['in_channels']}"
        )
    label = trained.identity if variant is None else f"{variant} from {trained.identity}"
    return label, inherited_timm_config(source, wanted, keep_head=keep_head), trained.identity


def _single_run(
    variant: str,
    model_config: ModelConfig,
    start: dict[str, Any],
    info: DataInfo,
    *,
    recipe: TrainConfig,
    data: dict[str, Any],
    seed: int,
) -> PlannedRun:
    data_config, _ = data_settings(info, wanted=None)
    data_config = data_config.resampled(info.image_size, model_config.image_hw).replace(**data)
    left = info.images_left(data_config.validation_fraction)
    if data_config.train_images is not None and data_config.train_images > left:
        raise ValueError(
            f"train_images {data_config.train_images} is more than the {left} of {info.dataset} outside the "
            "validation split; make it smaller"
        )
    images = data_config.train_images or left
    config = RunConfig(model=model_config, data=data_config, train=recipe, seed=seed, **start)
    if config.train.epochs == 0 and config.train.batch_size > images > 0:
        # What only evaluates has no batch to fit.
        config = config.replace(train=recipe.replace(batch_size=images))
    if config.train.batch_size > images:
        usual = DataConfig().validation_fraction
        if data_config.validation_fraction > usual and config.train.batch_size <= round(
            info.train_images * (1 - usual)
        ):
            raise ValueError(
                f"validation_fraction {data_config.validation_fraction} leaves {images} of the {info.train_images} images to "
                f"train on, fewer than batch_size {config.train.batch_size}; make it smaller"
            )
        raise ValueError(
            f"batch_size {config.train.batch_size} is more than the {images} training images; make it smaller"
        )
    count(model_config)  # refuses, before data are read, what timm makes but cannot run at this size
    design = Design(
        question="",
        source="",
        baseline=variant,
        arms=(variant,),
        learning_rates=(config.train.learning_rate,),
        train_images=images,
    )
    return PlannedRun("train", variant, CUSTOM, variant, design, config, images)


def _execute_here(job: Job) -> Record:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from vitbench.execution.run import execute

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not is_live()) as progress:
        row = progress.add_task("starting", total=1.0)

        def show(report: Report) -> None:
            progress.update(row, completed=report.fraction, description=report.text)

        return execute(job, show)


def _print_record(record: Record, *, recorded_before: bool, path: Path) -> None:
    where = f"recorded in {path}" + (" before; not run again" if recorded_before else "")
    if record.outcome is not Outcome.COMPLETED:
        print(printable(f"{record.outcome}: {record.reason} ({where})"))
        return
    cost = record.cost
    print(f"test top-1 {record.metrics['test_top1']:.2%}, validation top-1 {record.metrics['val_top1']:.2%}")
    print(f"{cost.params:,} parameters, {cost.macs / 1e6:,.3g} MMACs an image (1 MAC = 2 FLOPs)")
    speeds = {"training": cost.train_images_per_second, "evaluating": cost.infer_images_per_second}
    known = [f"{speed:,.0f} images/s {what}" for what, speed in speeds.items() if speed is not None]
    print(f"{', '.join(known)}, on {record.environment.device} at {record.environment.precision}")
    print(f"run {record.run_id}, {where}")
