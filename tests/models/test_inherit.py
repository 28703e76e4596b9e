"""Does a model that starts from other weights have them, all but the head, and places that fit its own image?"""

from __future__ import annotations

import pytest
import torch
from timm.layers import resample_abs_pos_embed

from tests.models.small_models import images_for, small_config, small_model
from vitbench.models import build_model
from vitbench.models.inherit import inherit, inherited_config


def test_all_weights_but_the_head_s_are_taken_over():
    source = small_model(num_registers=2, layer_scale=0.1)
    config = inherited_config(source.config, {"num_classes": 7})
    model = inherit(source.float(), config, seed=3)
    fresh, before = build_model(config, seed=3).state_dict(), source.state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(value, fresh[name] if name.startswith("head.") else before[name]), name
    images = images_for(config).float()
    torch.testing.assert_close(model.eval().tokens(images), source.tokens(images))
    assert inherit(source, config, seed=3).training


def test_the_head_depends_on_the_seed_and_is_linear_unless_another_is_asked_for():
    source = small_model(head="mlp").float()
    config = inherited_config(source.config, {})
    assert config.head == "linear" and inherited_config(source.config, {"head": "mlp"}).head == "mlp"
    one, two = (inherit(source, config, seed=seed).head.classifier.weight for seed in (0, 1))
    assert not torch.equal(one, two)
    with_hidden = inherit(source, inherited_config(source.config, {"head": "mlp"}), seed=0)
    assert not torch.equal(with_hidden.head.hidden.weight, source.head.hidden.weight)


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_a_head_that_is_kept_gives_the_source_s_logits_and_takes_no_other_classes(head):
    source = small_model(head=head).float()
    config = inherited_config(source.config, {"dropout": 0.1}, keep_head=True)
    assert config.head == head
    model = inherit(source, config, seed=3, keep_head=True).eval()
    images = images_for(config).float()
    torch.testing.assert_close(model(images), source.eval()(images), rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"num_classes 7 is not that of the initial weights.*leave --keep-head out"):
        inherited_config(source.config, {"num_classes": 7}, keep_head=True)


@pytest.mark.against("timm", "resized position tables", "1e-6")
def test_places_are_resampled_for_another_image_size():
    source = small_model().float()
    model = inherit(source, inherited_config(source.config, {"image_size": (16, 20)}), seed=0)
    table = source.position.tables[0].table.detach()
    expected = resample_abs_pos_embed(table[None], (4, 5), (2, 3), num_prefix_tokens=0)[0]
    torch.testing.assert_close(model.position.tables[0].table, expected, rtol=0, atol=1e-6)
    assert torch.equal(model.position.tables[0].class_token, source.position.tables[0].class_token)


def test_the_source_is_left_alone():
    source = small_model().float()
    before = {name: value.clone() for name, value in source.state_dict().items()}
    model = inherit(source, inherited_config(source.config, {}), seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[name]) for name, value in source.state_dict().items())


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"width": 32}, "width 32 is not that of the initial weights, 16"),
        ({"pool": "gap"}, "pool 'gap' is not that of the initial weights, 'cls'"),
        ({"norm_eps": 1e-5}, "norm_eps 1e-05 is not that"),
        ({"image_size": 9}, "patch_size 4 does not divide image_size 9"),
    ],
)
def test_what_the_weights_cannot_follow_is_refused_by_field(wanted, says):
    with pytest.raises(ValueError, match=says):
        inherited_config(small_config(), wanted)


def test_a_configuration_that_was_not_derived_from_the_weights_is_refused():
    with pytest.raises(ValueError, match="depth 2 is not that of the initial weights, 3"):
        inherit(small_model(), small_config(depth=2), seed=0)


def test_rates_may_be_asked_for_and_are_the_source_s_otherwise():
    source = small_config(dropout=0.1, drop_path=0.2)
    config = inherited_config(source, {"dropout": "0.3", "depth": "3"})  # texts, as options are
    assert (config.dropout, config.drop_path) == (0.3, 0.2)
