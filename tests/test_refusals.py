"""Is a refusal told in one line that names field, value and remedy?"""

from __future__ import annotations

import pytest

from vitbench.config import RunConfig, TrainConfig, ViTConfig
from vitbench.refusals import one_line


@pytest.mark.parametrize("inner", [{"model": {"depth": 0}}, {"train": {"epochs": -1}}, {"data": {"mixup": -1}}])
def test_a_refusal_inside_a_run_names_the_path_to_the_field(inner):
    with pytest.raises(ValueError) as caught:
        RunConfig(**inner)
    part, fields = next(iter(inner.items()))
    field, value = next(iter(fields.items()))
    assert one_line(caught.value).startswith(f"{part}.{field} {value!r}: ")


def test_one_line_folds_a_plain_error_of_several_lines():
    assert one_line(ValueError("first\n  second")) == "first second"


class Shapeless:
    """With the representation that Python gives."""


def test_a_refusal_has_no_address_in_memory():
    with pytest.raises(ValueError) as caught:
        ViTConfig(depth=Shapeless())
    assert one_line(caught.value).startswith(f"depth <{__name__}.Shapeless object>: ")
    assert one_line(ValueError(f"{Shapeless()!r} is no Arm")) == f"<{__name__}.Shapeless object> is no Arm"


def test_of_a_long_refusal_the_middle_is_left_out():
    line = one_line(ValueError(f"dataset {'x' * 100_000} is not there; give another"))
    assert len(line) == 600 and line.startswith("dataset xxx") and line.endswith("xxx is not there; give another")


def test_a_size_of_one_value_is_not_said_to_be_missing():
    with pytest.raises(ValueError) as caught:
        ViTConfig(patch_size=(4,))
    assert one_line(caught.value) == "patch_size (4,): It has too few values; give one number or two"
    with pytest.raises(ValueError) as caught:
        TrainConfig(betas=(0.9,))
    assert one_line(caught.value) == "betas (0.9,): It has too few values; give two numbers"
