"""What all conversions share: every weight taken exactly once, what has no equal refused by name, outputs compared."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from pydantic import ValidationError
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd as _Dropout

from vitbench.config import ViTConfig
from vitbench.models.blocks import ACTIVATIONS
from vitbench.models.vit import ViT
from vitbench.refusals import one_line

Convert = Callable[[nn.Module], ViT]
Logits = Callable[[Any, Tensor], Any]
"""(peer, images [B, C, H, W]) → [B, K]."""


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
    """The weights of a peer, each of which must be taken once, and what they are in a ViT.

    Methods raise ValueError for a weight that is missing.
    """

    def __init__(self, theirs: Mapping[str, Tensor]) -> None:
        self.theirs = dict(theirs)
        self.ours: dict[str, Tensor] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.theirs

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.theirs:
            raise ValueError(f"{name} is missing from the weights; they may be those of another kind of model")
        return self.theirs[name].detach()

    def take(self, name: str) -> Tensor:
        """The weight of that name, as it is stored."""
        weight = self[name]
        del self.theirs[name]
        return weight

    def layer(self, theirs: str, ours: str) -> None:
        """A linear layer or norm whose weight, and bias where there is one, are stored as ours are."""
        for leaf in ("weight", "bias") if f"{theirs}.bias" in self else ("weight",):
            self.ours[f"{ours}.{leaf}"] = self.take(f"{theirs}.{leaf}")

    def stacked(self, theirs: Sequence[str], ours: str) -> None:
        """Linear layers that we keep as one, behind each other: q, k and v."""
        for leaf in ("weight", "bias") if f"{theirs[0]}.bias" in self else ("weight",):
            self.ours[f"{ours}.{leaf}"] = torch.cat([self.take(f"{name}.{leaf}") for name in theirs])

    def patches(self, theirs: str) -> None:
        """The convolution that makes patches, as the linear layer that it is."""
        self.layer(theirs, "stem.proj")
        self.ours["stem.proj.weight"] = self.ours["stem.proj.weight"].flatten(1)

    def tree(self, theirs: str, ours: str) -> None:
        """All that lies below a module whose inside has the same names as ours."""
        for name in [name for name in self.theirs if name.startswith(f"{theirs}.")]:
            self.ours[f"{ours}{name.removeprefix(theirs)}"] = self.take(name)

    def places(self, table: Tensor, *, class_token: bool) -> None:
        """Learned positions [prefix + patches, D], of which the first is the class token's where it has one."""
        self.ours["position.tables.0.table"] = table[int(class_token) :]
        if class_token:
            self.ours["position.tables.0.class_token"] = table[:1]

    def model(self, config: ViTConfig, *, peer: nn.Module | None = None) -> ViT:
        """The model of these weights, in their dtype and on their device, in evaluation mode.

        All of its parameters are trainable, as those of a new model. Raises ValueError for a weight that is left over, or
        has another shape than the configuration gives it, and for a `peer` of which two layers share weights.
        """
        if self.theirs:
            first, *others = self.theirs
            more = f" (and {len(others)} more)" if others else ""
            raise ValueError(f"{first}{more} cannot be expressed: a ViTConfig has no such part")
        first_names: dict[int, str] = {}
        for name, parameter in peer.named_parameters(remove_duplicate=False) if peer is not None else ():
            first_name = first_names.setdefault(id(parameter), name)
            if first_name != name:
                raise refuse(name, f"that of {first_name}", "layers have weights of their own")
        dtype = same("dtype", [value.dtype for value in self.ours.values() if value.is_floating_point()])
        device = next(iter(self.ours.values())).device
        with torch.random.fork_rng(devices=[]):  # layers draw values that are overwritten
            model = ViT(config).to(device=device, dtype=dtype)
        for name, value in model.state_dict().items():
            shape = list(self.ours[name].shape) if name in self.ours else None
            if shape != list(value.shape):
                raise refuse(name, shape, f"the configuration gives it the shape {list(value.shape)}")
        model.load_state_dict(self.ours)
        return model.eval()


