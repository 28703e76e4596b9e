"""Is every field of a configuration an option of `train`, and does its text become the right value?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from vitbench.commands.options import ModelFields, parse, with_options
from vitbench.config import DataConfig, TrainConfig, ViTConfig

CONFIGS = (ViTConfig, TrainConfig, DataConfig)


@dataclass(frozen=True)
class Group:
    names: Annotated[list[str] | None, typer.Argument()] = None
    number: int = 3


def test_a_command_gets_groups_of_options_as_objects_and_the_fields_that_were_set():
    received = []

    @with_options
    def command(group: Group, model: ModelFields, last: bool = False) -> None:
        received.append((group, model, last))

    app = typer.Typer()
    app.command()(command)
    arguments = ("a", "b", "--depth", "6", "--number", "4", "--last", "--model-kwargs", "x=[1]")
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert CliRunner().invoke(app, ()).exit_code == 0
    assert received == [(Group(["a", "b"], 4), {"depth": "6", "options": {"x": [1]}}, True), (Group(), {}, False)]


def test_every_field_is_an_option_of_train(vitbench):
    said = vitbench("train", "--help")
    words = said.out.replace(",", " ").replace("/", " ").split()
    fields = {name for config in CONFIGS for name in config.model_fields} - {"dataset"}
    assert said.status == 0
    assert {f"--{name.replace('_', '-')}" for name in fields} <= set(words)


@pytest.mark.parametrize(
    ("config", "name", "text", "value"),
    [
        (ViTConfig, "image_size", "32", 32),
        (ViTConfig, "image_size", "28x32", (28, 32)),
        (ViTConfig, "patch_size", "4,8", (4, 8)),
        (ViTConfig, "stem_layers", "3,4,9", (3, 4, 9)),
        (ViTConfig, "stem_layers", "2", (2,)),
        (ViTConfig, "stem_layers", "none", ()),
        (ViTConfig, "layer_scale", "none", None),
        (TrainConfig, "clip_norm", "None", None),
        (TrainConfig, "betas", "0.9,0.99", (0.9, 0.99)),
        (TrainConfig, "betas", "none", None),
        (DataConfig, "train_images", "none", None),
        (ViTConfig, "position", "none", "none"),
        (ViTConfig, "width", "64", "64"),
    ],
)
def test_texts_become_values(config, name, text, value):
    assert parse(name, text, config.model_fields[name]) == value


@pytest.mark.parametrize("text", ["0.9;0.99", "a,b", "0.9,", ""])
def test_a_text_that_is_no_list_of_numbers_is_refused(text):
    with pytest.raises(ValueError, match=r"betas .* is no list of numbers; give them as in 0.9,0.99"):
        parse("betas", text, TrainConfig.model_fields["betas"])


@pytest.mark.parametrize("text", ["²", "8x", "x", "a", "4.5", "-8", ""])
def test_a_text_that_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="patch_size"):
        parse("patch_size", text, ViTConfig.model_fields["patch_size"])
