"""How is text of a pydantic model made safe to show? What would move a cursor or turn a line round is written out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel

from vitbench.text import printable

Model = TypeVar("Model", bound=BaseModel)


def presentable(models: Iterable[Model]) -> list[Model]:
    """The same models; of those with such text, copies that have it as `printable` writes it."""
    texts = ((model, model.model_dump_json()) for model in models)
    # JSON writes most of what is not printable with a backslash.
    return [model if text.isprintable() and "\\" not in text else _printable(model) for model, text in texts]


def _printable(value: Any) -> Any:
    if isinstance(value, BaseModel):
        fields = {name: _printable(field) for name, field in value}
        changed = {name: field for name, field in fields.items() if field is not getattr(value, name)}
        return value.model_copy(update=changed)
    if isinstance(value, dict):
        return {printable(str(name)): _printable(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(map(_printable, value))
    return printable(value) if type(value) is str else value
