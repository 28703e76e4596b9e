"""What goes on inside a model while it computes: its attention maps and the outputs of its layers, beside its logits.

Watching changes nothing: hooks read the inputs and outputs of modules, and compute beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from vitbench.models.attention import Attention
from vitbench.models.insides import NoSuchPartError
from vitbench.models.parts import is_part
from vitbench.models.timm_models import TimmModel
from vitbench.models.user_models import UserModel
from vitbench.models.vit import ViT

OnMap = Callable[[int, Tensor], None]
"""Called with a block's number, from 0, and its attention weights [B, H, N, N], which the caller may keep."""
OnLayer = Callable[[str, Tensor], None]
"""Called with a layer's name and its output [B, …]."""


@contextmanager
def attention_maps(model: ViT, on_map: OnMap) -> Iterator[None]:
    """While entered, every forward hands over each block's attention weights, in float32 at least, before dropout.

    They are computed from the layer's input in that forward, by the same projections, norms, rotations and biases; fused
    and native kernels, which never hold them, go on computing the output. They have every query, also in the last block,
    which computes the class token's alone under `pool="cls"`. Rows add up to 1. A user's attention hands over what its own
    method `weights(x)` [B, N, D] → [B, H, N, N] gives. Raises NoSuchPartError where it has none.
    """
    _check_tells_weights(model)

    def hand_over(number: int, attention: Any, inputs: tuple[Tensor, ...]) -> None:
        # Not under no_grad: older versions of autocast keep weights that were cast in it, and the layer's gradient is lost.
        on_map(number, attention.weights(inputs[0]).detach())

    with ExitStack() as hooks:
        blocks: Any = model.blocks
        for i, block in enumerate(blocks):
            hooks.callback(block.attention.register_forward_pre_hook(partial(hand_over, i)).remove)
        yield


def _check_tells_weights(model: ViT) -> None:
    """A user's attention that derives from ours inherits `weights`, which may not be what it computes with."""
    attention: Any = model.blocks[0].attention
    if is_part(attention) and getattr(type(attention), "weights", Attention.weights) is Attention.weights:
        raise NoSuchPartError(
            f"attention {model.config.attention!r} is a user's without a method weights(x) of its own, which gives its maps"
        )


@contextmanager
def layer_outputs(model: ViT | TimmModel | UserModel, on_layer: OnLayer) -> Iterator[None]:
    """While entered, every forward hands over the outputs of the layers that `layers_of` names, in that order.

    A ViT's `tokens` computes all tokens of all blocks; its `forward` need not, in the last one.
    """

    def hand_over(name: str, _: nn.Module, __: Any, output: Tensor) -> None:
        on_layer(name, output.detach())

    with ExitStack() as hooks:
        for name, module in _layers(model).items():
            hooks.callback(module.register_forward_hook(partial(hand_over, name)).remove)
        yield


def layers_of(model: ViT | TimmModel | UserModel) -> list[str]:
    """The layers that are compared between models: of a ViT, the stem and every block; of timm's, its feature stages.

    Raises NoSuchPartError for a model of timm that names none.
    """
    return list(_layers(model))


def _layers(model: ViT | TimmModel | UserModel) -> dict[str, nn.Module]:
    if isinstance(model, ViT):
        return {"stem": model.stem, **{str(i): block for i, block in enumerate(model.blocks, start=1)}}
    if isinstance(model, UserModel):
        raise NoSuchPartError(f"{model.what} is a user's model, of whose layers nothing is known")
    info: Any = getattr(model.timm, "feature_info", None) or []
    names = [stage["module"] for stage in info if stage.get("module")]
    if not names:
        raise NoSuchPartError(f"timm's {model.config.timm} does not say what its stages are")
    return {name: model.timm.get_submodule(name) for name in names}
