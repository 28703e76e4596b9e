"""Does a configuration have one identity, and does it refuse what has no meaning in one line that helps?"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitbench.config import (
    Config,
    DataConfig,
    RunConfig,
    TimmConfig,
    TrainConfig,
    ViTConfig,
    canonical_json,
    one_line,
    run_id,
)

DEFAULT_RUN: dict[str, Any] = {
    "model": {
        "image_size": 224,
        "in_channels": 3,
        "patch_size": 16,
        "width": 192,
        "depth": 12,
        "num_heads": 3,
        "mlp_ratio": 4.0,
        "num_classes": 1000,
        "pool": "cls",
        "position": "learned_1d",
        "position_site": "stem",
        "position_grid": None,
        "stem": "patch",
        "stem_layers": [3, 4, 9],
        "stem_width": 64,
        "stem_groups": 32,
        "head": "linear",
        "num_registers": 0,
        "qk_norm": False,
        "qkv_bias": True,
        "embed_class_token": True,
        "proj_bias": True,
        "pre_norm": False,
        "final_norm": "tokens",
        "norm_eps": 1e-6,
        "layer_scale": None,
        "activation": "gelu",
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "drop_path": 0.0,
    },
    "data": {
        "dataset": "digits",
        "train_images": None,
        "validation_fraction": 0.1,
        "crop_padding": 0,
        "flip": False,
        "mixup": 0.0,
        "cutmix": 0.0,
    },
    "train": {
        "epochs": 20,
        "batch_size": 128,
        "learning_rate": 0.001,
        "weight_decay": 0.05,
        "optimizer": "adamw",
        "warmup_fraction": 0.1,
        "schedule": "cosine",
        "clip_norm": 1.0,
        "label_smoothing": 0.0,
        "ema_decay": None,
        "layer_decay": None,
        "trainable": "all",
        "precision": "auto",
        "compile": "off",
    },
    "seed": 0,
    "init": None,
    "pretraining": None,
    "keep_head": False,
    "harness_version": 1,
}
"""Written by hand: who changes a default or adds a field changes every run_id, and learns of it here."""

OTHER_VALUES: dict[type[Config], dict[str, tuple[dict[str, Any], Any]]] = {
    ViTConfig: {
        "image_size": ({}, 256),
        "in_channels": ({}, 1),
        "patch_size": ({}, 32),
        "width": ({}, 384),
        "depth": ({}, 13),
        "num_heads": ({}, 6),
        "mlp_ratio": ({}, 2.0),
        "num_classes": ({}, 10),
        "pool": ({}, "gap"),
        "position": ({}, "none"),
        "position_site": ({}, "every_layer"),
        "position_grid": ({"position": "sincos_2d"}, 14),
        "stem": ({}, "conv"),
        "stem_layers": ({"stem": "resnet"}, (2, 2, 2)),
        "stem_width": ({"stem": "conv"}, 32),
        "stem_groups": ({"stem": "resnet"}, 16),
        "head": ({}, "mlp"),
        "num_registers": ({}, 4),
        "qk_norm": ({}, True),
        "embed_class_token": ({}, False),
        "qkv_bias": ({}, False),
        "proj_bias": ({}, False),
        "pre_norm": ({}, True),
        "final_norm": ({}, "pooled"),
        "norm_eps": ({}, 1e-5),
        "layer_scale": ({}, 0.1),
        "activation": ({}, "swiglu"),
        "dropout": ({}, 0.1),
        "attention_dropout": ({}, 0.1),
        "drop_path": ({}, 0.1),
    },
    DataConfig: {
        "dataset": ({}, "shapes"),
        "train_images": ({}, 100),
        "validation_fraction": ({}, 0.2),
        "crop_padding": ({}, 4),
        "flip": ({}, True),
        "mixup": ({}, 0.2),
        "cutmix": ({}, 1.0),
    },
    TrainConfig: {
        "epochs": ({}, 21),
        "batch_size": ({}, 64),
        "learning_rate": ({}, 2e-3),
        "weight_decay": ({}, 0.0),
        "optimizer": ({}, "sgd"),
        "warmup_fraction": ({}, 0.0),
        "schedule": ({}, "linear"),
        "clip_norm": ({}, None),
        "label_smoothing": ({}, 0.1),
        "ema_decay": ({}, 0.99),
        "layer_decay": ({}, 0.75),
        "trainable": ({}, "attention"),
        "precision": ({}, "fp32"),
        "compile": ({}, "auto"),
    },
}
"""Field → (what must hold for the field to have a meaning, another value than the default)."""


def reference_id(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def as_run(config: Config) -> RunConfig:
    fine_tuning = isinstance(config, TrainConfig) and config.trainable != "all"
    part = {ViTConfig: "model", DataConfig: "data", TrainConfig: "train"}[type(config)]
    return RunConfig(init="timm:a@1a2b3c4d" if fine_tuning else None, **{part: config})


def test_the_default_run_has_the_id_of_its_written_out_json():
    assert RunConfig().run_id == run_id(DEFAULT_RUN) == reference_id(DEFAULT_RUN)
    assert json.loads(RunConfig().canonical_json()) == DEFAULT_RUN


def test_canonical_json_has_sorted_keys_and_no_spaces():
    assert canonical_json({"b": [1, 2.5], "a": {"d": None, "c": True}}) == '{"a":{"c":true,"d":null},"b":[1,2.5]}'
    text = RunConfig().canonical_json()
    assert " " not in text and text.startswith('{"data":{"crop_padding":0,')


def test_a_square_given_as_a_pair_is_the_same_configuration():
    pair, number = ViTConfig(image_size=(32, 32), patch_size=[4, 4]), ViTConfig(image_size=32, patch_size=4)
    assert pair == number and as_run(pair).run_id == as_run(number).run_id
    assert pair.image_hw == (32, 32) and pair.grid == (8, 8) and ViTConfig(image_size=(32, 48)).grid == (2, 3)


def test_a_configuration_read_back_from_json_has_the_same_id():
    config = ViTConfig(image_size=(32, 48), stem="resnet", stem_layers=(2, 2, 2), layer_scale=1e-5)
    text = as_run(config).canonical_json()
    read = RunConfig.model_validate(json.loads(text))
    assert read == as_run(config) and read.run_id == as_run(config).run_id


def test_the_order_of_fields_and_int_or_float_does_not_matter():
    one = ViTConfig(width=96, depth=2, mlp_ratio=4, dropout=0)
    other = ViTConfig(**dict(reversed(one.model_dump().items())))
    assert as_run(one).run_id == as_run(other).run_id == as_run(ViTConfig(depth=2, width=96)).run_id


def test_a_whole_number_of_epochs_is_the_same_run_however_it_is_written():
    whole = RunConfig(train=TrainConfig(epochs=2))
    for written in (2, 2.0, "2", "2.0", 2e0):
        other = RunConfig(train=TrainConfig(epochs=written))
        assert other.canonical_json() == whole.canonical_json() and '"epochs":2,' in other.canonical_json()
    assert TrainConfig(epochs="2.5").epochs == 2.5
    assert '"epochs":2.5,' in RunConfig(train=TrainConfig(epochs=2.5)).canonical_json()


@pytest.mark.parametrize("epochs", [-1, -0.5, float("nan"), float("inf"), "many", None])
def test_epochs_that_are_no_number_of_passes_are_refused_in_a_line(epochs):
    with pytest.raises(ValueError) as caught:
        TrainConfig(epochs=epochs)
    line = one_line(caught.value)
    assert line.startswith(f"epochs {epochs!r}: ") and "\n" not in line


@pytest.mark.parametrize("kind", OTHER_VALUES)
def test_a_change_of_any_single_field_changes_the_id(kind):
    assert set(OTHER_VALUES[kind]) == set(kind.model_fields)
    ids = {RunConfig().run_id}
    for field, (others, value) in OTHER_VALUES[kind].items():
        before = kind(**others)
        after = before.replace(**{field: value})
        assert getattr(after, field) == value and getattr(before, field) != value
        assert after.replace(**{field: getattr(before, field)}) == before
        assert as_run(after).run_id != as_run(before).run_id, field
        ids.add(as_run(after).run_id)
    assert len(ids) == 1 + len(OTHER_VALUES[kind])


def test_seed_init_and_harness_version_are_part_of_the_id():
    init = RunConfig(init="timm:a@1a2b3c4d")
    started = (init, init.replace(keep_head=True), RunConfig(pretraining=RunConfig()), RunConfig(pretraining=init))
    others = (RunConfig(seed=1), RunConfig(harness_version=2), *started)
    assert len({RunConfig().run_id, *(other.run_id for other in others)}) == 7
    assert set(RunConfig.model_fields) == {
        *("model", "data", "train", "seed", "init", "pretraining", "keep_head", "harness_version")
    }


@pytest.mark.parametrize("config", [ViTConfig(), DataConfig(), TrainConfig(), RunConfig()])
def test_a_configuration_cannot_be_changed_in_place(config):
    field = next(iter(type(config).model_fields))
    with pytest.raises(ValueError, match="frozen"):
        setattr(config, field, getattr(config, field))


def test_one_value_is_not_left_to_batch_norm():
    model = ViTConfig(stem="conv", image_size=16)
    with pytest.raises(ValueError, match="batch_size 1 leaves BatchNorm one value"):
        RunConfig(model=model, train=TrainConfig(batch_size=1))
    assert RunConfig(model=model, train=TrainConfig(batch_size=2))


def test_replace_validates_like_a_new_configuration():
    with pytest.raises(ValueError, match="num_heads 5 does not divide width 192"):
        ViTConfig().replace(num_heads=5)


REFUSALS: list[tuple[dict[str, Any], list[str]]] = [
    # Each with what its one line must hold: field, value, remedy.
    ({"widht": 64}, ["ViTConfig has no field 'widht'", "did you mean width?"]),
    ({"zzzzz": 1}, ["no field 'zzzzz'", "its fields are image_size, in_channels"]),
    ({"patch_size": 15}, ["patch_size 15", "image_size 224", "try one of [1, 2, 4, 7, 8, 14, 16, 28, 32"]),
    ({"image_size": (32, 30)}, ["patch_size 16", "image_size 30", "try one of [1, 2, 3, 5, 6, 10, 15, 30]"]),
    ({"patch_size": (16, 15)}, ["patch_size 15", "image_size 224", "try one of"]),
    ({"num_heads": 5}, ["num_heads 5", "width 192", "try one of [1, 2, 3, 4, 6, 8"]),
    ({"position": "none", "position_site": "every_layer"}, ["position_site 'every_layer'", "'none'", "use stem"]),
    ({"position": "relative"}, ["position_site 'stem'", "'relative'", "use every_layer or every_layer_shared"]),
    ({"position": "rope_2d"}, ["position_site 'stem'", "'rope_2d'", "use every_layer"]),
    (
        {"position": "sincos_2d", "position_site": "every_layer_shared"},
        ["position_site 'every_layer_shared'", "'sincos_2d'", "use stem or every_layer"],
    ),
    ({"position": "learned_2d", "width": 63}, ["width 63", "learned_2d", "make it even"]),
    ({"position": "sincos_2d", "width": 66}, ["width 66", "multiple of 4", "sincos_2d"]),
    (
        {"position": "rope_2d", "position_site": "every_layer", "width": 66},
        ["num_heads 3", "22 channels", "multiple of 4"],
    ),
    ({"mlp_ratio": 0.001}, ["mlp_ratio 0.001", "width 192", "make it larger"]),
    ({"qk_norm": True, "num_heads": 192}, ["num_heads 192", "1 channel", "qk_norm"]),
    ({"width": 1, "num_heads": 1}, ["width 1", "LayerNorm leaves nothing", "use 2 or more"]),
    ({"position_grid": 14}, ["position_grid 14", "'learned_1d'", "leave it out"]),
    ({"embed_class_token": False, "pool": "gap"}, ["embed_class_token False", "'gap'", "leave it out"]),
    ({"embed_class_token": False, "position": "none"}, ["embed_class_token False", "'none'", "leave it out"]),
    ({"embed_class_token": False, "position": "learned_2d"}, ["embed_class_token False", "'learned_2d'"]),
    ({"drop_path": 0.1, "depth": 1}, ["drop_path 0.1", "depth 1", "use depth 2 or more"]),
    ({"stem": "patch_norm", "patch_size": 1, "in_channels": 1}, ["patch_size 1", "one value", "larger patch_size"]),
    ({"stem_layers": (2, 2)}, ["stem_layers (2, 2)", "'patch'", "use stem='resnet'"]),
    ({"stem": "conv", "stem_layers": (2, 2)}, ["stem_layers (2, 2)", "'conv'", "use stem='resnet'"]),
    ({"stem_width": 32}, ["stem_width 32", "'patch'", "leave it out"]),
    ({"stem": "patch_norm", "stem_width": 32}, ["stem_width 32", "'patch_norm'", "leave it out"]),
    ({"stem": "conv", "patch_size": (16, 32)}, ["patch_size (16, 32)", "must be square", "'conv'"]),
    ({"stem": "resnet", "patch_size": (16, 32)}, ["patch_size (16, 32)", "must be square", "'resnet'"]),
    ({"stem": "patch", "stem_layers": ()}, ["stem_layers ()", "'patch'", "use stem='resnet'"]),
    ({"stem": "resnet", "stem_layers": (), "patch_size": (16, 32)}, ["patch_size (16, 32)", "must be square"]),
    ({"stem": "resnet", "stem_layers": (1,) * 5}, ["stem_layers (1, 1, 1, 1, 1)", "1 to 4 stages"]),
    ({"stem": "resnet", "patch_size": 32}, ["patch_size 32", "3 ResNet stages", "try one of [4, 8, 16]"]),
    ({"stem_groups": 4}, ["stem_groups 4", "'patch'", "use stem='resnet'"]),
    ({"stem": "conv", "stem_groups": 4}, ["stem_groups 4", "'conv'", "use stem='resnet'"]),
    ({"stem": "resnet", "stem_width": 12}, ["stem_width 12", "multiple of 8"]),
    (
        {"stem": "resnet", "stem_layers": (1,), "stem_width": 16, "image_size": 4, "patch_size": 4},
        ["image_size 4", "one place at stride 4", "GroupNorm", "use a larger image_size"],
    ),
    ({"stem": "conv", "patch_size": 14}, ["patch_size 14", "power of two", "'conv'"]),
    ({"stem": "conv", "patch_size": 1}, ["patch_size 1", "power of two, 2 or more"]),
    ({"image_size": 0}, ["image_size 0", "greater than 0"]),
    ({"image_size": (32, -1)}, ["image_size -1", "greater than 0"]),
    ({"image_size": (32, 32, 48)}, ["image_size (32, 32, 48)", "at most 2"]),
    ({"patch_size": "big"}, ["patch_size 'big'", "valid integer"]),
    ({"patch_size": (8, "x")}, ["patch_size 'x'", "valid integer"]),
    ({"stem": "resnet", "stem_layers": (3, 0)}, ["stem_layers 0", "greater than 0"]),
    ({"pool": "max"}, ["pool 'max'", "'cls', 'gap', 'mean_all' or 'map'"]),
    ({"dropout": 1.0}, ["dropout 1.0", "less than 1"]),
    ({"attention_dropout": -0.1}, ["attention_dropout -0.1", "greater than or equal to 0"]),
    ({"layer_scale": 0.0}, ["layer_scale 0.0", "greater than 0"]),
    ({"mlp_ratio": float("nan")}, ["mlp_ratio nan", "finite"]),
    ({"layer_scale": 1e300}, ["layer_scale 1e+300", "less than or equal to 1000000"]),
    ({"mlp_ratio": 1e308}, ["mlp_ratio 1e+308", "less than or equal to 1000000"]),
    ({"norm_eps": 0.0}, ["norm_eps 0.0", "greater than or equal to"]),
    ({"norm_eps": 1.0}, ["norm_eps 1.0", "less than 1"]),
    ({"final_norm": "both"}, ["final_norm 'both'", "'tokens', 'pooled' or 'none'"]),
    ({"image_size": 10**12}, [f"image_size {10**12}", "less than or equal to 1000000"]),
    ({"image_size": (32, 2**31)}, [f"image_size {2**31}", "less than or equal to 1000000"]),
    ({"depth": 2**31}, [f"depth {2**31}", "less than or equal to 10000"]),
    ({"stem": "resnet", "stem_layers": (1, 2**31, 1)}, [f"stem_layers {2**31}", "less than or equal to 10000"]),
    ({"num_registers": -1}, ["num_registers -1", "greater than or equal to 0"]),
    ({"depth": 2.5}, ["depth 2.5", "valid integer"]),
]


@pytest.mark.parametrize(("fields", "parts"), REFUSALS, ids=lambda v: " ".join(map(str, v)) if type(v) is dict else "")
def test_a_refusal_is_one_line_with_field_value_and_remedy(fields, parts):
    with pytest.raises(ValueError) as caught:
        ViTConfig(**fields)
    line = one_line(caught.value)
    assert "\n" not in line and "constrained" not in line and "pydantic" not in line
    for part in parts:
        assert part in line, line


@pytest.mark.parametrize("inner", [{"model": {"depth": 0}}, {"train": {"epochs": -1}}, {"data": {"mixup": -1}}])
def test_a_refusal_inside_a_run_names_the_path_to_the_field(inner):
    with pytest.raises(ValueError) as caught:
        RunConfig(**inner)
    part, fields = next(iter(inner.items()))
    field, value = next(iter(fields.items()))
    assert one_line(caught.value).startswith(f"{part}.{field} {value!r}: ")


def test_one_line_folds_a_plain_error_of_several_lines():
    assert one_line(ValueError("first\n  second")) == "first second"


ANYTHING = {
    "image_size": [0, 1, 8, 224, (8, 12), (8, -4), (1, 2, 3), "x", None],
    "patch_size": [0, 1, 2, 3, 4, 8, 16, (2, 4), (4, 0), "x"],
    "in_channels": [0, 1, 3],
    "width": [0, 1, 3, 16, 18, 24, 192],
    "depth": [0, 1, 2],
    "num_heads": [0, 1, 2, 3, 16],
    "mlp_ratio": [-1, 0, 0.001, 2, float("inf")],
    "num_classes": [0, 1, 5],
    "pool": ["cls", "gap", "mean_all", "map", "max"],
    "position": ["none", "learned_1d", "learned_2d", "relative", "sincos_2d", "rope_2d", "rope"],
    "position_site": ["stem", "every_layer", "every_layer_shared", "last"],
    "position_grid": [None, 0, 4, (2, 3)],
    "stem": ["patch", "patch_norm", "conv", "resnet", "vgg"],
    "stem_layers": [(), (1,), (1, 1), (1, 0), (1,) * 5, 3],
    "stem_width": [0, 8, 12],
    "stem_groups": [0, 1, 8],
    "head": ["linear", "mlp", "none"],
    "num_registers": [-1, 0, 2],
    "qk_norm": [False, True, "perhaps"],
    "layer_scale": [None, 0.0, 0.1],
    "activation": ["gelu", "quick_gelu", "swiglu", "tanh"],
    "embed_class_token": [False, True],
    "proj_bias": [False, True],
    "pre_norm": [False, True],
    "final_norm": ["tokens", "pooled", "none", "both"],
    "norm_eps": [0.0, 1e-12, 1e-5, 1.0],
    "dropout": [-0.1, 0.0, 0.5, 1.0],
    "drop_path": [0.0, 0.5, 1.0],
}


@settings(deadline=None, max_examples=300)
@given(fields=st.fixed_dictionaries({}, optional={name: st.sampled_from(v) for name, v in ANYTHING.items()}))
def test_whatever_is_asked_is_either_valid_or_refused_in_one_line_that_names_a_field(fields):
    try:
        config = ViTConfig(**fields)
    except ValueError as error:
        line = one_line(error)
        assert line.split()[0] in ViTConfig.model_fields and "\n" not in line
    else:
        assert config.num_patches * config.patch_hw[0] * config.patch_hw[1] == config.image_hw[0] * config.image_hw[1]
        assert config.num_tokens == config.num_patches + config.num_registers + (config.pool in ("cls", "mean_all"))
        assert config.head_dim * config.num_heads == config.width
        assert ViTConfig.model_validate_json(config.canonical_json()) == config


TEXTS = st.one_of(
    st.sampled_from(
        ["none", "nan", "inf", "true", "8", "08", "+8", "8.0", "1e3", "4x8", "4x", "x", "1,1", "3,4,9", ","]
    ),
    st.sampled_from([str(value) for values in ANYTHING.values() for value in values]),
    st.text(st.characters(max_codepoint=126), max_size=5),
)


@settings(deadline=None, max_examples=300)
@given(texts=st.dictionaries(st.sampled_from(sorted(ViTConfig.model_fields)), TEXTS, min_size=1, max_size=4))
def test_whatever_is_typed_is_either_valid_or_refused_in_one_line_that_names_a_field(texts):
    from vitbench.commands.options import parse

    try:
        ViTConfig(**{name: parse(name, text, ViTConfig.model_fields[name]) for name, text in texts.items()})
    except ValueError as error:
        line = one_line(error)
        assert line.split()[0] in ViTConfig.model_fields and "\n" not in line


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
    assert counts == {"ViTConfig": 18, "TimmConfig": 3, "DataConfig": 5, "TrainConfig": 9, "RunConfig": 1}


def test_a_crop_is_padded_by_no_more_than_the_image_is_large():
    model = ViTConfig(image_size=(8, 16), patch_size=8)
    RunConfig(model=model, data=DataConfig(crop_padding=16))
    with pytest.raises(ValueError, match="crop_padding 17 is more than image_size"):
        RunConfig(model=model, data=DataConfig(crop_padding=17))


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
