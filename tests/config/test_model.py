"""Does a model's configuration refuse what has no meaning, in one line that helps?"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitbench.config import ViTConfig
from vitbench.refusals import one_line

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
