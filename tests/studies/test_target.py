"""Does a name on the command line stand for the model that its reader expects: a variant's, timm's, or an arm's?"""

from __future__ import annotations

import pytest

from vitbench.config import TimmConfig, ViTConfig
from vitbench.data import describe
from vitbench.studies import BUDGETS
from vitbench.studies.target import ArmName, Target, arm_name, model_of, target_of
from vitbench.variants import variant

QUICK = BUDGETS["quick"]
STUDY = """
from vitbench.studies import Arm, Study

STUDY = Study(
    question="?",
    source="",
    baseline=Arm("cls"),
    arms=[Arm("gap: all tokens, 2 of them", pool="gap"), Arm("net", timm="resnet18", options={"base_width": 32})],
)
"""


@pytest.mark.parametrize(
    ("text", "study", "arm"),
    [
        ("pooling:gap", "pooling", "gap"),
        ("pooling", "pooling", ""),
        ("my_study.py:2-D, every layer", "my_study.py", "2-D, every layer"),
        ("a folder/my.study.py:x: y.py: z", "a folder/my.study.py", "x: y.py: z"),
        ("C:\\mine\\study.py:gap", "C:\\mine\\study.py", "gap"),
        ("study.py", "study.py", ""),
    ],
)
def test_the_study_ends_at_its_colon_and_arms_may_have_colons_and_spaces(text, study, arm):
    assert arm_name(text) == ArmName(study, arm)


@pytest.mark.parametrize("text", ["Ti/16", "R50+B/16", "timm:resnet18", "timm:resnetv2.ResNetV2", "nonsense"])
def test_variants_and_models_of_timm_are_no_arms(text):
    assert arm_name(text) is None


def test_an_arms_model_is_the_one_that_its_study_trains_on_these_images():
    digits, cifar = describe("digits"), describe("torch/cifar10")
    assert model_of("pooling:gap", digits, QUICK, fields={}) == variant(
        "Micro/2", image_size=8, in_channels=1, num_classes=10, pool="gap"
    )
    shape = {"image_size": 32, "in_channels": 3, "num_classes": 10}
    assert model_of("pooling:gap", cifar, QUICK, base="Ti/8", fields={"depth": 3}) == variant(
        "Ti/8", **shape, pool="gap", depth=3
    )
    assert model_of("Ti/8", cifar, QUICK, fields={}) == variant("Ti/8", **shape)


def test_arms_of_a_users_file_are_named_by_its_path(tmp_path):
    (tmp_path / "mine.py").write_text(STUDY)
    name = f"{tmp_path}/mine.py"
    digits = describe("digits")
    assert model_of(f"{name}:gap: all tokens, 2 of them", digits, QUICK, fields={}).pool == "gap"
    net = model_of(f"{name}:net", digits, QUICK, fields={"image_size": 16})
    assert isinstance(net, TimmConfig) and (net.image_size, net.options) == (16, {"base_width": 32})


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("pooling:gpa", {}, "arm 'gpa' is not in pooling; did you mean gap?"),
        ("pooling", {}, "pooling is a study; give one of its arms, as pooling:ARM: 'cls', 'gap'"),
        ("poolng:gap", {}, "unknown study 'poolng'; did you mean pooling?"),
        ("none.py:gap", {}, "study file 'none.py' does not exist"),
        ("Ti/16", {"base": "Ti/8"}, "base 'Ti/8' is what a study's arms differ from, and 'Ti/16' is no arm"),
        ("pooling:gap", {"fields": {"patch_size": 3}}, "patch_size 3 does not divide image_size 8"),
        ("pooling:gap", {"base": "Tii/2"}, "unknown variant 'Tii/2'"),
    ],
)
def test_what_stands_for_nothing_is_refused_in_a_line_with_the_remedy(text, options, said):
    with pytest.raises(ValueError) as refusal:
        model_of(text, describe("digits"), QUICK, **{"fields": {}, **options})
    assert said in str(refusal.value)


def test_the_settings_of_an_arm_are_those_of_recipe_and_data_that_its_study_sets(tmp_path):
    path = tmp_path / "t.py"
    path.write_text(
        "from vitbench.studies import Arm, Study\n"
        "STUDY = Study(question='?', source='', baseline=Arm('base'), train={'optimizer': 'sgd'}, data={'flip': True},\n"
        "    arms=[Arm('rec', mixup=0.2, optimizer='lion', depth=1), Arm('gap', pool='gap')])\n"
    )
    of_all = {"optimizer": "sgd", "flip": True}
    for arm, settings in (
        ("base", of_all),
        ("gap", of_all),
        ("rec", {"optimizer": "lion", "flip": True, "mixup": 0.2}),
    ):
        assert target_of(f"{path}:{arm}", describe("digits"), QUICK, fields={}).settings == settings
    assert target_of("Ti/8", None, QUICK, fields={}).settings == {}
    assert target_of("pooling:gap", describe("digits"), QUICK, fields={}).settings == {}


def test_what_is_measured_of_the_settings_is_not_told(capsys):
    target = Target("t.py:rec", ViTConfig(), {"mixup": 0.2, "batch_size": 32})
    assert target.tell_unmeasured(["batch_size"]) == ["mixup"]
    assert capsys.readouterr().err == "vitbench: t.py:rec also sets mixup, which this does not measure\n"
    assert Target("Ti/8", ViTConfig()).tell_unmeasured() == [] and capsys.readouterr().err == ""
