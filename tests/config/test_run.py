"""Has a run one identity, which every field and nothing else changes?"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from vitbench.config import (
    Config,
    DataConfig,
    RunConfig,
    TrainConfig,
    ViTConfig,
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
        "attention": "softmax",
        "mlp": "mlp",
        "norm": "layer_norm",
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
        "padding_mode": "zeros",
        "crop_scale": None,
        "crop_ratio": [0.75, 4 / 3],
        "crop_interpolation": "bicubic",
        "flip": False,
        "auto_augment": None,
        "color_jitter": 0.0,
        "random_erasing": 0.0,
        "erasing_mode": "pixel",
        "mixup": 0.0,
        "cutmix": 0.0,
        "repeated_augmentation": 1,
        "eval_crop": 1.0,
    },
    "train": {
        "epochs": 20,
        "batch_size": 128,
        "learning_rate": 0.001,
        "weight_decay": 0.05,
        "optimizer": "adamw",
        "betas": None,
        "momentum": None,
        "eps": None,
        "warmup_fraction": 0.1,
        "schedule": "cosine",
        "min_learning_rate": 0.0,
        "clip_norm": 1.0,
        "loss": "cross_entropy",
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
        "attention": ({}, "ReLUAttention@1a2b3c4d"),
        "mlp": ({}, "Experts@1a2b3c4d"),
        "norm": ({}, "RMSNorm@1a2b3c4d"),
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
        "padding_mode": ({"crop_padding": 4}, "reflect"),
        "crop_scale": ({}, (0.08, 1.0)),
        "crop_ratio": ({"crop_scale": (0.08, 1.0)}, (0.5, 2.0)),
        "crop_interpolation": ({"crop_scale": (0.08, 1.0)}, "bilinear"),
        "flip": ({}, True),
        "auto_augment": ({}, "rand-m9-mstd0.5-inc1"),
        "color_jitter": ({}, 0.3),
        "random_erasing": ({}, 0.25),
        "erasing_mode": ({"random_erasing": 0.25}, "const"),
        "mixup": ({}, 0.2),
        "cutmix": ({}, 1.0),
        "repeated_augmentation": ({}, 3),
        "eval_crop": ({}, 0.875),
    },
    TrainConfig: {
        "epochs": ({}, 21),
        "batch_size": ({}, 64),
        "learning_rate": ({}, 2e-3),
        "weight_decay": ({}, 0.0),
        "optimizer": ({}, "sgd"),
        "betas": ({}, (0.9, 0.99)),
        "momentum": ({"optimizer": "muon"}, 0.9),
        "eps": ({}, 1e-6),
        "warmup_fraction": ({}, 0.0),
        "schedule": ({}, "linear"),
        "min_learning_rate": ({}, 1e-5),
        "clip_norm": ({}, None),
        "loss": ({}, "binary_cross_entropy"),
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
    config = ViTConfig(width=96, depth=2, mlp_ratio=4, dropout=0)
    other = ViTConfig(**dict(reversed(config.model_dump().items())))
    assert as_run(config).run_id == as_run(other).run_id == as_run(ViTConfig(depth=2, width=96)).run_id


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
    others = (RunConfig(seed=1), RunConfig(harness_version=2), RunConfig(evaluate=("shift",)), *started)
    assert len({RunConfig().run_id, *(other.run_id for other in others)}) == 8
    assert set(RunConfig.model_fields) == {
        *("model", "data", "train", "seed", "init", "pretraining", "keep_head", "evaluate", "harness_version")
    }


def test_one_value_is_not_left_to_batch_norm():
    model = ViTConfig(stem="conv", image_size=16)
    with pytest.raises(ValueError, match="batch_size 1 leaves BatchNorm one value"):
        RunConfig(model=model, train=TrainConfig(batch_size=1))
    assert RunConfig(model=model, train=TrainConfig(batch_size=2))


def test_a_crop_is_padded_by_no_more_than_the_image_is_large():
    model = ViTConfig(image_size=(8, 16), patch_size=8)
    RunConfig(model=model, data=DataConfig(crop_padding=16))
    with pytest.raises(ValueError, match="crop_padding 17 is more than image_size"):
        RunConfig(model=model, data=DataConfig(crop_padding=17))
