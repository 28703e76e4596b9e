from itertools import combinations

import pytest

from vitbench.config import DataConfig, TimmConfig, TrainConfig, ViTConfig
from vitbench.studies import Arm, Study

REFUSED = ("in_channels", "num_classes", "dataset", "learning_rate", "train_images", "validation_fraction")


def test_no_two_configurations_have_a_field_of_one_name_so_that_an_arm_can_take_all():
    configs = [{*config.model_fields} for config in (ViTConfig, TrainConfig, DataConfig)]
    for first, second in combinations(configs, 2):
        assert not first & second
    arms_fields = {*Arm.model_fields}
    assert arms_fields & set().union(*configs) == {"epochs"}  # of an arm it is a factor on the recipe's
    assert not arms_fields & {*TimmConfig.model_fields} - {"timm", "options"}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"epochs": 0}, "arm 'on': epochs 0 is how many times the recipe's it trains; give more than 0, or a start"),
        ({"epochs": -1, "start": "cls"}, "arm 'on': epochs -1 is how many times"),
    ],
)
def test_an_arm_that_no_study_could_run_is_refused_in_one_line(fields, says):
    with pytest.raises(ValueError, match=says) as refusal:
        Arm("on", **fields)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"label_smoothing": 2}, "arm 'on': label_smoothing 2: Input should be less than 1"),
        ({"batch_size": 0}, "arm 'on': batch_size 0: Input should be greater than 0"),
        ({"batch_size": 6.5}, "arm 'on': batch_size 6.5: Input should be a valid integer"),
        ({"schedule": "step"}, "arm 'on': schedule 'step': Input should be 'cosine' or 'linear'"),
        (
            {"auto_augment": "nope"},
            "arm 'on': auto_augment 'nope': must begin with one of rand, original, .*; give 'rand-m9",
        ),
        ({"auto_augment": "rand-n0"}, "arm 'on': auto_augment 'rand-n0': n must be from 1 to 100"),
        ({"crop_scale": (1.0, 0.5)}, r"arm 'on': crop_scale \(1.0, 0.5\): must be the least .*; give \(0.5, 1\)"),
        (
            {"crop_ratio": (2, 1)},
            r"arm 'on': crop_ratio \(2, 1\): must be the least value and the largest; give \(1, 2\)",
        ),
        ({"mixup": float("nan")}, "arm 'on': mixup nan: "),
        ({"clip_norm": -1}, "arm 'on': clip_norm -1: Input should be greater than 0"),
        ({"betas": 0.9}, "arm 'on': betas 0.9: "),
        ({"pool": "mean"}, "arm 'on': pool 'mean': "),
        ({"patch_size": None}, "arm 'on': patch_size None: "),
        ({"timm": "resnet18", "image_size": -1}, "arm 'on': image_size -1: Input should be greater than 0"),
        ({"timm": "resnet18", "dropout": 0.1}, "arm 'on': dropout is for ViTs, and timm's models take options"),
    ],
)
def test_a_value_that_no_base_takes_is_refused_at_birth(fields, says):
    with pytest.raises(ValueError, match=says) as refusal:
        Arm("on", **fields)
    assert "\n" not in str(refusal.value)


def test_every_field_that_an_arm_may_set_takes_its_own_default():
    for config in (ViTConfig, TrainConfig, DataConfig):
        defaults = config()
        for field in config.model_fields:
            if field not in (*REFUSED, "epochs"):
                assert Arm("as it is", **{field: getattr(defaults, field)}).changes == {field: getattr(defaults, field)}


@pytest.mark.parametrize("field", REFUSED)
def test_what_no_arm_may_set_is_refused_with_a_reason_and_a_remedy(field):
    with pytest.raises(ValueError, match=f"arm 'on': {field} (is|are) .*(leave it out|give|with)"):
        Arm("on", **{field: 1})


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"auto_augment": "nope"}, "data: auto_augment 'nope': must begin with one of rand"),
        ({"crop_scale": (1.0, 0.5)}, r"data: crop_scale \(1.0, 0.5\): must be the least value and the largest"),
    ],
)
def test_a_study_refuses_at_birth_what_its_arms_do(data, says):
    with pytest.raises(ValueError, match=says):
        Study(question="?", source="?", baseline=Arm("as it is"), arms=[Arm("gap", pool="gap")], data=data)
