"""What of a record may be shown as it is: a name that would move a cursor or turn a line round is shown written out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel

from vitbench.config import printable

Shown = TypeVar("Shown", bound=BaseModel)
_SUSPECT = re.compile(r"\\[bfnrtu]|[^\x20-\x7e]")
"""In JSON: what might be no printable character."""


def presentable(records: Iterable[Shown]) -> list[Shown]:
    """The same records; of those with such text, copies that have it as `printable` writes it."""
    return [_with_printable_text(one) if _SUSPECT.search(one.model_dump_json()) else one for one in records]


def _with_printable_text(value: Any) -> Any:
    if isinstance(value, BaseModel):
        fields = {name: _with_printable_text(own) for name, own in value}
        return value.model_copy(update={name: own for name, own in fields.items() if own is not getattr(value, name)})
    if isinstance(value, dict):
        return {printable(str(name)): _with_printable_text(own) for name, own in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(map(_with_printable_text, value))
    return printable(value) if type(value) is str else value
