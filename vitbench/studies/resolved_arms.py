"""What do a study's arms come to on a base: which of them can run, and each one's complete run?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitbench.config import Config, DataConfig, RunConfig, TrainConfig, ViTConfig
from vitbench.data.info import DataInfo
from vitbench.studies.arm import Arm
from vitbench.studies.library import STUDIES
from vitbench.studies.study import Study
from vitbench.text import did_you_mean


@dataclass(frozen=True)
class Base:
    """What arms differ from: the base variant, and the recipe and data of the budget and the study."""

    variant: str
    model: ViTConfig
    train: TrainConfig
    data: DataConfig
    train_images: int
    """Images of an epoch, without the validation split; fractions are of these."""
    recipe: str = ""
    """The published recipe, by name, that stands in place of the budget's."""
    evaluate: tuple[str, ...] = ()
    """Distortions of test images that every arm is evaluated on too."""


def arms_on(study: Study, base: Base, data: DataInfo) -> tuple[list[Arm], list[str], list[str]]:
    """(a study's arms, names of those that are left out as the data do not come in their image size, sentences on those that
    are left out as these images cannot be augmented so, or a published recipe makes them equal to others).

    Fractions of less than a batch are none of its arms. Raises ValueError where two arms are the same without such a recipe,
    and for an augmentation that these images cannot have: arms of vitbench's own studies alone are left out for it.
    """
    _check_base(base, data)
    arms, kept = _with_a_batch(study, base), dict[str, Arm]()
    for arm in arms:
        height, width = arm.apply(base.model).image_hw
        comes = data.size_step == 1 or (height == width and height % data.size_step == 0)
        if comes and (not arm.start or arm.start in kept):
            kept[arm.name] = arm
    left_out = [arm.name for arm in arms if arm.name not in kept]
    sentences = _without_impossible(kept, study, base, data)
    for arm, twin in _twins([*kept.values()], base):
        if not base.recipe or any(other.start == arm.name for other in arms):
            what = "model, recipe and data" if _sets_more_than_the_model(arm) else "model"
            raise ValueError(
                f"arms {twin!r} and {arm.name!r} are the same {what} on {base.variant}{_already(arm, base)}leave one out"
            )
        sentences.append(f"arm {arm.name!r} is left out: with recipe {base.recipe} it is {twin!r}")
        del kept[arm.name]
    return [*kept.values()], left_out, sentences


def asked_for(study: Study, arms: list[Arm], names: Sequence[str]) -> list[Arm]:
    """The baseline, the arms of these names, and those from whose weights they go on; all, where there are no names."""
    if not names:
        return arms
    if study.within or study.fractions:
        raise ValueError("arm: its arms are compared with several others; leave --arm out, and run all of them")
    by_name, kept = {arm.name: arm for arm in arms}, {arms[0].name}
    for name in names:
        if name not in by_name:
            hint = did_you_mean(name, by_name, f"there are {', '.join(map(repr, by_name))}")
            raise ValueError(f"arm {name!r} is none of its arms; {hint}")
        while name:
            kept.add(name)
            name = by_name[name].start or ""
    if len(kept) == 1:
        raise ValueError(f"arm {arms[0].name!r} is the baseline, which is run with every arm; name another")
    return [arm for arm in arms if arm.name in kept]


def _check_base(base: Base, data: DataInfo) -> None:
    """Raises ValueError for a published recipe whose augmentation these images cannot have."""
    objection, _, _ = data.augmentation_objection(base.data).partition(";")
    if objection and base.recipe:
        raise ValueError(
            f"recipe {base.recipe} is not for these images: {objection}; give what else it has as a study's train and data"
        )


def _without_impossible(kept: dict[str, Arm], study: Study, base: Base, data: DataInfo) -> list[str]:
    """Takes away the arms whose augmentation these images cannot have; a sentence on each.

    Raises ValueError where the study is a user's, who can leave it out, or all arms have such augmentation.
    """
    objections = {name: data.augmentation_objection(arm.data(base.data)) for name, arm in kept.items()}
    objections = {name: objection for name, objection in objections.items() if objection}
    is_for_none = len(objections) == len(kept)
    for name, objection in objections.items():
        if study.name not in STUDIES or is_for_none:
            raise ValueError(f"arm {name!r}: {objection}")
        del kept[name]
    return [f"arm {name!r} is left out: {objection.partition(';')[0]}" for name, objection in objections.items()]


