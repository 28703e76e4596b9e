"""Does a check see what every field of recipe and data changes, and name the fields that change nothing?"""

from __future__ import annotations

import re

import pytest

from tests.inspection.checked import checked_arms
from vitbench.config import DataConfig, TrainConfig

EFFECTS = {
    "epochs": ("epochs=2.0", "number of steps"),
    "batch_size": ("batch_size=32", "batch size"),
    "weight_decay": ("weight_decay=0.5", "weights after a few steps"),
    "optimizer": ("optimizer='lion'", "weights after a few steps"),
    "betas": ("betas=(0.8, 0.9)", "weights after a few steps"),
    "momentum": ("optimizer='sgd', momentum=0.5", "weights after a few steps"),
    "eps": ("eps=1e-4", "weights after a few steps"),
    "warmup_fraction": ("warmup_fraction=0.5", "learning rate"),
    "schedule": ("schedule='linear'", "learning rate"),
    "min_learning_rate": ("min_learning_rate=1e-5", "learning rate"),
    "clip_norm": ("clip_norm=0.01", "weights after a few steps"),
    "loss": ("loss='binary_cross_entropy'", "loss"),
    "label_smoothing": ("label_smoothing=0.1", "loss"),
    "ema_decay": ("ema_decay=0.2", "averaged weights"),
    "layer_decay": ("layer_decay=0.7", "learning rate"),
    "trainable": ("start='base', trainable='attention'", "weights after a few steps"),
    "precision": ("precision='fp32'", "loss"),
    "compile": ("compile='on'", "speed"),
    "crop_padding": ("crop_padding=2", "training batches"),
    "padding_mode": ("crop_padding=2, padding_mode='reflect'", "training batches"),
    "crop_scale": ("crop_scale=(0.3, 1.0)", "training batches"),
    "crop_ratio": ("crop_scale=(0.3, 1.0), crop_ratio=(1.0, 1.0)", "training batches"),
    "crop_interpolation": ("crop_scale=(0.3, 1.0), crop_interpolation='bilinear'", "training batches"),
    "flip": ("flip=True", "training batches"),
    "auto_augment": ("auto_augment='rand-m9-mstd0.5-inc1'", "training batches"),
    "color_jitter": ("color_jitter=0.4", "training batches"),
    "random_erasing": ("random_erasing=0.25", "training batches"),
    "erasing_mode": ("random_erasing=0.25, erasing_mode='const'", "training batches"),
    "mixup": ("mixup=0.2", "training batches"),
    "cutmix": ("cutmix=1.0", "training batches"),
    "repeated_augmentation": ("repeated_augmentation=3", "training batches"),
    "eval_crop": ("eval_crop=0.75", "evaluation images"),
}
"""Field → (an arm in which it acts, what it changes first there)."""
NO_ARMS = {"learning_rate", "dataset", "train_images", "validation_fraction"}
MODEL = {
    "drop path": ("drop_path=0.2", {"drop_path": "logits in training"}),
    "dropout": ("dropout=0.2", {"dropout": "logits in training"}),
    "no bias": ("qkv_bias=False", {"qkv_bias": "logits once weights have moved"}),
    "RoPE": ("position='rope_2d', position_site='every_layer'", {"position": "logits", "position_site": "logits"}),
    "timm": ("timm='resnet18', options={'layers': [1, 1, 1, 1], 'channels': [8, 8, 8, 8]}", {"model": "logits"}),
    "two": ("pool='gap', label_smoothing=0.1", {"pool": "logits", "label_smoothing": "loss"}),
    "half the images": ("fraction=0.5", {"epochs": "number of steps", "train_images": "training batches"}),
}
DEAD = {
    "crop too small": ("eval_crop=0.9", r"eval_crop 0.9 has no effect: .* those of eval_crop 1.0"),
    "average too slow": ("ema_decay=0.9999", r"ema_decay 0.9999 has no effect: .* those of ema_decay 0.999"),
}
WARNED = {
    "clipped seldom": ("clip_norm=1000.0", r"clip_norm 1000.0 changes nothing in the first 3 steps.* norms are 0\.\d+")
}


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    arms = {f"field {name}": fields for name, (fields, _) in EFFECTS.items()}
    arms |= {name: fields for name, (fields, _) in {**MODEL, **DEAD, **WARNED}.items()}
    return checked_arms(tmp_path_factory.mktemp("effects"), arms, baseline="ema_decay=0.999")


def test_every_field_that_arms_may_change_is_tried_here():
    assert {*TrainConfig.model_fields, *DataConfig.model_fields} - NO_ARMS == {*EFFECTS}


@pytest.mark.parametrize("field", EFFECTS)
def test_the_effect_of_each_field_is_seen(checked, field):
    arm, (_, effect) = checked[f"field {field}"], EFFECTS[field]
    assert (arm.effects[field], arm.errors) == (effect, [])


@pytest.mark.parametrize("name", MODEL)
def test_effects_of_models_and_pairs_of_fields_are_seen(checked, name):
    effects = {field: effect for field, effect in checked[name].effects.items() if field != "ema_decay"}
    assert (effects, checked[name].errors) == (MODEL[name][1], [])


@pytest.mark.parametrize("name", DEAD)
def test_a_dead_field_is_an_error_that_names_it(checked, name):
    ((check, text),) = [(problem.check, problem.text) for problem in checked[name].errors]
    assert check == "difference" and re.search(DEAD[name][1], text), text


@pytest.mark.parametrize("name", WARNED)
def test_what_may_act_later_is_a_warning(checked, name):
    assert checked[name].errors == []
    (warning,) = checked[name].warnings
    assert warning.check == "difference" and re.search(WARNED[name][1], warning.text), warning
