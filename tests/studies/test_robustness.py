"""Do studies have their arms evaluated on distorted test images, and is what cannot be refused before anything is trained?"""

from __future__ import annotations

import json

import numpy as np
import pytest

from vitbench.config import DISTORTIONS
from vitbench.data import describe
from vitbench.studies import BUDGETS, IN_ALL, STUDIES, Arm, Overrides, Study, load_study
from vitbench.studies.resolved_study import resolve_study

QUICK = BUDGETS["quick"]
ASKED = {"evaluate": ("jpeg",)}


def resolved(study, dataset="digits", **overrides):
    return resolve_study(
        load_study(study) if isinstance(study, str) else study, QUICK, describe(dataset), Overrides(**overrides)
    )


def of_user(**fields):
    return Study(question="?", source="", baseline=Arm("cls"), arms=[Arm("gap", pool="gap")], **fields)


def float_images(folder):
    draws = np.random.default_rng(0)
    images = {f"{split}_images": draws.normal(size=(40, 1, 8, 8)).astype(np.float32) for split in ("train", "test")}
    labels = {f"{split}_labels": np.arange(40) % 2 for split in ("train", "test")}
    np.savez(path := folder / "floats.npz", **images, **labels)
    return path


def test_every_arm_of_the_study_is_evaluated_on_every_distortion():
    for dataset in ("digits", "shapes/majority"):
        assert {config.evaluate for config in resolved("robustness", dataset).arms.values()} == {tuple(DISTORTIONS)}


def test_the_study_is_not_among_all():
    assert {*STUDIES} - {*IN_ALL} == {"robustness"}


def test_where_patches_are_single_pixels_there_is_no_convolutional_stem():
    assert "conv stem, equal MACs" in resolved("robustness").arms
    assert "conv stem, equal MACs" not in resolved("robustness", variant="Nano/1").arms


def test_what_is_asked_for_takes_the_place_of_what_the_study_has():
    for evaluate in (("shift",), ()):
        assert {config.evaluate for config in resolved("robustness", evaluate=evaluate).arms.values()} == {evaluate}
    assert {config.evaluate for config in resolved("pooling", evaluate=("drop",)).arms.values()} == {("drop",)}


def test_a_study_without_distortions_has_the_run_ids_that_it_had():
    assert all("evaluate" not in config.canonical_json() for config in resolved("pooling").arms.values())
    assert {c.run_id for c in resolved("robustness", evaluate=()).arms.values()} & {
        c.run_id for c in resolved("position").arms.values()
    }


def test_a_chain_of_arms_starts_from_the_run_that_the_plan_has():
    study = Study(
        question="?",
        source="",
        baseline=Arm("8 px"),
        arms=[Arm("12 px", start="8 px", epochs=0.5, image_size=12)],
        evaluate="noise",
    )
    arms = resolved(study).arms
    assert arms["12 px"].evaluate == ("noise",) and arms["12 px"].pretraining == arms["8 px"]


@pytest.mark.parametrize(
    ("evaluate", "message"),
    [("shfit", "did you mean shift?"), (["drop", "drop"], "given twice"), (5, "no list of names")],
)
def test_a_wrong_name_is_refused_where_the_study_is_written(evaluate, message):
    with pytest.raises(ValueError) as error:
        of_user(evaluate=evaluate)
    assert message in str(error.value)


def test_jpeg_of_floats_is_refused_where_it_was_asked_for_and_left_out_of_a_study_of_ours(tmp_path):
    path = float_images(tmp_path)
    ours = resolved("robustness", str(path))
    assert {config.evaluate for config in ours.arms.values()} == {tuple(name for name in DISTORTIONS if name != "jpeg")}
    (sentence,) = [remark for remark in ours.remarks if "left out" in remark]
    assert sentence.startswith("evaluate 'jpeg' is left out, as it is for images of 8 bits")
    for study, overrides in ((of_user(evaluate=("jpeg",)), {}), (of_user(), ASKED), ("robustness", ASKED)):
        with pytest.raises(ValueError) as error:
            resolved(study, str(path), **overrides)
        assert "evaluate 'jpeg' is for images of 8 bits, and those of " in str(error.value)


