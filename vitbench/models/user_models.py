"""A user's whole model, from its configuration, behind the interface of our ViT: logits, and features before them."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from vitbench.config import ModuleConfig, shape_of
from vitbench.models.parts import PartError, call_checked, check_built, check_filled, errors_of, isolated
from vitbench.user_code import lookup


class UserModel(nn.Module):
    """images [B, C, H, W] → logits [B, num_classes]; `.features(images)` [B, …], where the module has them.

    It starts as its constructor has it, with torch's, numpy's and Python's generators at the seed.
    Raises PartError for a module that cannot be made, and the ValueError of `user_code.lookup`.
    """

    def __init__(self, config: ModuleConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.what = f"module {config.module}"
        make = lookup(config.module)
        with isolated(seed), errors_of(self.what, "cannot be built"):
            module = make(**shape_of(config), **config.options)
        check_built(module, self.what)
        if not any(True for _ in module.parameters()):
            raise PartError(f"{self.what} has no parameters, so there is nothing to train; give it some")
        check_filled(module, self.what)
        self.module: Any = module.train()

    def features(self, images: Tensor) -> Tensor:
        """images [B, C, H, W] → what the module calls its features. Raises PartError where it has none."""
        if not callable(getattr(self.module, "features", None)):
            raise PartError(
                f"{self.what} has no method features(images), which gives what its classifier reads; write one"
            )
        features: Any = self.module.features(images)
        if not isinstance(features, Tensor) or len(features) != len(images):
            gives = list(features.shape) if isinstance(features, Tensor) else f"a {type(features).__name__}"
            raise PartError(f"{self.what}: features(images) gives {gives}, expected [{len(images)}, …]")
        return features.flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        return call_checked(self.what, self.module, images, expected=(len(images), self.config.num_classes))
