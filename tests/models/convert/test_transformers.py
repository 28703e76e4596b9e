"""Is transformers' ViTForImageClassification the same model here?"""

from __future__ import annotations

from typing import Any

import pytest

from tests.models.convert.agreement import AGREEMENT, assert_agree, random_weights
from vitbench.models import convert

transformers = pytest.importorskip("transformers", reason="transformers comes with the extra `test`")

SMALL: dict[str, Any] = {
    "image_size": 16,
    "patch_size": 4,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "hidden_size": 16,
    "intermediate_size": 40,
    "num_labels": 5,
}
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {"pool": "cls", "norm_eps": 1e-12, "activation": "gelu"}),
    "fused attention": ({"attn_implementation": "sdpa"}, {}),
    "no qkv_bias": ({"qkv_bias": False}, {"qkv_bias": False}),
    "tanh approximation": ({"hidden_act": "gelu_new"}, {"activation": "gelu_tanh"}),
    "quick_gelu": ({"hidden_act": "quick_gelu"}, {"activation": "quick_gelu"}),
    "oblong": ({"image_size": (8, 12), "patch_size": (2, 4)}, {"image_size": (8, 12), "patch_size": (2, 4)}),
    "grey images": ({"num_channels": 1}, {"in_channels": 1}),
    "no classifier": ({"num_labels": 0}, {"num_classes": 0}),
}


def small(**arguments: Any) -> Any:
    # Its eager attention takes the softmax in float32 whatever the model's type.
    config = transformers.ViTConfig(**SMALL | {"attn_implementation": "sdpa"} | arguments)
    return transformers.ViTForImageClassification(config)


@pytest.mark.against("transformers", "logits and all gradients", AGREEMENT)
@pytest.mark.parametrize("name", MODELS)
def test_outputs_and_gradients_are_those_of_transformers(name):
    arguments, fields = MODELS[name]
    peer = random_weights(small(**arguments))
    model = assert_agree(convert.from_transformers, peer, logits=lambda images: peer(images).logits)
    assert {field: getattr(model.config, field) for field in fields} == fields


def test_rates_are_those_of_the_modules_and_not_of_the_configuration():
    peer = small(hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.2)
    peer.config.hidden_dropout_prob = 0.0  # the modules still drop
    with pytest.raises(ValueError, match=r"^hidden_dropout_prob 0.1 cannot be expressed"):
        convert.from_transformers(peer)
    assert convert.from_transformers(small(attention_probs_dropout_prob=0.2)).config.attention_dropout == 0.2


def test_eager_attention_is_the_same_model():
    assert convert.from_transformers(small(attn_implementation="eager")).config.width == 16


def test_another_head_is_refused():
    peer = transformers.ViTForMaskedImageModeling(transformers.ViTConfig(**SMALL | {"encoder_stride": 4}))
    with pytest.raises(ValueError, match=r"^module 'ViTForMaskedImageModeling' cannot be expressed"):
        convert.from_transformers(peer)


@pytest.mark.parametrize(
    ("field", "arguments"),
    [("hidden_dropout_prob", {"hidden_dropout_prob": 0.1}), ("hidden_act", {"hidden_act": "silu"})],
)
def test_what_cannot_be_expressed_is_refused_by_its_name_there(field, arguments):
    with pytest.raises(ValueError, match=rf"^{field} .* cannot be expressed: "):
        convert.from_transformers(small(**arguments))


def test_a_trunk_without_a_classifier_is_refused():
    with pytest.raises(ValueError, match=r"^module 'ViTModel' cannot be expressed"):
        convert.from_transformers(transformers.ViTModel(transformers.ViTConfig(**SMALL)))
