"""Operators that do in one pass over memory what torch does in several, where a C++ compiler is at hand.

`install(model)` puts them into a built model. Each has a plain counterpart in torch, which computes where it cannot, and
against which it is tested.
"""

from __future__ import annotations

from typing import TypeVar

from torch import nn

SomeModule = TypeVar("SomeModule", bound=nn.Module)


def install(model: SomeModule) -> SomeModule:
    """The same model or layer, which computes with native operators from now on, where they can; timm's stays as it is.

    So do users' parts, and the norms before them: these get the float32 that they get without native operators. Parameters
    and buffers, their names, hooks and `isinstance` stay as they are, and copies compute natively too. Raises ValueError where
    the user asks for native operators, and there are none.
    """
    from vitbench.kernels import native
    from vitbench.kernels.blocks import NATIVE, NativeLayerNorm
    from vitbench.models import ViT
    from vitbench.models.blocks import Block
    from vitbench.models.parts import is_part

    native.check_asked()
    for module in model.modules():
        if isinstance(module, ViT | Block):  # norms of the residual stream
            readers = _readers(module)
            for name, norm in module.named_children():
                if type(norm) is nn.LayerNorm and not any(is_part(reader) for reader in readers.get(name, ())):
                    norm.__class__ = NativeLayerNorm
        if type(module) in NATIVE:
            module.__class__ = NATIVE[type(module)]
    return model


def _readers(module: nn.Module) -> dict[str, list[nn.Module]]:
    """Which modules read what each norm of a ViT or of a block gives."""
    readers = {"norm1": ["attention"], "norm2": ["mlp"], "norm": ["pool", "head"]}
    return {
        norm: [getattr(module, reader) for reader in names]
        for norm, names in readers.items()
        if all(hasattr(module, reader) for reader in names)
    }
