"""What a study comes to on a data set under a budget: models, recipe, grid and seeds, before any result is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vitbench.config import DataConfig, ModelConfig, RunConfig
from vitbench.data.info import DataInfo
from vitbench.records import Design
from vitbench.records.metrics import metric_named
from vitbench.refusals import one_line
from vitbench.studies.arm import Arm
from vitbench.studies.budgets import Budget, Scale
from vitbench.studies.library import STUDIES
from vitbench.studies.looks import looks_of
from vitbench.studies.match import check_costs_stay, check_is_timed, matched_epochs
from vitbench.studies.overrides import Overrides
from vitbench.studies.recipes import Recipe, recipe_named
from vitbench.studies.remarks import on_distortions, overruled, overruled_recipe, without_muon, wrong_labels
from vitbench.studies.resolved_arms import Base, arms_on, asked_for, changes_of, runs_of
from vitbench.studies.settings import RATE, Grid, Setting, with_seed, with_setting
from vitbench.studies.study import Study
from vitbench.studies.tunable import check_tuned
from vitbench.variants import variant as named_variant


@dataclass(frozen=True)
class ResolvedStudy:
    """A study on one data set under one budget, before anything has run."""

    study: Study
    budget: str
    variant: str
    arms: Mapping[str, RunConfig]
    """Each arm's run at seed 0, with tuned fields at their defaults, by name; the baseline first."""
    grid: Grid
    seeds: int
    """Of every arm; where there are `looks`, at the first."""
    tuning_seeds: int
    """At most `seeds`; equal to them where settings are chosen on every seed, or where there is nothing to choose."""
    extend: int
    """Steps by which the grid may grow on each side."""
    train_images: int
    """Images of an epoch, without the validation split; fractions are of these."""
    design: Design
    """What records say of the study, on the initial `grid`."""
    left_out: Sequence[str] = ()
    """Arms of image sizes that the data do not come in."""
    remarks: Sequence[str] = ()
    """What the study itself leaves out on this base variant, in sentences."""
    looks: tuple[int, ...] = ()
    """Numbers of seeds at which verdicts are looked at; empty where all arms have `seeds`."""
    epochs_are_estimates: bool = False
    """Whether training time is to be equal, but images/s are not measured yet, so that epochs are by FLOPs."""
    _configs: dict[tuple[str, Setting], RunConfig] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def baseline(self) -> str:
        return self.design.baseline

    def chain(self, arm: str) -> list[str]:
        """The arms from whose weights an arm goes on, one after the other, then the arm itself."""
        start = self.design.starts.get(arm)
        return [*(self.chain(start) if start else []), arm]

    @property
    def has_choices(self) -> bool:
        """Whether some runs depend on the results of others."""
        grows = self.extend > 0 and any(len(values) > 1 for values in self.grid.values.values())
        return grows or self.tuning_seeds < self.seeds or bool(self.looks)

    def config(self, arm: str, setting: Setting, seed: int) -> RunConfig:
        """One run of an arm, at a setting of the grid. Raises ValueError for a setting without meaning."""
        if (arm, setting) not in self._configs:
            start = self.design.starts.get(arm)
            pretraining = self.config(start, setting, 0) if start else None
            try:
                config = with_setting(
                    self.arms[arm], self.grid.fields, self.design.to_arm(arm, setting), pretraining=pretraining
                )
                check_batch(config, self.images_of(config))
            except ValueError as error:
                by_the_arm = arm in self.design.learning_rate_scales or "batch_size" in self.design.changes.get(arm, {})
                raise ValueError(f"arm {arm!r}: {one_line(error)}" if by_the_arm else one_line(error)) from error
            self._configs[arm, setting] = config
        return with_seed(self._configs[arm, setting], seed)

    def images_of(self, config: RunConfig) -> int:
        """Images of an epoch of one of these runs."""
        return config.data.train_images or self.train_images

    def has_meaning(self, grid: Grid) -> bool:
        """Whether every arm can run at every setting of a grid."""
        try:
            for arm in self.arms:
                for setting in grid.settings:
                    self.config(arm, setting, 0)
        except ValueError:
            return False
        return True

    def design_on(self, grid: Grid) -> Design:
        """What records say of the study, on a grid that may have grown."""
        return self.design.model_copy(update={"learning_rates": grid.values[RATE], "tuned": grid.tuned})


def check_batch(config: RunConfig, images: int) -> None:
    """Raises ValueError for a batch larger than the images that an epoch trains on."""
    if (batch_size := config.train.batch_size) > images:
        raise ValueError(f"batch_size {batch_size} is more than the {images} training images; make it smaller")