def test_an_arm_without_patches_is_named_where_patches_are_to_be_changed():
    study = Study(
        question="?", source="", baseline=Arm("cls"), arms=[Arm("one patch", patch_size=8)], evaluate=("drop",)
    )
    with pytest.raises(ValueError) as error:
        resolved(study)
    assert "arm 'one patch'" in str(error.value) and "evaluate 'drop' needs several patches" in str(error.value)


def test_what_it_takes_and_what_it_cannot_tell_is_said_beforehand():
    # 3 strengths of digits' shift and 3 of blur: 6 × 599 images / (3 × 5 epochs × 1,078 images) = 22 %.
    remarks = resolved(of_user(evaluate=("shift", "blur"))).remarks
    assert remarks == [
        "every run is evaluated on 6 distorted copies of the test images too, which takes about 22 % of the time of "
        "training on top of it"
    ]
    # 6 × 599 / (3 × 5 × 100) is more than training takes.
    (few,) = resolved(of_user(evaluate=("shift", "blur")), train_images=100).remarks
    assert "takes about 2.4 times the time of training on top of it" in few
    on_shapes = resolved(of_user(evaluate=("shift", "blur")), "shapes/majority").remarks
    assert "after shift of test images, labels of shapes/majority need not be true" in on_shapes


def test_the_command_line_refuses_in_one_line_and_plans_what_is_asked(vitbench, tmp_path):
    for command in ("plan", "run"):
        result = vitbench(command, "pooling", "--evaluate", "shift,shufle", "--results", tmp_path / "none")
        assert (result.status, result.err.count("\n")) == (2, 1)
        assert "evaluate 'shufle' is not known; did you mean shuffle?" in result.err
    train = vitbench("train", "Nano/8", "--evaluate", "drop", "--results", tmp_path / "none")
    assert train.status == 2 and "evaluate 'drop' needs several patches" in train.err and train.err.count("\n") == 1
    assert not (tmp_path / "none").exists()
    ids = {}
    for names in ("none", "shift", "shuffle,shift", "shift,shuffle"):
        planned = vitbench("plan", "pooling", "--json", "--evaluate", names, "--results", tmp_path / "none")
        ids[names] = without_memory(planned.out)
    assert ids["shuffle,shift"] == ids["shift,shuffle"] != ids["shift"] != ids["none"]
    unasked = vitbench("plan", "pooling", "--json", "--results", tmp_path / "none")
    assert ids["none"] == without_memory(unasked.out)


def without_memory(document):
    """What `plan --json` says, but for the memory that is free at that moment."""
    told = json.loads(document)
    del told["memory"]
    return told


def test_train_prints_the_accuracies_and_does_not_run_again_what_is_recorded(vitbench, tmp_path):
    arguments = (
        "train",
        "Nano/2",
        "--epochs",
        1,
        "--train-images",
        128,
        "--evaluate",
        "shuffle",
        "--results",
        tmp_path,
    )
    first, again = vitbench(*arguments), vitbench(*arguments)
    assert first.status == again.status == 0, first.err
    line = next(line for line in first.out.splitlines() if line.startswith("shuffle: test top-1 "))
    assert [part.partition(" at ")[2] for part in line.split(", ")] == [
        "25 % of patches",
        "50 % of patches",
        "100 % of patches",
    ]
    assert line in again.out and "not run again" in again.out


@pytest.mark.parametrize(
    ("dataset", "variant", "has_stem"),
    [
        ("torch/fashion_mnist", "Micro/1", False),
        ("torch/fashion_mnist", "Micro/7", False),
        ("torch/cifar10", "Micro/8", True),
    ],
)
def test_where_no_stack_of_convolutions_fits_the_stem_is_left_out_and_that_is_said(dataset, variant, has_stem):
    study = resolved("robustness", dataset, variant=variant)
    assert ("conv stem, equal MACs" in study.arms) == has_stem
    assert ("no convolutional stem" in " ".join(study.remarks)) != has_stem
