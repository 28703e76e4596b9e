"""The models: parameterised Vision Transformers, and timm's beside them, built from a configuration and a seed."""

from typing import overload

from vitbench.config import ModelConfig, TimmConfig, ViTConfig
from vitbench.models.initialize import initialize
from vitbench.models.timm_models import TimmModel
from vitbench.models.vit import ViT


@overload
def build_model(config: ViTConfig, seed: int = 0) -> ViT: ...
@overload
def build_model(config: TimmConfig, seed: int = 0) -> TimmModel: ...
@overload
def build_model(config: ModelConfig, seed: int = 0) -> ViT | TimmModel: ...
def build_model(config: ModelConfig, seed: int = 0) -> ViT | TimmModel:
    """The model that `config` describes, in training mode on the CPU in float32.

    images [B, C, H, W] → logits [B, num_classes]; `.features(images)` pooled pre-logits [B, D]; of a ViT, `.tokens(images)`
    the final tokens [B, N, D]. Parameters of ViTs of the same name and shape start equal in every one of the same seed;
    timm's models start as timm has it, with torch's generator at the seed.
    """
    if isinstance(config, TimmConfig):
        return TimmModel(config, seed=seed)
    model = ViT(config)
    initialize(model, width=config.width, seed=seed)
    return model


__all__ = ["TimmModel", "ViT", "build_model"]