def build(peer: nn.Module, fields: dict[str, Any], move_weights: Callable[[Any, ViTConfig, Source], None]) -> ViT:
    """The model of a ViTConfig's fields, with the weights of `peer` that `move_weights(peer, config, source)` takes.

    Raises ValueError, in one line, where the fields have no meaning together, and as `Source` does.
    """
    try:
        config = ViTConfig.model_validate(fields)
    except ValidationError as error:
        raise ValueError(f"the module cannot be expressed: {one_line(error)}") from error
    source = Source(peer.state_dict())
    move_weights(peer, config, source)
    return source.model(config, peer=peer)


def converted(convert: Convert, peer: nn.Module, logits: Logits = lambda peer, images: peer(images)) -> ViT:
    """What `convert` makes of `peer`, with equal `logits(peer, images)`, [B, K].

    Raises ValueError where `convert` does, where it does not find what it looks for, and where outputs differ.
    """
    try:
        model = convert(peer)
    except (AttributeError, IndexError, KeyError, StopIteration, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise refuse("module", type(peer).__name__, f"it is not built as was expected ({reason})") from error
    _check_outputs(convert, peer, logits)
    return model


def activation_name(field: str, function: Callable[[Tensor], Tensor]) -> str:
    """The value of `ViTConfig.activation` that `function` is, told by its values: every library has names of its own.

    Raises ValueError with `field` where it is none.
    """
    x = torch.linspace(-4, 4, 65, dtype=torch.float64, device="cpu")
    learned = isinstance(function, nn.Module) and any(True for _ in function.parameters())
    for name, ours in ACTIVATIONS.items():
        if not learned and torch.allclose(function(x.clone()), ours(x), rtol=0, atol=1e-12):
            return name
    called = getattr(function, "__name__", type(function).__name__)
    raise refuse(field, called, f"activations are {', '.join(ACTIVATIONS)}")


def rate(module: object) -> float:
    """What a module drops in training: 0 for an identity, or for none."""
    return float(getattr(module, "p", None) or getattr(module, "drop_prob", None) or 0.0)


def check_dropouts(peer: nn.Module, known: Iterable[object]) -> None:
    """Raises ValueError for a dropout or drop path that is not among the `known` ones, whose rates became fields."""
    seen = {id(module) for module in known}
    for name, module in peer.named_modules():
        if id(module) not in seen and isinstance(module, _Dropout | DropPath) and rate(module):
            raise refuse(name, rate(module), "nothing drops out at this place")


@torch.no_grad()
def _check_outputs(convert: Convert, peer: nn.Module, logits: Logits) -> None:
    """Raises ValueError unless a copy of `peer` and its conversion have equal logits.

    The last line of defence against what has neither weights nor a known field: an overridden `forward`, a hook, an ε.
    The copies are in float64, equal to 1e-8, and every weight is moved, so that no scale near 0 hides a part of the model.
    """
    if any(value.is_meta for value in (*peer.parameters(), *peer.buffers())):
        return
    kind, size = type(peer).__name__, sum(parameter.numel() for parameter in peer.parameters())
    # Two larger copies in float64 would not fit into common memories.
    dtype, allowed = (torch.float64, 1e-8) if size < 400_000_000 else (torch.float32, 1e-3)
    twin = copy.deepcopy(peer).to(device="cpu", dtype=dtype).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in twin.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=dtype), alpha=0.1)
    model = convert(twin)
    images = torch.randn(2, model.config.in_channels, *model.config.image_hw, generator=generator, dtype=dtype)
    try:
        expected = logits(twin, images)
    except Exception as error:  # whatever a changed forward raises
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ValueError(f"{kind} cannot be expressed: its forward pass fails with {reason}") from error
    ours = model(images)
    if not isinstance(expected, Tensor) or expected.shape != ours.shape:
        shape = list(expected.shape) if isinstance(expected, Tensor) else type(expected).__name__
        raise ValueError(f"{kind} cannot be expressed: it gives {shape} for logits of {list(ours.shape)}")
    difference = ((ours - expected).abs().max() / expected.abs().max().clamp(min=1.0)).item()
    if not difference < allowed:
        raise ValueError(f"{kind} cannot be expressed: with equal weights, logits differ by {difference:.2g}")