def resolve_study(
    study: Study,
    budget: Budget,
    data: DataInfo,
    overrides: Overrides,
    *,
    images_per_second: Mapping[str, float] | None = None,
) -> ResolvedStudy:
    """`study` on `data`. `images_per_second`: the measured training rate of each arm, where training time is to be equal.

    Raises ValueError for what has no meaning on the base variant, or cannot be tuned or matched.
    """
    base = _base(study, budget, data, overrides)
    metric = _metric(study, data, overrides)
    try:
        arms, left_out, equal = arms_on(study, base, data)
        arms = asked_for(study, arms, overrides.arms)
    except ValueError as error:
        raise ValueError(f"{study.title}: {one_line(error)}") from error
    models = {arm.name: arm.apply(base.model) for arm in arms}
    grid = _grid(study, budget.scale_on(data.dataset), base, arms[0], overrides)
    match = overrides.match
    epochs = matched_epochs(
        models, baseline=arms[0].name, epochs=base.train.epochs, match=match, images_per_second=images_per_second
    )
    _check_together(study, arms, models, grid, match=match)
    runs = runs_of(arms, base, epochs)
    # A fixed number of seeds that is asked for goes before a study's rule.
    until = overrides.until or (study.until if overrides.seeds is None else None)
    looks = looks_of(until, seeds=overrides.seeds, max_seeds=overrides.max_seeds)
    seeds = looks[0] if looks else overrides.seeds or budget.seeds
    tuning_seeds = _tuning_seeds(overrides, budget, grid, seeds)
    # Seeds that are added later must not move a choice that was made.
    below = tuning_seeds if tuning_seeds < seeds or (looks and len(grid.settings) > 1) else None
    return ResolvedStudy(
        study=study,
        budget=budget.name,
        variant=base.variant,
        arms=runs,
        grid=grid,
        seeds=seeds,
        looks=looks,
        tuning_seeds=tuning_seeds,
        extend=budget.extend if overrides.extend is None else overrides.extend,
        train_images=base.train_images,
        design=_design(study, arms, runs, base, grid, tuning_seeds=below, match=match, metric=metric).model_copy(
            update={"looks": looks} if looks else {"seeds": seeds}
        ),
        left_out=left_out,
        remarks=[
            *study.remarks(base.model),
            *equal,
            *_remarks(study, data, base, arms, overrides),
            *without_muon(runs),
        ],
        epochs_are_estimates=match == "time" and images_per_second is None,
    )


def _base(study: Study, budget: Budget, data: DataInfo, overrides: Overrides) -> Base:
    """What the study's arms differ from on these data."""
    scale = budget.scale_on(data.dataset)
    variant = scale.variant_on(data.image_size) if overrides.variant is None else overrides.variant
    model = named_variant(variant, **data.model_shape)
    wanted = scale.train_images if overrides.train_images is None else overrides.train_images
    data_config, train_images = data_settings(data, wanted=wanted)
    train, of_the_budget = budget.recipe_on(data.dataset)
    if (recipe := _recipe(overrides)) is not None:
        model = model.replace(**recipe.model_on(model))
        train, of_the_budget = recipe.within(train), recipe.data_on(data)
    try:
        data_config = data_config.replace(**{**of_the_budget, **study.data})
        train = train.replace(**{**study.train, **(overrides.train or {})})
    except ValueError as error:
        raise ValueError(
            f"{study.title}: {one_line(error)}" if study.train or study.data else one_line(error)
        ) from error
    if train.epochs == 0:
        raise ValueError("epochs 0 trains nothing; give more, or `vitbench train --init RUN --keep-head --epochs 0`")
    return Base(
        variant=variant,
        model=model,
        train=train,
        data=data_config,
        train_images=train_images,
        recipe=overrides.recipe or "",
        evaluate=_evaluate(study, data, overrides),
    )


def _evaluate(study: Study, data: DataInfo, overrides: Overrides) -> tuple[str, ...]:
    """The distortions that are evaluated on; vitbench's own studies leave out those that these images cannot have.

    Raises ValueError for such a distortion that was asked for.
    """
    names = study.evaluate if overrides.evaluate is None else overrides.evaluate
    is_asked_for = overrides.evaluate is not None or study.name not in STUDIES
    if is_asked_for and (objection := data.distortion_objection(names)):
        raise ValueError(f"{study.title}: {objection}")
    return tuple(name for name in names if not data.distortion_objection([name]))


def _recipe(overrides: Overrides) -> Recipe | None:
    """Raises ValueError for a name that stands for none."""
    return None if overrides.recipe is None else recipe_named(overrides.recipe)


def _metric(study: Study, data: DataInfo, overrides: Overrides) -> str:
    """The name of the primary metric. Raises ValueError for one that is none, or says nothing of these classes."""
    metric = metric_named(overrides.metric or study.metric)
    if data.num_classes < metric.fewest_classes:
        raise ValueError(
            f"metric {metric.name!r} says nothing of the {data.num_classes} classes of {data.dataset}; take another, as "
            "top1 or loss"
        )
    return metric.name


