"""What do all configurations share? They are frozen, refuse unknown fields and have one canonical JSON form.

Also the kinds of number that their fields take.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from vitbench.text import did_you_mean


def divisors(n: int) -> list[int]:
    """All positive divisors of n, ascending."""
    return [d for d in range(1, n + 1) if n % d == 0]


def as_pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a size that may be given as one int."""
    return (size, size) if isinstance(size, int) else size


def size_text(size: int | tuple[int, int]) -> str:
    """`32`, `24 × 32`."""
    height, width = as_pair(size)
    return f"{height}" if height == width else f"{height} × {width}"


def square_as_int(size: Any) -> Any:
    """One canonical form: (32, 32) is 32, so that equal configurations have equal ids."""
    if isinstance(size, list | tuple) and len(size) == 2 and size[0] == size[1]:
        return size[0]
    return size


MOST = 1_000_000
"""No size, count or constant is larger. A larger one is a slip that would show only when memory or patience runs out."""
MOST_BLOCKS = 10_000
MOST_IMAGES = 1_000_000_000
MOST_SEEDS = 1000

Extent = Annotated[int, Field(gt=0, le=MOST)]
Blocks = Annotated[int, Field(gt=0, le=MOST_BLOCKS)]
Positive = Annotated[float, Field(gt=0, le=MOST)]
NotNegative = Annotated[float, Field(ge=0, le=MOST)]
Size = Annotated[Extent | tuple[Extent, Extent], BeforeValidator(square_as_int)]
Rate = Annotated[float, Field(ge=0, lt=1)]


def canonical_json(values: dict[str, Any]) -> str:
    """Sorted keys, no spaces."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"))


class Config(BaseModel):
    """Base of all configurations: frozen, no unknown fields, no infinities, one canonical JSON form."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, values: Any) -> Any:
        if isinstance(values, dict):
            for name in values:
                if name not in cls.model_fields:
                    raise ValueError(f"{cls.__name__} has no field {name!r}; {cls._instead_of(str(name))}")
        return values

    @classmethod
    def _instead_of(cls, name: str) -> str:
        """The remedy for an unknown field."""
        return did_you_mean(name, cls.model_fields, f"its fields are {', '.join(cls.model_fields)}")

    @model_validator(mode="after")
    def _has_a_meaning(self) -> Self:
        for objection in self._objections():
            raise ValueError(objection)
        return self

    def _objections(self) -> Iterator[str]:
        """Why these values have no meaning together, the first reason first."""
        return iter(())

    def replace(self, **changes: Any) -> Self:
        """A copy that differs in the given fields, validated like a new one."""
        return type(self).model_validate({**self.model_dump(), **changes})

    def canonical_json(self) -> str:
        """Sorted keys, no spaces, every field written out."""
        return canonical_json(self.model_dump(mode="json"))


SomeConfig = TypeVar("SomeConfig", bound=Config)
