"""Does a model of timm that starts from a run of it have its weights, all but the head, and is anything else refused?"""

from __future__ import annotations

import pytest
import timm
import torch

from vitbench.config import TimmConfig
from vitbench.models import build_model
from vitbench.models.inherit import inherit_whole, inherited_whole_config

RESNET = TimmConfig(
    timm="resnet18",
    image_size=32,
    in_channels=1,
    num_classes=5,
    options={"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]},
)
VIT = RESNET.replace(
    timm="vit_tiny_patch16_224", options={"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}
)
DISTILLED = VIT.replace(timm="deit_tiny_distilled_patch16_224")
CONVNEXT = RESNET.replace(timm="convnext_atto", options={"depths": [1, 1, 1, 1], "dims": [8, 8, 8, 8]})
MIXER = RESNET.replace(timm="mlp_mixer.MlpMixer", options={"patch_size": 8, "num_blocks": 1, "embed_dim": 8})


def learned(config, *, seed=0):
    """A model whose parameters and buffers are none that a fresh one has."""
    model = build_model(config, seed=seed)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.rand(value.shape, generator=generator))
    return model.eval()


@pytest.mark.parametrize(
    ("config", "head"),
    [
        (RESNET, {"fc.weight", "fc.bias"}),
        (VIT, {"head.weight", "head.bias"}),
        (DISTILLED, {"head.weight", "head.bias", "head_dist.weight", "head_dist.bias"}),
        (CONVNEXT, {"head.fc.weight", "head.fc.bias"}),
    ],
    ids=lambda value: value.timm if isinstance(value, TimmConfig) else "",
)
def test_all_weights_but_the_head_are_the_source_s_and_the_head_is_timm_s_at_that_seed(config, head):
    source = learned(config)
    model = inherit_whole(source, inherited_whole_config(config, {"num_classes": 7}), seed=3)
    torch.manual_seed(3)
    told = {"img_size": 32} if config in (VIT, DISTILLED) else {}
    fresh = timm.create_model(config.timm, in_chans=1, num_classes=7, **told, **config.options).state_dict()
    before = source.timm.state_dict()
    for name, value in model.timm.state_dict().items():
        assert torch.equal(value, fresh[name] if name in head else before[name]), name
    assert model.training and model.config.num_classes == 7


def test_the_head_is_new_for_as_many_classes_too_and_another_at_another_seed():
    source = learned(RESNET)
    heads = [source.timm.fc.weight, *(inherit_whole(source, RESNET, seed=seed).timm.fc.weight for seed in (0, 1))]
    assert not any(torch.equal(heads[i], heads[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_the_head_may_be_kept():
    source = learned(RESNET)
    model = inherit_whole(source, RESNET, seed=3, keep_head=True)
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_model_that_takes_any_image_has_the_same_features_of_one_of_another_size():
    source = learned(RESNET)
    config = inherited_whole_config(RESNET, {"image_size": (48, 40)})
    model = inherit_whole(source, config, seed=0).eval()
    images = torch.rand(2, 1, 48, 40, generator=torch.Generator().manual_seed(0))
    assert config.image_hw == (48, 40) and torch.equal(model.features(images), source.features(images))


def test_the_source_is_left_alone():
    source = learned(RESNET)
    before = {name: value.clone() for name, value in source.state_dict().items()}
    model = inherit_whole(source, RESNET, seed=0)
    with torch.no_grad():
        for value in model.state_dict().values():
            value.zero_()
    assert all(torch.equal(value, before[name]) for name, value in source.state_dict().items())


@pytest.mark.parametrize(
    ("config", "wanted", "says"),
    [
        (RESNET, {"timm": "resnet34"}, "^timm 'resnet34' is not that of the initial weights, 'resnet18'; leave it out"),
        (RESNET, {"options": {}}, r"^options {} is not that of the initial weights, {'layers': \[1, 1, 1, 1\]"),
        (RESNET, {"in_channels": 3}, "^in_channels 3 is not that of the initial weights, 1; leave it out"),
        (RESNET, {"width": 8}, "TimmConfig has no field 'width'"),
        (VIT, {"image_size": 64}, "^image_size 64 is not that of the initial weights, 32, which timm's vit_tiny"),
        (MIXER, {"image_size": 64}, "^image_size 64 is not that of the initial weights, 32, which timm's mlp_mixer"),
        # As many places, but others: 2 × 4 and 4 × 2.
        (VIT.replace(image_size=(16, 32)), {"image_size": (32, 16)}, r"^image_size \(32, 16\) is not that"),
    ],
)
def test_what_the_weights_cannot_follow_is_refused_by_field(config, wanted, says):
    with pytest.raises(ValueError, match=says):
        inherited_whole_config(config, wanted)


def test_a_head_that_is_kept_knows_its_classes_alone():
    with pytest.raises(ValueError, match=r"num_classes 7 is not that .*, 5; leave it out \(free are image_size\)"):
        inherited_whole_config(RESNET, {"num_classes": 7}, keep_head=True)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (lambda model: torch.nn.Identity(), "^timm 'resnet18' tells no head to draw anew"),
        (lambda model: model.bn1, "^num_classes 7 changes timm.fc.weight of timm's resnet18, which is no part"),
    ],
)
def test_a_model_whose_head_timm_does_not_tell_is_refused(monkeypatch, told, says):
    source = learned(RESNET)
    monkeypatch.setattr(type(source.timm), "get_classifier", told)
    with pytest.raises(ValueError, match=says) as refused:
        inherit_whole(source, RESNET.replace(num_classes=7), seed=0)
    assert "\n" not in str(refused.value)
