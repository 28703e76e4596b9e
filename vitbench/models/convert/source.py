"""What all conversions share: every weight taken exactly once, what has no equal refused by name, outputs compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vitbench.config import ViTConfig
from vitbench.models.vit import ViT

Weights = dict[str, Tensor]


def refuse(field: str, value: object, because: str) -> ValueError:
    """The error for what a ViTConfig has no field for: `raise refuse("norm_layer", "RmsNorm", "norms are LayerNorm")`."""
    return ValueError(f"{field} {value!r} cannot be expressed: {because}")


def same(field: str, values: Iterable[Any]) -> Any:
    """The one value that all blocks, or all norms, have."""
    distinct = list(dict.fromkeys(values))
    if len(distinct) != 1:
        raise refuse(field, distinct, "it must be the same everywhere")
    return distinct[0]


class Source:
    """The weights of a peer, each of which must be taken once: what is left at the end was not understood."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._weights = dict(weights)

    def __contains__(self, name: str) -> bool:
        return name in self._weights

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(value.shape) for name, value in self._weights.items()}

    def shape(self, name: str) -> tuple[int, ...]:
        """Raises ValueError where there is no such weight."""
        if name not in self._weights:
            raise _missing(name)
        return tuple(self._weights[name].shape)

    def take(self, name: str) -> Tensor:
        """The weight of that name, as it is stored. Raises ValueError where there is none."""
        if name not in self._weights:
            raise _missing(name)
        return self._weights.pop(name).detach()

    def layer(self, theirs: str, ours: str) -> Weights:
        """A linear layer or norm whose weight, and bias where there is one, are stored as ours are."""
        leaves = [leaf for leaf in ("weight", "bias") if f"{theirs}.{leaf}" in self]
        return {f"{ours}.{leaf}": self.take(f"{theirs}.{leaf}") for leaf in leaves or ["weight"]}

    def tree(self, theirs: str, ours: str) -> Weights:
        """All that lies below a module whose inside has the same names as ours."""
        names = [name for name in self._weights if name.startswith(f"{theirs}.")]
        return {f"{ours}{name.removeprefix(theirs)}": self.take(name) for name in names}

    def stacked(self, theirs: Iterable[str], ours: str) -> Weights:
        """Linear layers that we keep as one, behind each other: q, k and v."""
        layers = [self.layer(name, "") for name in theirs]
        return {f"{ours}{leaf}": torch.cat([layer[leaf] for layer in layers]) for leaf in layers[0]}

    def finish(self) -> None:
        """Raises ValueError for weights that nobody took."""
        if self._weights:
            first, *others = self._weights
            more = f" (and {len(others)} more)" if others else ""
            raise ValueError(f"{first}{more} cannot be expressed: a ViTConfig has no such part")


def _missing(name: str) -> ValueError:
    return ValueError(f"{name} is missing from the weights; they may be those of another kind of model")


def assemble(config: ViTConfig, weights: Weights, source: Source) -> ViT:
    """The model with these weights, in their dtype and on their device, in evaluation mode.

    Raises ValueError for a weight that is left over, or has another shape than the configuration gives it.
    """
    source.finish()
    like = next(iter(weights.values()))
    with torch.random.fork_rng(devices=[]):  # layers draw values that are overwritten here
        model = ViT(config).to(device=like.device, dtype=like.dtype)
    for name, value in model.state_dict().items():
        if name not in weights or weights[name].shape != value.shape:
            shape = list(weights[name].shape) if name in weights else None
            raise refuse(name, shape, f"the configuration gives it the shape {list(value.shape)}")
    model.load_state_dict(weights)
    return model.eval()


@torch.no_grad()
def check_outputs(model: ViT, peer: nn.Module, logits: Callable[[Tensor], Tensor]) -> None:
    """Raises ValueError unless `model` and `peer`, whose logits are `logits(images)`, agree in evaluation mode.

    The last line of defence against what has neither weights nor a known field: an overridden `forward`, a hook.
    """
    parameter = next(model.parameters())
    if parameter.device.type == "meta":
        return
    config = model.config
    images = torch.randn(1, config.in_channels, *config.image_hw, generator=torch.Generator().manual_seed(0))
    images = images.to(device=parameter.device, dtype=parameter.dtype)
    training = {module: module.training for module in peer.modules()}
    peer.eval()
    try:
        expected = logits(images)
    finally:
        for module, was_training in training.items():
            module.training = was_training
    difference = (model(images) - expected).abs().max().item()
    allowed = torch.finfo(parameter.dtype).eps ** 0.5 * max(1.0, expected.abs().max().item())
    if not difference <= allowed:
        kind = type(peer).__name__
        raise ValueError(f"{kind} cannot be expressed: with equal weights, logits differ by {difference:.2g}")
