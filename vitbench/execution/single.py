"""How does one run outside any study come about: which model, from which weights, on which data, and is it recorded?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vitbench.config import DataConfig, ModelConfig, ModuleConfig, RunConfig, TimmConfig, TrainConfig, ViTConfig
from vitbench.costs import count
from vitbench.data import DataInfo, describe
from vitbench.execution import display
from vitbench.execution.claims import Claims
from vitbench.execution.content import Content
from vitbench.execution.job import Job
from vitbench.execution.preparation import DataReader, make_job
from vitbench.execution.reuse import has_weights
from vitbench.machine import cpu_cores
from vitbench.records import Design, Faults, Outcome, Record, RecordStore
from vitbench.signals import RECORDING_SECONDS, HeldSignals
from vitbench.studies import BUDGETS, PlannedRun
from vitbench.studies.budgets import CUSTOM
from vitbench.studies.recipes import RECIPES, Recipe
from vitbench.studies.resolved_study import check_batch, data_settings
from vitbench.studies.target import arm_name, model_of, target_of
from vitbench.text import agreeing, say
from vitbench.variants import TIMM
from vitbench.variants import model as named_model
from vitbench.variants import variant as named_variant

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
    keep_weights: bool
    results: Path


def train_one(request: SingleRequest, faults: Faults) -> tuple[Record, bool]:
    """(the record of the run, whether it was recorded before). `faults` as of `RecordStore`.

    What is recorded already is not run again, unless its weights are to be kept and are not there. Raises ValueError for what
    is wrong with the request.
    """
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
    from vitbench.device import open_device

    job = make_job(
        request.dataset,
        run,
        device=open_device(request.device),
        data_root=request.data_root,
        threads=request.threads or cpu_cores(),
        workers=1,
        results=request.results,
        init=init,
        keep_weights=request.keep_weights,
    )
    reader.read([(request.dataset, run)])
    store.prepare()
    on_wait = partial(say, f"run {run.run_id} is claimed by another process: waiting for it")
    with Claims(store.root) as claims, claims.held(run.run_id, on_wait=on_wait):
        if (record := recorded()) is not None:
            return record, True
        record = execute_watched(job)
        with HeldSignals(patience=RECORDING_SECONDS):
            store.append(record)
            if not claims.is_taken_by_another(run.run_id):  # as after it was stopped for longer than a lease
                job.remove_checkpoint()
        return record, False


def _recorded(store: RecordStore, run: PlannedRun, content: Content, *, with_weights: bool) -> Record | None:
    """The record of the run that makes it needless to run it again."""
    records = store.done([run.run_id], where=content.agrees, study=STUDY).get(run.run_id, [])
    if with_weights:
        kept = [record for record in records if has_weights(store.root, record)]
        records = kept or [record for record in records if record.outcome is Outcome.DIVERGED]
    return records[-1] if records else None


def execute_watched(job: Job) -> Record:
    """Runs it in this process."""
    from vitbench.execution.run import execute

    with display.progress("starting") as advance:
        return execute(job, lambda report: advance(report.text, report.fraction, 1.0))


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


def _model(
    variant: str | None,
    init: str | None,
    info: DataInfo,
    fields: Mapping[str, Any],
    *,
    keep_head: bool,
    recipe: Recipe | None,
) -> tuple[str, ModelConfig, str | None]:
    """(what to call it, its configuration, the identity of its initial weights).

    `recipe` has a say in a ViT that starts from the seed; what starts from weights is what these are.
    """
    shape = {"in_channels": info.in_channels, "num_classes": info.num_classes}
    for name, value in shape.items():
        if str(fields.get(name, value)) != str(value):
            raise ValueError(f"{name} {fields[name]} does not fit {info.dataset}, which has {value}; leave it out")
    if init is None:
        if variant is None:
            raise ValueError("VARIANT is missing: give one (see `vitbench list`), or weights to start from with --init")
        if (arm := arm_name(variant)) is not None:
            return arm.label, model_of(variant, info, BUDGETS["quick"], fields=fields), None
        wanted = {"image_size": info.image_size, **shape, **fields}
        model = named_model(variant, **wanted)
        if recipe is not None and isinstance(model, ViTConfig):
            model = named_model(variant, **{**recipe.model_on(model), **wanted})
        return variant, model, None
    from vitbench.models import convert
    from vitbench.models.inherit import inherited_config
    from vitbench.models.weights import SUFFIX, load_trained

    wanted = {**shape, **fields}
    trained = load_trained(init) if init.endswith(SUFFIX) else None
    if trained is not None and not isinstance(trained.config.model, ViTConfig):
        label = trained.identity if variant is None else f"{variant} from {trained.identity}"
        model = _whole_model_from(trained.config.model, variant, init, wanted, keep_head=keep_head)
        return label, model, trained.identity
    if variant is not None and variant.startswith(TIMM):
        raise ValueError(f"variant {variant!r} is timm's, but init {init!r} is read as a ViT of ours; leave it out")
    hints = convert.Hints(**{name: fields.get(name) for name in ("image_size", "activation", "position")})
    source = convert.load_named(init, in_channels=info.in_channels, hints=hints)
    if variant is not None:
        # The image size is the weights' own, unless one is asked for: that is what their patches were made for.
        named = _named_vit(variant, info, {"image_size": source.config.image_size, **wanted})
        wanted = {name: getattr(named, name) for name in named.model_fields_set}
    identity = convert.weights_identity(init, source)
    label = identity if variant is None else f"{variant} from {identity}"
    return label, inherited_config(source.config, wanted, keep_head=keep_head), identity


def _named_vit(variant: str, info: DataInfo, fields: Mapping[str, Any]) -> ViTConfig:
    """Of a variant of ours, or of an arm whose model is a ViT."""
    if arm_name(variant) is None:
        return named_variant(variant, **fields)
    model = model_of(variant, info, BUDGETS["quick"], fields=fields)
    if not isinstance(model, ViTConfig):
        raise ValueError(f"variant {variant!r} is no ViT, but the initial weights are read as one; leave it out")
    return model


def _whole_model_from(
    whole: TimmConfig | ModuleConfig, variant: str | None, init: str, wanted: dict[str, Any], *, keep_head: bool
) -> ModelConfig:
    """The model, with its name and options, whose weights `init` are, and what is wanted of it."""
    from vitbench.models.inherit import inherited_whole_config

    name = TIMM + whole.timm if isinstance(whole, TimmConfig) else whole.model_name
    if variant is not None and variant != name:
        raise ValueError(f"variant {variant!r} is not that of the initial weights, {name!r}; leave it out")
    if whole.in_channels != wanted["in_channels"]:
        raise ValueError(
            f"init {init!r} is for images of {whole.in_channels} channels, but the data's have {wanted['in_channels']}"
        )
    return inherited_whole_config(whole, wanted, keep_head=keep_head)


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
    label, model, identity = _model(
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
