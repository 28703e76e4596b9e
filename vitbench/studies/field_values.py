"""Which kinds of value does a field take: numbers, flags or text?

Configurations are lenient: they read `"2"` as a number, and True as 1. In Python these are slips, refused here.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, create_model

from vitbench.config import ROLES, Config
from vitbench.refusals import one_line, shortened

_WORDS = {bool: "True or False", int: "a number", float: "a number", str: "text"}
_READ_AS_OTHERS = (bool, int, float, str, bytes)


def check_kind(name: str, value: Any, config: type[Config]) -> None:
    """Raises ValueError for text or a flag where a field of `config` takes a number, and the like.

    Whole numbers and floats are of one kind; the configuration judges whether a float must be whole.
    """
    taken = set(_kinds(config.model_fields[name].annotation))
    if taken & {int, float}:
        taken |= {int, float}
    for part in value if isinstance(value, list | tuple) else (value,):
        if type(part) in _READ_AS_OTHERS and type(part) not in taken and Any not in taken:
            words = [*dict.fromkeys(_WORDS[kind] for kind in (bool, int, str) if kind in taken)]
            words = ["a name", "a class of yours"] if name in ROLES else words
            raise ValueError(f"{name} {shortened(value)}: give {' or '.join(words)}")


def check_value(name: str, value: Any, config: type[Config]) -> None:
    """Raises ValueError for what a field of `config` does not take, whatever the values of the others."""
    check_kind(name, value, config)
    try:
        _alone(config, name).model_validate({name: value})
    except ValueError as error:
        raise ValueError(one_line(error) + (", or give a class of yours" if name in ROLES else "")) from error


@cache
def _alone(config: type[Config], name: str) -> type[BaseModel]:
    """A model of that field alone."""
    info = config.model_fields[name]
    of_config = ConfigDict(allow_inf_nan=False)
    # pydantic's types know no field whose name is computed.
    return create_model(config.__name__, __config__=of_config, **{name: (info.annotation, info)})  # type: ignore[call-overload, no-any-return]


def is_number(annotation: Any) -> bool:
    """Whether a field takes single numbers and, perhaps, None."""
    kinds = set(_kinds(annotation, within_tuples=False))
    return bool(kinds & {int, float}) and kinds <= {int, float, NoneType}


def _kinds(annotation: Any, *, within_tuples: bool = True) -> Iterator[Any]:
    """The types that an annotation allows; of `Annotated[int, …]`, int."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _kinds(inner[0], within_tuples=within_tuples)
    elif origin in (Union, UnionType) or (origin is tuple and within_tuples):
        for kind in inner:
            yield from _kinds(kind, within_tuples=within_tuples)
    elif origin is Literal:
        yield from map(type, inner)
    else:
        yield annotation
