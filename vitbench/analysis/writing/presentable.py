"""What of a record may be shown as it is: a name that would move a cursor or turn a line round is shown written out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel

from vitbench.text import printable

Shown = TypeVar("Shown", bound=BaseModel)


def presentable(records: Iterable[Shown]) -> list[Shown]:
    """The same records; of those with such text, copies that have it as `printable` writes it."""
    return [one if _is_printable(one.model_dump_json()) else _with_printable_text(one) for one in records]


def _is_printable(text: str) -> bool:
    """Of JSON, which writes most of what is not with a backslash."""
    return text.isprintable() and "\\" not in text


def _with_printable_text(value: Any) -> Any:
    if isinstance(value, BaseModel):
        fields = {name: _with_printable_text(own) for name, own in value}
        return value.model_copy(update={name: own for name, own in fields.items() if own is not getattr(value, name)})
    if isinstance(value, dict):
        return {printable(str(name)): _with_printable_text(own) for name, own in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(map(_with_printable_text, value))
    return printable(value) if type(value) is str else value
