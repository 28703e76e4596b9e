"""The models: parameterised Vision Transformers, built from a configuration and a seed."""

from vitbench.config import ViTConfig
from vitbench.models.initialize import initialize
from vitbench.models.vit import ViT


def build_model(config: ViTConfig, seed: int = 0) -> ViT:
    """The ViT that `config` describes, in training mode on the CPU in float32.

    images [B, C, H, W] → logits [B, num_classes]; `.features(images)` pooled pre-logits [B, D]; `.tokens(images)`
    the final tokens [B, N, D]. Parameters of the same name and shape start equal in every model of the same seed.
    """
    model = ViT(config)
    initialize(model, width=config.width, seed=seed)
    return model


__all__ = ["ViT", "build_model"]
