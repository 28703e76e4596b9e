"""What 'the same model' means: equal logits and equal gradients of every parameter, in float64, one image and more."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vitbench.models import ViT

OUTPUTS, GRADIENTS = 1e-9, 1e-8
AGREEMENT = f"{OUTPUTS:g}, {GRADIENTS:g}".replace("e-0", "e-")
"""The bounds as docs/evidence.md has them."""


def random_weights(peer: nn.Module) -> nn.Module:
    """In float64 and evaluation mode, with no parameter or running statistic at a special value."""
    generator = torch.Generator().manual_seed(1)
    peer = peer.double().eval()
    with torch.no_grad():
        for parameter in peer.parameters():
            scale = parameter[0].numel() ** -0.5 if parameter.ndim > 1 and parameter.numel() else 0.3
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(noise * scale + (1.0 if parameter.ndim == 1 else 0.0))
        for name, buffer in peer.named_buffers():
            if "running" in name:
                buffer.copy_(torch.rand(buffer.shape, generator=generator, dtype=torch.float64) + 0.5)
    return peer


def images_for(model: ViT, batch: int) -> Tensor:
    config = model.config
    generator = torch.Generator().manual_seed(2)
    return torch.randn(batch, config.in_channels, *config.image_hw, generator=generator, dtype=torch.float64)


def assert_agree(
    convert: Callable[..., ViT],
    peer: Any,
    *,
    logits: Callable[[Tensor], Tensor] | None = None,
    summed: dict[str, Any] | None = None,
    **arguments: Any,
) -> ViT:
    """Converts `peer`, compares, and returns the model.

    `summed` names parameters of the peer, with an index, that were added to others in the conversion.
    """
    logits = logits or peer
    model = convert(peer, **arguments)
    assert next(model.parameters()).dtype == torch.float64
    for batch in (1, 3):
        images = images_for(model, batch)
        torch.testing.assert_close(model(images), logits(images), rtol=0, atol=OUTPUTS)
    for outputs in (model(images), logits(images)):
        (outputs * torch.linspace(-1, 1, outputs.numel(), dtype=torch.float64).view_as(outputs)).sum().backward()
    expected = gradients_by_our_names(convert, peer, summed or {}, arguments)
    ours = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert ours.keys() == expected.keys()
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=GRADIENTS, msg=lambda m, n=name: f"{n}: {m}")
    folded = sum(peer.get_parameter(name)[index].numel() for name, index in (summed or {}).items())
    assert count(peer) - folded == count(model)
    return model


def assert_drops_alike(convert: Callable[..., ViT], peer: Any, monkeypatch: Any) -> None:
    """Compares logits in training, with a dropout that multiplies by 1 + p, so that places and rates must be the same."""
    for module in peer.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False  # timm's fused attention drops weights beneath torch's functions
    model = convert(random_weights(peer)).train()
    for block in model.blocks:
        block.attention.kernel = "matmul"
    monkeypatch.setattr(
        torch.nn.functional, "dropout", lambda x, p=0.5, training=True, inplace=False: x * (1 + p * training)
    )
    images = images_for(model, 2)
    expected = peer.train()(images)
    torch.testing.assert_close(model(images), expected, rtol=0, atol=OUTPUTS)
    assert (peer.eval()(images) - expected).abs().max() > 1e-3


def gradients_by_our_names(
    convert: Callable[..., ViT], peer: nn.Module, summed: dict[str, Any], arguments: dict[str, Any]
) -> dict[str, Tensor]:
    """The peer's gradients, put where a conversion puts its weights: it only moves them, but for those in `summed`."""
    twin = copy.deepcopy(peer)
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            gradient = peer.get_parameter(name).grad
            assert gradient is not None or not parameter.numel(), f"{name} has no gradient"
            if gradient is not None:
                parameter.copy_(gradient)
        for name, index in summed.items():
            twin.get_parameter(name)[index] = 0
    return {name: p.detach() for name, p in convert(twin, **arguments).named_parameters()}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
