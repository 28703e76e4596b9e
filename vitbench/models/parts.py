"""What must a user's part be, role by role, and how does it get into a model?

A part stands in the model under the name that the built-in one would have, so that what both have starts equal. It is built
with torch's generator at a key of its own, and every call is checked: a wrong shape, dtype or device is one line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from vitbench.config import ViTConfig
from vitbench.generators import seeded
from vitbench.models.seeding import key
from vitbench.process_state import taken_back
from vitbench.signals import Ended
from vitbench.user_code import is_user_name, lookup, reason_of

ALL = slice(None)  # every token

POSITION_METHODS = ("forward", "attention_bias", "rotate")
"""What a position may have, at least one of them, each told the block's index.

`forward(tokens [B, prefix + N, D], block)` → tokens; `attention_bias(q [B, H, N, d], block)` → what is added to the scaled
logits, broadcastable to [B, H, N, N]; `rotate(x [B, H, N, d], block)` → queries, or keys, in the same shape."""


OnOutput = Callable[[str, object, tuple[Any, ...], Tensor], None]
"""Called with `position CPE@1a2b3c4d.rotate`; the part, or the function; its inputs, as they came; and what it gave."""
_on_output: OnOutput | None = None


@contextmanager
def outputs_of_users_code(on_output: OnOutput) -> Iterator[None]:
    """While entered, each call of users' code in a model hands over its output, the innermost first.

    Of an attention bias, it is the largest value of each row [B or 1, H, N], which softmax subtracts: not finite where the
    row has NaN or ∞, or is −∞ throughout; a mask may have −∞ in some places.
    """
    global _on_output
    before, _on_output = _on_output, on_output
    try:
        yield
    finally:
        _on_output = before


class PartError(ValueError):
    """A user's part that cannot be built or run; its text says which part, what was expected, and what it gave."""


def build_part(role: str, config: ViTConfig, *, place: str, seed: int, built_in: Callable[[], Any]) -> Any:
    """The module (or, of an activation, the function) that `config` names for the role; of no user's, what `built_in` makes.

    `place` is its name in the model. Raises PartError for a class that cannot be built with the configuration, and the
    ValueError of `lookup`.
    """
    name = getattr(config, role)
    if not is_user_name(name):
        return built_in()
    code = lookup(name)
    what = f"{role} {name}"
    if not isinstance(code, type):
        return _checked_function(code, what)
    with isolated(key(seed, place)), errors_of(what, "cannot be built"):
        part = code(config)
    check_built(part, what)
    if role == "position":
        _check_position(part, what)
    has_forward = type(part).forward is not nn.Module.forward
    users: Any = type(part)
    with errors_of(what, "cannot be checked at its calls"):  # what torch.jit makes has another kind of class
        part.__class__ = _checked_class(users, role, name, has_forward)
    part.vitbench_config = config
    return part


def is_part(module: nn.Module) -> bool:
    """Whether this is a user's part, as `build_part` makes it."""
    return role_of(module) != ""


def role_of(module: nn.Module) -> str:
    """What a user's part stands for, a field of the `ViTConfig`; empty for any other module."""
    role: str = getattr(type(module), "vitbench_role", "")
    return role


def parts_of(model: nn.Module) -> dict[str, nn.Module]:
    """The user's parts of a model by their names in it."""
    return {name: module for name, module in model.named_modules() if is_part(module)}


@contextmanager
def isolated(seed: int) -> Iterator[None]:
    """While entered, generators are at the seed, and memory that nothing fills is NaN, not what happened to be there.

    Afterwards all is as it was that a user's code may set for the whole process.
    """
    with taken_back(), seeded(seed):
        torch.use_deterministic_algorithms(True, warn_only=True)
        yield


_NO_FAULT_OF_THE_CODE = (PartError, MemoryError, torch.OutOfMemoryError, Ended)


@contextmanager
def errors_of(what: str, verb: str) -> Iterator[None]:
    """Whatever a user's code raises, SystemExit too, becomes a PartError of one line; that memory is short is passed on."""
    try:
        yield
    except _NO_FAULT_OF_THE_CODE:
        raise
    except (Exception, SystemExit) as error:
        raise PartError(f"{what} {verb}: {reason_of(error)}") from error


def check_built(part: object, what: str) -> None:
    """Raises PartError unless this is a module of torch's whose parameters are there."""
    if not isinstance(part, nn.Module):
        raise PartError(f"{what} gives a {type(part).__name__}, not a torch.nn.Module; derive it from torch.nn.Module")
    if not hasattr(part, "_modules"):
        raise PartError(f"{what} does not call super().__init__() in its constructor; call it first")
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in part.parameters()):
        raise PartError(
            f"{what} has a lazy layer, whose size is not known yet; give sizes, which follow from what the constructor gets"
        )


def check_filled(part: nn.Module, what: str) -> None:
    """Raises PartError for a parameter that starts as NaN, as memory does that nothing fills: built within `isolated`."""
    for name, parameter in part.named_parameters():
        if not parameter.is_meta and parameter.isnan().any():
            raise PartError(f"{what} leaves {name} NaN, or unfilled (torch.empty); give it values in the constructor")


def _check_position(part: nn.Module, what: str) -> None:
    methods = [name for name in POSITION_METHODS if getattr(type(part), name, None) not in (None, nn.Module.forward)]
    if not methods:
        raise PartError(
            f"{what} has none of forward(tokens, block), attention_bias(q, block) and rotate(x, block); give it one"
        )


