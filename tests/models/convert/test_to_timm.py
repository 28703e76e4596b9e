"""Is a vitbench model the same model in timm, for all that timm's module can say, and is the rest refused by name?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from tests.models.convert.agreement import random_weights
from tests.models.convert.test_timm import MODELS
from tests.models.convert.test_timm import SMALL as SMALL_IN_TIMM
from tests.models.small_models import SMALL
from vitbench.config import ViTConfig
from vitbench.models import build_model, convert

EXPRESSIBLE: dict[str, dict[str, Any]] = {
    "class token": {},
    "gap": {"pool": "gap"},
    "mean of all": {"pool": "mean_all"},
    "map": {"pool": "map"},
    "map, registers": {"pool": "map", "num_registers": 2},
    "registers": {"num_registers": 3},
    "registers, gap": {"num_registers": 3, "pool": "gap"},
    "no position": {"position": "none"},
    "2-D": {"position": "learned_2d"},
    "sincos": {"position": "sincos_2d"},
    "class token without a place": {"embed_class_token": False},
    "norm after pooling": {"final_norm": "pooled"},
    "no last norm": {"final_norm": "none"},
    "qk_norm, no bias of q, k and v": {"qk_norm": True, "qkv_bias": False},
    "LayerScale": {"layer_scale": 0.1},
    "pre-norm": {"pre_norm": True},
    "SwiGLU": {"activation": "swiglu"},
    "quick_gelu": {"activation": "quick_gelu"},
    "another epsilon": {"norm_eps": 1e-3},
    "grey, uneven patches": {"in_channels": 1, "patch_size": (2, 4)},
    "no classifier": {"num_classes": 0},
    "drops": {"dropout": 0.1, "attention_dropout": 0.2, "drop_path": 0.3},
}
REFUSED: dict[str, dict[str, Any]] = {
    "position 'rope_2d, every_layer'": {"position": "rope_2d", "position_site": "every_layer"},
    "position 'relative, every_layer'": {"position": "relative", "position_site": "every_layer"},
    "position 'learned_1d, every_layer'": {"position_site": "every_layer"},
    "stem 'conv'": {"stem": "conv"},
    "stem 'patch_norm'": {"stem": "patch_norm"},
    "head 'mlp'": {"head": "mlp"},
    "proj_bias False": {"proj_bias": False},
    "num_registers 2": {"pool": "mean_all", "num_registers": 2},
}


@pytest.mark.parametrize("fields", EXPRESSIBLE.values(), ids=EXPRESSIBLE)
def test_logits_are_the_same_in_float64(fields):
    model = random_weights(build_model(ViTConfig(**{**SMALL, **fields})))
    images = torch.randn(3, model.config.in_channels, 8, 12, dtype=torch.float64)
    theirs = convert.to_timm(model)
    assert type(theirs) is VisionTransformer and not theirs.training
    torch.testing.assert_close(theirs(images), model(images), rtol=0, atol=1e-10)


@pytest.mark.parametrize("fields", EXPRESSIBLE.values(), ids=EXPRESSIBLE)
def test_the_way_back_gives_the_same_outputs(fields):
    model = random_weights(build_model(ViTConfig(**{**SMALL, **fields})))
    images = torch.randn(3, model.config.in_channels, 8, 12, dtype=torch.float64)
    back = convert.from_timm(convert.to_timm(model))
    torch.testing.assert_close(back(images), model(images), rtol=0, atol=1e-10)
    for name in ("dropout", "attention_dropout", "drop_path", "num_registers", "final_norm", "activation"):
        assert getattr(back.config, name) == pytest.approx(getattr(model.config, name)), name


@pytest.mark.parametrize("name", MODELS)
def test_there_and_back_timm_s_module_has_its_outputs(name):
    kwargs, _ = MODELS[name]
    module = random_weights(VisionTransformer(**{**SMALL_IN_TIMM, **kwargs}).double().eval())
    channels, size = module.patch_embed.proj.in_channels, module.patch_embed.img_size
    images = torch.randn(2, channels, *size, dtype=torch.float64)
    again = convert.to_timm(convert.from_timm(module))
    torch.testing.assert_close(again(images), module(images), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("said", "fields"), REFUSED.items(), ids=REFUSED)
def test_what_timm_cannot_express_is_refused_by_field(said, fields):
    with pytest.raises(ValueError, match=said):
        convert.to_timm(build_model(ViTConfig(**{**SMALL, **fields})))
