"""What is kept of a run's epochs? A learning curve, as text until somebody looks at it: most readers of records never do."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, overload

from pydantic import Field, GetCoreSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, SchemaValidator, core_schema

from vitbench.records.stored import Stored

Share = Annotated[float, Field(ge=0, le=1)]
Loss = Annotated[float, Field(ge=0)]
Epoch = Annotated[int, Field(ge=1)]


class EpochPoint(Stored):
    """One epoch of the learning curve. Accuracies are fractions in [0, 1], losses in nats."""

    epoch: Epoch
    """1 after the first pass over the training images."""
    train_loss: Loss | None
    """Mean over the epoch; None where it was not finite."""
    val_loss: Loss | None = None
    val_top1: Share | None = None
    fraction: Share = 1.0
    """Share of the epoch that was trained: below 1 where a run of a broken number of epochs ends."""


_POINTS = TypeAdapter(tuple[EpochPoint, ...])
_WRITTEN = SchemaValidator(
    core_schema.list_schema(
        core_schema.typed_dict_schema(
            {
                name: core_schema.typed_dict_field(TypeAdapter(field.rebuild_annotation()).core_schema)
                for name, field in EpochPoint.model_fields.items()
            },
            extra_behavior="forbid",
        )
    ),
    core_schema.CoreConfig(strict=True, allow_inf_nan=False),
)
"""Of points with all these fields and no others, as this version writes them: checked without making a model of each."""


class Curve(Sequence[EpochPoint]):
    """The points, by epoch. Equal to a tuple of the same points."""

    __slots__ = ("_kept",)

    def __init__(self, points: Iterable[EpochPoint] = ()) -> None:
        self._kept: str | tuple[EpochPoint, ...] = tuple(points)

    @classmethod
    def of_json(cls, text: str) -> Curve:
        """From the JSON that this version writes. Raises ValueError for any other, which may be sound all the same."""
        _WRITTEN.validate_json(text)
        curve = cls()
        curve._kept = text
        return curve

    @property
    def points(self) -> tuple[EpochPoint, ...]:
        return _POINTS.validate_python(json.loads(self._kept)) if isinstance(self._kept, str) else self._kept

    @overload
    def __getitem__(self, index: int) -> EpochPoint: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[EpochPoint, ...]: ...
    def __getitem__(self, index: int | slice) -> EpochPoint | tuple[EpochPoint, ...]:
        return self.points[index]

    def __len__(self) -> int:
        return len(self.points)

    def __bool__(self) -> bool:
        return self._kept not in ("[]", ())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Curve):
            return self._kept == other._kept or self.points == other.points
        return self.points == other

    def __hash__(self) -> int:
        return hash(self.points)

    def __repr__(self) -> str:
        return repr(self.points)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        points = handler.generate_schema(tuple[EpochPoint, ...])
        return core_schema.no_info_wrap_validator_function(
            lambda value, validated: value if isinstance(value, cls) else cls(validated(value)),
            points,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda curve: tuple(curve),
                return_schema=points,  # model_copy may put in another sequence
            ),
        )