def _with_a_batch(study: Study, base: Base) -> list[Arm]:
    arms = study.all_arms(base.model)
    if not study.fractions:
        return arms
    enough = [arm for arm in arms if round(arm.fraction * base.train_images) >= arm.recipe(base.train).batch_size]
    if len({arm.fraction for arm in enough}) < 2:
        raise ValueError(
            f"batch_size {base.train.batch_size} leaves study {study.name!r} no two fractions of {base.train_images} "
            "training images; make it smaller"
        )
    return enough


def _twins(arms: Sequence[Arm], base: Base) -> Iterator[tuple[Arm, str]]:
    """Arms that are the same as an earlier one, with the name of that."""
    first: dict[tuple[RunConfig, float], str] = {}
    runs = runs_of(arms, base, dict.fromkeys((arm.name for arm in arms), base.train.epochs))
    for arm in arms:
        twin = first.setdefault((runs[arm.name], arm.learning_rate_scale), arm.name)
        if twin != arm.name:
            yield arm, twin


def _already(arm: Arm, base: Base) -> str:
    """What of an arm is the base's value already, with a remedy where the budget decides it."""
    values = {**dict(base.model), **dict(base.train), **dict(base.data)}
    same = [f"{name} is {value}" for name, value in arm.changes.items() if values.get(name) == value]
    remedy = "change that for all arms by Study(train={…}, data={…}), or " if _sets_more_than_the_model(arm) else ""
    return f", where {' and '.join(same)} already; {remedy}" if same else "; "


def _sets_more_than_the_model(arm: Arm) -> bool:
    return any(name in config.model_fields for config in (TrainConfig, DataConfig) for name in arm.changes)


def runs_of(arms: Sequence[Arm], base: Base, epochs: Mapping[str, float]) -> dict[str, RunConfig]:
    """Each arm's run at seed 0, by name. `epochs`: of the recipe, for each arm, before the factor of its own."""
    runs: dict[str, RunConfig] = {}
    for arm in arms:
        with arm.named():
            runs[arm.name] = _run(arm, base, epochs[arm.name], start=runs.get(arm.start))
    return runs


def _run(arm: Arm, base: Base, epochs: float, *, start: RunConfig | None) -> RunConfig:
    model, recipe = arm.apply(base.model), arm.recipe(base.train).replace(epochs=epochs * arm.epochs)
    images = arm.data(base.data.resampled(base.model.image_hw, model.image_hw))
    if start is not None:  # its recipe and images are its own; those of the arm that it goes on from stay
        return RunConfig(
            model=model, data=images, train=recipe, pretraining=start, keep_head=True, evaluate=base.evaluate
        )
    if arm.fraction != 1:  # for as many steps as on all images
        steps, some = recipe.num_steps(base.train_images // recipe.batch_size), round(arm.fraction * base.train_images)
        if some < recipe.batch_size:
            raise ValueError(
                f"batch_size {recipe.batch_size} is more than the {some} images of its fraction; make it smaller"
            )
        images, recipe = images.replace(train_images=some), recipe.replace(epochs=steps / (some // recipe.batch_size))
    return RunConfig(model=model, data=images, train=recipe, evaluate=base.evaluate)


def changes_of(
    arms: Sequence[Arm], runs: Mapping[str, RunConfig], base: Base, *, by_plan: Sequence[str]
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """(the fields in which each arm's run differs from the base, by arm; the base's values of those of recipe and data).

    JSON values. `by_plan`: fields whose values the plan gives to arms, which are no changes of theirs.
    """
    changes: dict[str, dict[str, Any]] = {}
    of_base: dict[str, Any] = {}
    for arm in arms:
        run = runs[arm.name]
        train, data = _differing(run.train, base.train, by_plan), _differing(run.data, base.data, by_plan)
        if changed := {**_differing(run.model, base.model), **train, **data}:
            changes[arm.name] = changed
        values = base.train.model_dump(mode="json") | base.data.model_dump(mode="json")
        of_base |= {name: values[name] for name in (*train, *data)}
    return changes, of_base


def _differing(config: Config, base: Config, left_out: Sequence[str] = ()) -> dict[str, Any]:
    """The configuration's values, in JSON, of the fields that the base has not, or has other values of."""
    values, before = config.model_dump(mode="json"), base.model_dump(mode="json")
    return {
        name: value
        for name, value in values.items()
        if name not in left_out and (name not in before or before[name] != value)
    }
