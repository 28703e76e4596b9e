"""Is every field of a configuration an option of `train`, and does its text become the right value?"""

from __future__ import annotations

import pytest

from vitbench.commands.options import parse
from vitbench.config import DataConfig, TrainConfig, ViTConfig

CONFIGS = (ViTConfig, TrainConfig, DataConfig)


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
        (DataConfig, "train_images", "none", None),
        (ViTConfig, "position", "none", "none"),
        (ViTConfig, "width", "64", "64"),
    ],
)
def test_texts_become_values(config, name, text, value):
    assert parse(name, text, config.model_fields[name]) == value


@pytest.mark.parametrize("text", ["²", "8x", "x", "a", "4.5", "-8", ""])
def test_a_text_that_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="patch_size"):
        parse("patch_size", text, ViTConfig.model_fields["patch_size"])
