"""Which distortions can a run be evaluated on, and does asking for none leave its run_id as it was?"""

from __future__ import annotations

import pytest

from vitbench.config import DISTORTIONS, ModuleConfig, RunConfig, TimmConfig, ViTConfig, distorted_metric
from vitbench.config.distortions import strength_text


def test_a_run_without_distortions_is_written_as_before_there_were_any():
    assert "evaluate" not in RunConfig().canonical_json()
    run = RunConfig(pretraining=RunConfig(), evaluate=("shift",))
    assert "evaluate" not in run.model_dump()["pretraining"] and run.model_dump()["evaluate"] == ("shift",)
    assert RunConfig.model_validate_json(run.canonical_json()) == run


def test_equal_sets_of_names_are_one_run_in_whatever_way_they_are_given():
    runs = [RunConfig(evaluate=names) for names in (("shift", "drop"), ["drop", "shift"], "drop, shift")]
    assert len({run.run_id for run in runs}) == 1
    assert runs[0].evaluate == ("shift", "drop")
    assert RunConfig().replace(evaluate="shift").replace(seed=1).evaluate == ("shift",)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("shfit", "evaluate 'shfit' is not known; did you mean shift?"),
        (["tilt"], "evaluate 'tilt' is not known; there are shift, rotate, noise, blur, contrast, jpeg, shuffle, drop"),
        (("shift", "shift"), "evaluate 'shift' is given twice; give it once"),
        (3, "evaluate 3 is no list of names; give some of shift"),
        ("", "evaluate '' is not known; there are shift"),
        ([1], "evaluate 1 is not known"),
    ],
)
def test_what_is_no_list_of_names_is_refused(names, message):
    with pytest.raises(ValueError) as error:
        RunConfig(evaluate=names)
    assert message in str(error.value)


TIMM = TimmConfig(timm="resnet18", image_size=32, in_channels=3, num_classes=10)
MODULE = ModuleConfig(module="Net@1a2b3c4d", image_size=32, in_channels=3, num_classes=10)


@pytest.mark.parametrize(
    ("model", "name", "message"),
    [
        (ViTConfig(in_channels=4), "jpeg", "evaluate 'jpeg' is for grey and RGB images, and these have 4 channels"),
        (ViTConfig(patch_size=224), "shuffle", "evaluate 'shuffle' needs several patches, and the model has one"),
        (ViTConfig(patch_size=224), "drop", "evaluate 'drop' needs several patches"),
        (TIMM, "drop", "evaluate 'drop' changes the patches of a ViT, and this model is another"),
        (MODULE, "shuffle", "evaluate 'shuffle' changes the patches of a ViT, and this model is another"),
        (TIMM.replace(image_size=1), "shift", "evaluate 'shift' has no meaning on images of one pixel a side"),
    ],
)
def test_what_has_no_meaning_for_a_model_is_refused_by_name(model, name, message):
    with pytest.raises(ValueError) as error:
        RunConfig(model=model, evaluate=(name,))
    assert message in str(error.value)


@pytest.mark.parametrize("model", [TIMM, MODULE], ids=["timm", "module"])
def test_a_model_without_patches_takes_all_that_are_not_of_patches(model):
    names = tuple(name for name, distortion in DISTORTIONS.items() if not distortion.of_patches)
    assert RunConfig(model=model, evaluate=names).evaluate == names


def test_metrics_are_named_by_distortion_and_strength():
    assert distorted_metric("shift", 4) == "shift_4/test_top1"
    assert distorted_metric("blur", 0.5, "test_loss") == "blur_0.5/test_loss"


def test_strengths_ascend_and_are_said_in_words():
    assert all(list(d.strengths) == sorted({*d.strengths}) and d.strengths[0] > 0 for d in DISTORTIONS.values())
    assert strength_text("shift", 4) == "4 pixels"
    assert strength_text("jpeg", 80) == "quality 20"
