from itertools import combinations

import pytest

from vitbench.config import DataConfig, TimmConfig, TrainConfig, ViTConfig
from vitbench.studies import Arm


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