def call_checked(
    what: str, function: Callable[..., Any], *inputs: Any, expected: tuple[int, ...], **options: Any
) -> Tensor:
    """What `function` makes of the inputs, the first of which is a tensor. Raises PartError unless it is as expected."""
    given: Tensor = inputs[0]
    with errors_of(what, f"fails with an input {list(given.shape)}"):
        output = function(*inputs, **options)
    if not isinstance(output, Tensor):
        raise PartError(
            f"{what} gives a {type(output).__name__}, not a tensor {list(expected)}; return the tensor alone"
        )
    if output.shape != expected:
        raise PartError(
            f"{what} gives {list(output.shape)}, expected {list(expected)}, of an input {list(given.shape)}"
        )
    if not output.is_floating_point() or output.element_size() > max(given.element_size(), 4):
        raise PartError(f"{what} gives {output.dtype} of an input {given.dtype}; give its dtype, as with .to(x.dtype)")
    if output.device != given.device:
        raise PartError(
            f"{what} gives a tensor on {output.device} of an input on {given.device}; keep tensors as parameters or buffers"
        )
    if _on_output is not None:
        _on_output(what, getattr(function, "__self__", function), inputs, output)
    return output


def pre_logits(head: Any, pooled: Tensor) -> Tensor:
    """[B, D] → [B, D]: what a head with such a method makes of pooled features. Raises PartError for another shape."""
    if not hasattr(head, "pre_logits"):
        return pooled
    if not is_part(head):
        features: Tensor = head.pre_logits(pooled)
        return features
    return call_checked(f"{_what(head)}.pre_logits", head.pre_logits, pooled, expected=tuple(pooled.shape))


def _checked_function(function: Callable[[Tensor], Tensor], what: str) -> Callable[[Tensor], Tensor]:
    def activation(x: Tensor) -> Tensor:
        return call_checked(what, function, x, expected=tuple(x.shape))

    return activation


def _expected(role: str, given: Tensor, config: ViTConfig) -> tuple[int, ...]:
    """The shape that a part must give."""
    match role:
        case "stem":
            return len(given), config.num_patches, config.width
        case "pool":
            return len(given), config.width
        case "head":
            return len(given), config.num_classes
        case _:
            return tuple(given.shape)


@cache
def _checked_class(users: type[nn.Module], role: str, name: str, has_forward: bool) -> type[nn.Module]:
    """The user's class, whose every call is checked. Of a position, all methods are there."""
    what = f"{role} {name}"

    class Checked(users):  # type: ignore[valid-type, misc]  # a base that only the run knows
        vitbench_role = role

        def forward(self, x: Tensor, *others: Any, read: slice = ALL) -> Tensor:
            """Those of `read` alone, of all that are computed: a user's attention knows no other way."""
            output = call_checked(what, super().forward, x, *others, expected=_expected(role, x, self.vitbench_config))
            return output if read == ALL else output[:, read]

    for attribute in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(Checked, attribute, getattr(users, attribute))
    Checked.vitbench_has_forward = has_forward
    return Checked


class PositionInAttention:
    """What a user's position does within the attention of one block: a bias on logits, and a rotation of queries and keys."""

    def __init__(self, part: nn.Module, block: int) -> None:
        self.part = part  # not registered: the model has it as `position`
        self.block = block
        self.has_bias, self.has_rotation = (callable(getattr(part, name, None)) for name in POSITION_METHODS[1:])

    def __bool__(self) -> bool:
        return self.has_bias or self.has_rotation

    def rotate(self, x: Tensor) -> Tensor:
        """q or k: [B, H, N, d] → the same shape, in its dtype."""
        if not self.has_rotation:
            return x
        part: Any = self.part
        return call_checked(f"{_what(part)}.rotate", part.rotate, x, self.block, expected=tuple(x.shape)).to(x.dtype)

    def bias(self, q: Tensor) -> Tensor | None:
        """q: [B, H, N, d] → [B or 1, H, N, N] in its dtype; None without."""
        if not self.has_bias:
            return None
        part: Any = self.part
        with errors_of(f"{_what(part)}.attention_bias", f"fails with an input {list(q.shape)}"):
            bias = part.attention_bias(q, self.block)
        heads, tokens = q.shape[1], q.shape[2]
        if isinstance(bias, Tensor) and bias.ndim < 4:
            bias = bias[(None,) * (4 - bias.ndim)]
        fits = (
            isinstance(bias, Tensor)
            and bias.ndim == 4
            and all(size in (1, full) for size, full in zip(bias.shape, (len(q), heads, tokens, tokens), strict=True))
        )
        if not fits:
            gives = list(bias.shape) if isinstance(bias, Tensor) else f"a {type(bias).__name__}"
            raise PartError(
                f"{_what(part)}.attention_bias gives {gives}, expected what broadcasts to "
                f"{[len(q), heads, tokens, tokens]} (batch, heads, queries, keys)"
            )
        bias = bias.expand(-1, heads, tokens, tokens).to(q.dtype)
        if _on_output is not None:
            _on_output(f"{_what(part)}.attention_bias", part, (q,), bias.amax(dim=-1))
        return bias


def _what(part: Any) -> str:
    """`position CPE@1a2b3c4d`."""
    role = role_of(part)
    return f"{role} {getattr(part.vitbench_config, role)}"
