"""How is text of a pydantic model made safe to show? What would move a cursor or turn a line round is written out."""

from __future__ import annotations

from collections.abc import Iterable
from operator import is_ as _is
from typing import Any, TypeVar

from pydantic import BaseModel

from vitbench.text import printable

Model = TypeVar("Model", bound=BaseModel)


def presentable(models: Iterable[Model]) -> list[Model]:
    """The same models; of those with such text, copies that have it as `printable` writes it.

    A part that several models share is looked at once, and is one object in their copies too.
    """
    models = list(models)
    parts: dict[int, Any] = {}
    return [_printable(model, parts) for model in models]


def _printable(value: Any, parts: dict[int, Any]) -> Any:
    """`parts`: what became of each model that was looked at, by the `id` that it has as long as all models are there."""
    if type(value) is str:
        return printable(value)
    if isinstance(value, BaseModel):
        if id(value) not in parts:
            parts[id(value)] = _printable_model(value, parts)
        return parts[id(value)]
    if isinstance(value, dict):
        items = {printable(str(name)): _printable(item, parts) for name, item in value.items()}
        return value if all(map(_is, items.values(), value.values())) and all(map(_is, items, value)) else items
    if isinstance(value, tuple | list):
        items_of = [_printable(item, parts) for item in value]
        return value if all(map(_is, items_of, value)) else type(value)(items_of)
    return value


def _printable_model(model: BaseModel, parts: dict[int, Any]) -> BaseModel:
    changed = {name: new for name, field in model if (new := _printable(field, parts)) is not field}
    return model.model_copy(update=changed) if changed else model
