"""Is it said beforehand which augmentation leaves images with labels that are not theirs?"""

from __future__ import annotations

import pytest

from vitbench.data import describe
from vitbench.studies import BUDGETS, Arm, Overrides, Study, load_study
from vitbench.studies.resolved_study import resolve_study


def remarks(study: Study | str, dataset: str, recipe: str | None = None) -> list[str]:
    named = load_study(study) if isinstance(study, str) else study
    resolved = resolve_study(named, BUDGETS["quick"], describe(dataset), Overrides(recipe=recipe))
    return [remark for remark in resolved.remarks if "need not be true" in remark]


def with_arms(*arms: Arm) -> Study:
    return Study(question="?", source="?", baseline=Arm("plain"), arms=[*arms])


@pytest.mark.parametrize("dataset", ["shapes", "shapes/majority", "shapes/relation", "shapes/quadrant"])
def test_what_moves_or_covers_shapes_is_said_with_the_arms_that_have_it(dataset):
    assert remarks("recipe", dataset) == [
        f"after cutmix, labels of {dataset} need not be true: 'cutmix'",
        f"after auto_augment, labels of {dataset} need not be true: 'RandAugment'",
        f"after random_erasing, labels of {dataset} need not be true: 'random erasing'",
    ]
    (all_arms,) = remarks("pooling", dataset, "deit")
    expected = "crop_scale, auto_augment, random_erasing, cutmix"
    assert all_arms == f"after {expected}, labels of {dataset} need not be true: all 4 arms"


def test_what_leaves_shapes_in_their_places_is_not():
    assert remarks(with_arms(Arm("mixup", mixup=0.2), Arm("3-Augment", auto_augment="3a")), "shapes") == []


@pytest.mark.parametrize(("dataset", "is_said"), [("shapes", True), ("digits", True), ("torch/cifar10", False)])
def test_mirrored_characters_and_places_are_others(dataset, is_said):
    arm = Arm("mirrored" if is_said else "not", flip=is_said, mixup=0.1)
    said = remarks(with_arms(arm), dataset)
    assert said == ([f"after flip, labels of {dataset} need not be true: 'mirrored'"] if is_said else [])


def test_plan_prints_it(vitbench, tmp_path):
    said = vitbench("plan", "recipe", "--data", "shapes", "--results", tmp_path)
    assert "after cutmix, labels of shapes need not be true: 'cutmix'" in said.out + said.err


@pytest.mark.parametrize(
    ("update", "because"),
    [
        ({"dtype": "uint16"}, "is for images of 8 bits, and those of mine are uint16"),
        ({"in_channels": 12}, "is for grey and RGB images, and those of mine have 12 channels"),
    ],
)
def test_the_recipe_study_leaves_out_what_images_of_many_bits_or_channels_cannot_have(update, because):
    info = describe("torch/cifar10").model_copy(update={"dataset": "mine", **update})
    resolved = resolve_study(load_study("recipe"), BUDGETS["quick"], info, Overrides())
    assert "RandAugment" not in resolved.arms and len(resolved.arms) == 10
    assert f"arm 'RandAugment' is left out: auto_augment {because}" in resolved.remarks
    with pytest.raises(
        ValueError, match=f"^study 'pooling': recipe deit is not for these images: auto_augment {because}"
    ):
        resolve_study(load_study("pooling"), BUDGETS["quick"], info, Overrides(recipe="deit"))
    with pytest.raises(ValueError, match=f"arm 'mine': auto_augment {because}; leave it out"):
        resolve_study(with_arms(Arm("mine", auto_augment="3a")), BUDGETS["quick"], info, Overrides())
