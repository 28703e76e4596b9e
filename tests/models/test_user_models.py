"""Is a user's whole model built, checked, kept and taken over as timm's are?"""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.models.users_parts import TinyModel
from vitbench.config import ModuleConfig, RunConfig, TrainConfig
from vitbench.models import PartError, UserModel, build_model
from vitbench.models.inherit import inherit_whole, inherited_whole_config
from vitbench.models.insides import NoSuchPartError
from vitbench.models.recording import layers_of
from vitbench.models.weights import load_trained, save_trained
from vitbench.refusals import one_line
from vitbench.training.optimizer import undecayed
from vitbench.user_code import register

IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def config_of(code: object, **fields: object) -> ModuleConfig:
    return ModuleConfig.model_validate(
        {"module": register(code, "module"), "image_size": 16, "in_channels": 3, "num_classes": 10, **fields}
    )


def test_it_is_called_with_sizes_and_options_and_starts_at_the_seed():
    config = config_of(TinyModel, options={"channels": 6})
    model = build_model(config, seed=1)
    assert isinstance(model, UserModel) and model(IMAGES).shape == (4, 10) and model.features(IMAGES).shape == (4, 6)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    again, other = build_model(config, seed=1), build_model(config, seed=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert not torch.equal(model.module.conv.weight, other.module.conv.weight)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        expected = TinyModel(16, 3, 10, channels=6)
    assert torch.equal(model.module.conv.weight, expected.conv.weight)


def make_tiny(image_size: int, in_channels: int, num_classes: int) -> nn.Module:
    return TinyModel(image_size, in_channels, num_classes)


def test_a_function_may_make_it():
    assert build_model(config_of(make_tiny))(IMAGES).shape == (4, 10)


def test_options_have_one_canonical_form_and_are_part_of_the_run():
    one, other = (RunConfig(model=config_of(TinyModel, options={"channels": value})) for value in (8, 8.0))
    assert one.run_id == other.run_id != RunConfig(model=config_of(TinyModel)).run_id
    assert RunConfig.model_validate_json(one.canonical_json()) == one
    assert json.loads(one.canonical_json())["model"]["options"] == {"channels": 8}


class NoFeatures(TinyModel):
    features: Any = None

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.conv(images).mean(dim=(2, 3)))


class Features(TinyModel):
    def forward(self, images: Tensor) -> Tensor:
        return self.features(images)


class Dictionary(TinyModel):
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"logits": images}


class Raises(TinyModel):
    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(images)


class NoParameters(nn.Module):
    def __init__(self, image_size: int, in_channels: int, num_classes: int) -> None:
        super().__init__()


def gives_text(image_size: int, in_channels: int, num_classes: int) -> str:
    return "model"


@pytest.mark.parametrize(
    ("code", "options", "reason"),
    [
        (Features, {}, r"module Features@\w{8} gives \[4, 8\], expected \[4, 10\], of an input \[4, 3, 16, 16\]"),
        (Dictionary, {}, r"gives a dict, not a tensor \[4, 10\]"),
        (
            Raises,
            {},
            r"fails with an input \[4, 3, 16, 16\]: RuntimeError: mat1 and mat2 .*\(test_user_models.py:\d+\)",
        ),
        (NoParameters, {}, "has no parameters, so there is nothing to train"),
        (gives_text, {}, "gives a str, not a torch.nn.Module"),
        (TinyModel, {"chanels": 3}, r"cannot be built: TypeError: .* unexpected keyword argument 'chanels'"),
        (TinyModel, {"channels": "many"}, r"module TinyModel@\w{8} cannot be built: TypeError"),
    ],
)
def test_what_it_does_wrong_is_one_line_that_names_it(code, options, reason):
    with pytest.raises(PartError, match=reason) as refusal:
        build_model(config_of(code, options=options))(IMAGES)
    assert "\n" not in one_line(refusal.value)


def test_without_features_or_layers_it_says_so():
    model = build_model(config_of(NoFeatures))
    assert model(IMAGES).shape == (4, 10)
    with pytest.raises(PartError, match=r"has no method features\(images\)"):
        model.features(IMAGES)
    with pytest.raises(NoSuchPartError, match="is a user's model, of whose layers nothing is known"):
        layers_of(model)


@pytest.mark.parametrize(
    "recipe", [{"optimizer": "muon"}, {"layer_decay": 0.7}, {"trainable": "attention"}, {"optimizer": "AdaMuon"}]
)
def test_recipes_for_the_blocks_of_a_vit_are_refused(recipe):
    with pytest.raises(ValueError, match=r"is for the blocks of a ViT, not for a user's"):
        RunConfig(model=config_of(TinyModel), train=TrainConfig(**recipe), init="run:0@1a2b3c4d")


def test_weights_of_linear_layers_and_convolutions_decay():
    assert undecayed(build_model(config_of(TinyModel))) == {"module.conv.bias", "module.classifier.bias"}


def test_weights_are_kept_and_loaded_where_the_code_is(tmp_path):
    run = RunConfig(model=config_of(TinyModel))
    model = build_model(run.model, seed=3)
    save_trained(tmp_path / "x.safetensors", model, run, mean=[0.5] * 3, std=[0.2] * 3)
    trained = load_trained(tmp_path / "x.safetensors")
    torch.testing.assert_close(trained.model(IMAGES), model.eval()(IMAGES), rtol=0, atol=0)
    elsewhere = run.replace(model=run.model.model_copy(update={"module": "Elsewhere@1a2b3c4d"}))
    save_trained(tmp_path / "y.safetensors", model, elsewhere, mean=[0.5] * 3, std=[0.2] * 3)
    with pytest.raises(ValueError, match=r"'Elsewhere@1a2b3c4d' is a user's, and this process has not loaded it"):
        load_trained(tmp_path / "y.safetensors")


class WithHead(TinyModel):
    any_image_size = True

    def get_classifier(self) -> nn.Module:
        return self.classifier


def test_its_weights_are_taken_over_and_a_head_that_it_tells_is_drawn_anew():
    config = config_of(WithHead)
    source = build_model(config, seed=1)
    wider = inherited_whole_config(config, {"num_classes": 7, "image_size": 32})
    model = inherit_whole(source, wider, seed=2)
    assert torch.equal(model.module.conv.weight, source.module.conv.weight)
    assert torch.equal(model.module.classifier.weight, build_model(wider, seed=2).module.classifier.weight)
    kept = inherit_whole(source, config, seed=2, keep_head=True)
    assert all(torch.equal(a, b) for a, b in zip(kept.parameters(), source.parameters(), strict=True))
    with pytest.raises(ValueError, match=r"the user's TinyModel@\w{8} tells no head .* get_classifier"):
        inherit_whole(build_model(config_of(TinyModel)), config_of(TinyModel), seed=0)
    with pytest.raises(ValueError, match=r"image_size 32 is not that .* give it any_image_size = True"):
        inherited_whole_config(config_of(TinyModel), {"image_size": 32})
