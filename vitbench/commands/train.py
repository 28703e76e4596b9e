"""One run outside any study, with any field set by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from vitbench.commands.display import is_live
from vitbench.commands.once import has_weights
from vitbench.commands.run import load_data, prepare
from vitbench.config import ModelConfig, RunConfig, TimmConfig, TrainConfig, printable
from vitbench.data import DataInfo, describe
from vitbench.execution import Job, Report
from vitbench.machine import cpu_cores
from vitbench.profiling import count
from vitbench.records import Design, Faults, Outcome, Record, RecordStore
from vitbench.studies import BUDGETS, PlannedRun
from vitbench.studies.budgets import CUSTOM
from vitbench.studies.outline import data_settings, recipe_of
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
    store = RecordStore(results, faults)
    before = [r for r in store.read("train") if r.identity == run.run_id and r.outcome is not Outcome.FAILED]
    if keep_weights and not any(has_weights(results, record) for record in before):
        before = [record for record in before if record.outcome is Outcome.DIVERGED]
    if before:
        record = before[-1]
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
        record = _execute_here(job)
        store.append(record)
        job.remove_checkpoint()
    if as_json:
        print(record.to_json())
    else:
        _print_record(record, recorded_before=bool(before), path=store.path("train"))
    return record


def _weights(init: str, results: Path) -> str:
    """`init` as it is loaded: for a run, the file of its weights."""
    from vitbench.models.weights import find_weights, is_run

    return str(find_weights(init, results)) if is_run(init) else init


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
    from vitbench.models.inherit_timm import inherited_timm_config
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
    left = info.train_images - round(info.train_images * data_config.validation_fraction)
    if data_config.train_images is not None and data_config.train_images > left:
        raise ValueError(
            f"train_images {data_config.train_images} is more than the {left} of {info.dataset} outside the "
            "validation split; make it smaller"
        )
    images = data_config.train_images or left
    if recipe.batch_size > images:
        raise ValueError(f"batch_size {recipe.batch_size} is more than the {images} training images; make it smaller")
    count(model_config)  # refuses, before data are read, what timm makes but cannot run at this size
    config = RunConfig(model=model_config, data=data_config, train=recipe, seed=seed, **start)
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
