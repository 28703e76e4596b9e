"""What must whoever runs a study know of it beforehand: what is overruled, and which augmentation makes labels wrong?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from vitbench.config import RunConfig, strengths_on
from vitbench.data.info import DataInfo
from vitbench.studies.arm import Arm
from vitbench.studies.recipes import Recipe
from vitbench.studies.resolved_arms import Base
from vitbench.studies.settings import value_text
from vitbench.studies.study import Study
from vitbench.text import counted


def overruled(asked: Mapping[str, Any], arms: Sequence[Arm]) -> list[str]:
    """A sentence for each field that was asked for and that some arms set themselves."""
    sentences = []
    for name in asked:
        if setting := [arm.name for arm in arms if name in arm.changes]:
            which = _which(setting, arms)
            sentences.append(f"{name} {asked[name]} does not hold for {which}, as the study gives {name} there")
    return sentences


def overruled_recipe(recipe: Recipe, study: Study, asked: Mapping[str, Any]) -> list[str]:
    """A sentence on what a published recipe has otherwise than a study gives it to all of its arms; none where nothing."""
    by_recipe = {**dict(recipe.train), **recipe.data}
    by_study = {**study.train, **study.data}
    differing = [name for name in by_study if name not in asked and by_study[name] != by_recipe.get(name)]
    if not differing:
        return []
    here = ", ".join(f"{name} {value_text(by_study[name])}" for name in differing)
    there = ", ".join(value_text(by_recipe.get(name)) for name in differing)
    return [f"the study's own {here} take the place of recipe {recipe.name}'s: {there}"]


def wrong_labels(data: DataInfo, base: Base, arms: Sequence[Arm]) -> list[str]:
    """A sentence for augmentation after which labels of these images need not be true, with the arms that have it."""
    having: dict[str, list[str]] = defaultdict(list)
    for arm in arms:
        for name in data.makes_labels_wrong(arm.data(base.data)):
            having[name].append(arm.name)
    fields: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, names in having.items():
        fields[tuple(names)].append(name)
    return [
        f"after {', '.join(of_these)}, labels of {data.dataset} need not be true: {_which(names, arms)}"
        for names, of_these in fields.items()
    ]


def on_distortions(data: DataInfo, base: Base, *, left_out: Sequence[str]) -> list[str]:
    """Sentences on the distorted test images that every run is evaluated on: what they cost, and what they cannot tell."""
    sentences = [
        f"evaluate {name!r} is left out, as it {why.removeprefix(f'evaluate {name!r} ')}"
        for name in left_out
        if (why := data.distortion_objection([name]).partition(";")[0])
    ]
    if not base.evaluate:
        return sentences
    copies = sum(len(strengths_on(name, base.model.image_hw)) for name in base.evaluate)
    # An image costs three times as much in training as in evaluation.
    share = copies * data.test_images / (3 * base.train.epochs * base.train_images)
    sentences.append(
        f"every run is evaluated on {counted(copies, 'distorted copy', 'distorted copies')} of the test images too, which "
        f"takes about {f'{share:.1f} times' if share >= 1 else f'{100 * share:.0f} % of'} the time of training on top of it"
    )
    if moved := data.moves_what_labels_tell(base.evaluate):
        sentences.append(f"after {', '.join(moved)} of test images, labels of {data.dataset} need not be true")
    return sentences


def _which(names: Sequence[str], arms: Sequence[Arm]) -> str:
    return f"all {len(arms)} arms" if len(names) == len(arms) else ", ".join(map(repr, names))


def without_muon(runs: Mapping[str, RunConfig]) -> list[str]:
    """A sentence on the arms that the recipe's Muon does not train; none without any."""
    names = [name for name, run in runs.items() if run.is_muon_without_layers]
    if not names or len(names) == len(runs):
        return []
    return [
        f"AdamW alone trains {', '.join(map(repr, names))}, as Muon takes the linear layers of our ViT's blocks; "
        "--optimizer adamw trains all arms alike"
    ]
