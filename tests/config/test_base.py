"""Are configurations frozen, checked, bounded, and written as one canonical JSON?"""

from __future__ import annotations

import re
from collections import Counter

import pytest

from vitbench.config import (
    Config,
    DataConfig,
    RunConfig,
    TimmConfig,
    TrainConfig,
    ViTConfig,
    canonical_json,
)
from vitbench.refusals import one_line


def test_canonical_json_has_sorted_keys_and_no_spaces():
    assert canonical_json({"b": [1, 2.5], "a": {"d": None, "c": True}}) == '{"a":{"c":true,"d":null},"b":[1,2.5]}'
    text = RunConfig().canonical_json()
    assert " " not in text and text.startswith('{"data":{"auto_augment":null,')


@pytest.mark.parametrize("config", [ViTConfig(), DataConfig(), TrainConfig(), RunConfig()])
def test_a_configuration_cannot_be_changed_in_place(config):
    field = next(iter(type(config).model_fields))
    with pytest.raises(ValueError, match="frozen"):
        setattr(config, field, getattr(config, field))


def test_replace_validates_like_a_new_configuration():
    with pytest.raises(ValueError, match="num_heads 5 does not divide width 192"):
        ViTConfig().replace(num_heads=5)


def number_fields() -> list[tuple[type[Config], str]]:
    """Every field of every configuration that takes a number, alone or in a tuple."""
    return [
        (config, name)
        for config in (ViTConfig, TimmConfig, DataConfig, TrainConfig, RunConfig)
        for name, field in config.model_fields.items()
        if re.search(r"\b(int|float)\b", str(field.annotation)) and name != "harness_version"
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), -1, 1e300, 10**30, "1e300", str(10**30)])
@pytest.mark.parametrize(("config", "name"), number_fields(), ids=lambda v: getattr(v, "__name__", v))
def test_every_number_has_finite_bounds(config, name, value):
    needed = {"timm": "resnet18"} if config is TimmConfig else {}
    with pytest.raises(ValueError) as caught:
        config(**{**needed, name: value})
    line = one_line(caught.value)
    assert line.startswith(f"{name} ") and "\n" not in line, line


def test_there_are_as_many_numbers_as_were_counted_by_hand():
    counts = Counter(config.__name__ for config, _ in number_fields())
    assert counts == {"ViTConfig": 18, "TimmConfig": 3, "DataConfig": 11, "TrainConfig": 13, "RunConfig": 1}