def _remarks(study: Study, data: DataInfo, base: Base, arms: Sequence[Arm], overrides: Overrides) -> list[str]:
    asked, recipe = overrides.train or {}, _recipe(overrides)
    by_study = overruled_recipe(recipe, study, asked) if recipe is not None else []
    left_out = () if overrides.evaluate is not None else study.evaluate
    return [
        *overruled(asked, arms),
        *by_study,
        *wrong_labels(data, base, arms),
        *on_distortions(data, base, left_out=[name for name in left_out if name not in base.evaluate]),
    ]


def _check_together(
    study: Study, arms: Sequence[Arm], models: Mapping[str, ModelConfig], grid: Grid, *, match: str
) -> None:
    """Raises ValueError for what cannot be tuned or matched with these arms."""
    if "crop_padding" in grid.tuned and len({model.image_hw for model in models.values()}) > 1:
        raise ValueError(
            f"tune 'crop_padding' is in pixels, but arms of study {study.name!r} have images of several sizes; leave it out"
        )
    if match != "epochs":
        check_costs_stay(grid.tuned, models, match=match)
    for arm in arms:
        check_is_timed(arm.name, arm.changes, match=match)
    if study.fractions and match != "epochs":
        raise ValueError(f"match {match!r}: study {study.name!r} makes steps equal on all fractions; leave it out")
    if match != "epochs" and any(arm.start or arm.epochs != 1 or arm.fraction != 1 for arm in arms):
        raise ValueError(
            f"match {match!r}: study {study.name!r} says itself for how long each arm trains; leave it out"
        )


def _design(
    study: Study,
    arms: Sequence[Arm],
    runs: Mapping[str, RunConfig],
    base: Base,
    grid: Grid,
    *,
    tuning_seeds: int | None,
    match: str,
    metric: str,
) -> Design:
    by_plan = ("train_images", "epochs") if study.fractions else () if match == "epochs" else ("epochs",)
    changes, of_base = changes_of(arms, runs, base, by_plan=by_plan)
    scales = {arm.name: arm.learning_rate_scale for arm in arms}
    for arm in arms:
        if arm.start and arm.epochs == 0:  # it trains nothing, and has the setting of what it goes on from
            scales[arm.name] = scales[arm.start]
    design = Design(
        question=study.question,
        source=study.source,
        baseline=arms[0].name,
        arms=tuple(runs),
        learning_rates=grid.values[RATE],
        tuned=grid.tuned,
        tuning_seeds=tuning_seeds,
        match=match,
        metric=metric,
        factors=study.levels(arms),
        within=study.within,
        fractions={arm.name: arm.fraction for arm in arms} if study.fractions else {},
        starts={arm.name: arm.start for arm in arms if arm.start},
        train_images=base.train_images,
        changes=changes,
        base=of_base,
        learning_rate_scales={name: scale for name, scale in scales.items() if scale != 1},
    )
    epochs = {name: run.train.epochs for name, run in runs.items()}
    return design.model_copy(update={"epochs": epochs}) if design.epochs_differ else design


def _grid(study: Study, scale: Scale, base: Base, baseline: Arm, overrides: Overrides) -> Grid:
    tune = {**study.tune, **overrides.tune}
    varied = {name for arm in study.all_arms(base.model) for name in arm.changes}
    check_tuned(tune, study=study.name, varied=varied)
    rates = overrides.learning_rates or (scale.grid if study.tuning == "grid" else scale.short)
    recipe, optimizer = _recipe(overrides), baseline.recipe(base.train).optimizer
    # The scale suits the recipe's optimizer, and not another in its place.
    if recipe is not None and optimizer == recipe.train.optimizer and not overrides.learning_rates:
        rates = tuple(float(f"{rate * recipe.learning_rate_scale:.4g}") for rate in rates)
    return Grid.of(rates, tune)


def _tuning_seeds(overrides: Overrides, budget: Budget, grid: Grid, seeds: int) -> int:
    wanted = overrides.tuning_seeds
    if wanted is not None and not 1 <= wanted <= seeds:
        raise ValueError(f"tune_seeds {wanted} is not among the 1 to {seeds} seeds of an arm; make it smaller")
    if len(grid.settings) == 1:
        return seeds
    return min(wanted or budget.tuning_seeds or seeds, seeds)


def data_settings(data: DataInfo, *, wanted: int | None) -> tuple[DataConfig, int]:
    """(the data configuration with the augmentation that suits the set, the training images of an epoch).

    `wanted` training images; all, where that is None or more than the validation split leaves.
    """
    config = DataConfig(dataset=data.dataset, crop_padding=data.crop_padding, flip=data.flip)
    left = data.images_left(config.validation_fraction)
    if wanted is None or wanted >= left:
        return config, left
    return config.replace(train_images=wanted), wanted
