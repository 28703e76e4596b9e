"""Do the numbers of figures stay beside those of the same weights, and never beside those of others?"""

from __future__ import annotations

import json

import pytest

from vitbench.inspection.figure_numbers import FORMAT, FigureNumbers, folder_name
from vitbench.models.insides import NoSuchPartError

OURS = {"weights_sha256": "ab"}


def kept(folder, text):
    (folder / "numbers.json").write_text(text)
    numbers = FigureNumbers(folder, OURS)
    numbers.read()
    return numbers


def test_numbers_of_the_same_weights_are_taken_over(tmp_path):
    before = FigureNumbers(tmp_path, OURS)
    before.compute("cka", {"kind": "cka"}, dict)
    numbers = kept(tmp_path, before.to_json())
    assert numbers.figures == {"cka": {"kind": "cka"}} and not numbers.computed


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        json.dumps({"format": FORMAT, "weights_sha256": "cd", "figures": {"cka": {}}, "skipped": {}}),
        json.dumps({"format": FORMAT + 1, **OURS, "figures": {"cka": {}}, "skipped": {}}),
    ],
    ids=["damaged", "no object", "empty", "other weights", "other format"],
)
def test_a_file_of_something_else_is_nothing(tmp_path, text):
    assert not kept(tmp_path, text).figures


def test_a_reason_takes_the_place_of_numbers_and_numbers_that_of_a_reason(tmp_path):
    def no_token():
        raise NoSuchPartError("there is no class token")

    numbers = FigureNumbers(tmp_path, OURS)
    numbers.compute("class-token", {"kind": "class-token"}, dict)
    numbers.compute("class-token", {}, no_token)
    assert numbers.skipped == {"class-token": "there is no class token"} and not numbers.figures
    numbers.compute("class-token", {"kind": "class-token"}, dict)
    assert not numbers.skipped and list(numbers.figures) == ["class-token"]


def test_a_folder_is_named_by_letters_that_every_system_takes():
    assert folder_name("timm:vit_tiny@0a1b2c3d") == "timm-vit_tiny@0a1b2c3d"
    assert folder_name("0123456789abcdef") == "0123456789abcdef"
