"""The models: parameterised Vision Transformers, timm's and users' beside them, built from a configuration and a seed."""

from typing import overload

from vitbench.config import ModelConfig, ModuleConfig, TimmConfig, ViTConfig
from vitbench.models.attention import Attention
from vitbench.models.blocks import MLP
from vitbench.models.initialize import initialize
from vitbench.models.parts import PartError
from vitbench.models.timm_models import TimmModel
from vitbench.models.user_models import UserModel
from vitbench.models.vit import ViT


@overload
def build_model(config: ViTConfig, seed: int = 0) -> ViT: ...
@overload
def build_model(config: TimmConfig, seed: int = 0) -> TimmModel: ...
@overload
def build_model(config: ModuleConfig, seed: int = 0) -> UserModel: ...
@overload
def build_model(config: ModelConfig, seed: int = 0) -> ViT | TimmModel | UserModel: ...
def build_model(config: ModelConfig, seed: int = 0) -> ViT | TimmModel | UserModel:
    """The model that `config` describes, in training mode on the CPU in float32.

    images [B, C, H, W] → logits [B, num_classes]; `.features(images)` pooled pre-logits [B, D]; of a ViT, `.tokens(images)`
    the final tokens [B, N, D]. Parameters of ViTs of the same name and shape start equal in every one of the same seed;
    timm's models start as timm has it, with torch's generator at the seed, and a user's whole model as its constructor has it.

    Raises PartError, a ValueError, for a user's part or model that cannot be built, and the ValueError of `user_code.lookup`.
    """
    if isinstance(config, TimmConfig):
        return TimmModel(config, seed=seed)
    if isinstance(config, ModuleConfig):
        return UserModel(config, seed=seed)
    model = ViT(config, seed=seed)
    initialize(model, width=config.width, seed=seed)
    return model


__all__ = ["MLP", "Attention", "PartError", "TimmModel", "UserModel", "ViT", "build_model"]
