"""What is a setting? One value of each tuned field, the learning rate first; a grid is every combination of their values."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

from vitbench.config import RunConfig
from vitbench.config.base import SomeConfig
from vitbench.refusals import shortened
from vitbench.studies.tunable import part_of

RATE = "learning_rate"
Setting = tuple[float, ...]
"""A value of every tuned field, in the grid's order: the learning rate, then the others."""
Side = Literal["lowest", "highest"]
SIDES: tuple[Side, Side] = ("lowest", "highest")


@dataclass(frozen=True)
class Grid:
    """The values of every tuned field, ascending; the learning rate first. Every combination is a trial."""

    values: Mapping[str, tuple[float, ...]]

    @classmethod
    def of(cls, learning_rates: Iterable[float], tune: Mapping[str, Sequence[float]]) -> Grid:
        """From values in any order, some perhaps twice."""
        fields: dict[str, Iterable[float]] = {RATE: learning_rates, **tune}
        return cls({field: tuple(sorted({float(value) for value in values})) for field, values in fields.items()})

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(self.values)

    @property
    def settings(self) -> tuple[Setting, ...]:
        """Every combination, ascending."""
        return tuple(product(*self.values.values()))

    @property
    def tuned(self) -> dict[str, tuple[float, ...]]:
        """The values of all fields but the learning rate."""
        return {field: values for field, values in self.values.items() if field != RATE}

    def edges(self, setting: Setting) -> set[tuple[str, Side]]:
        """(field, side) for each field with several values of which a setting has the lowest or the highest."""
        return {
            (field, side)
            for (field, values), value in zip(self.values.items(), setting, strict=True)
            for side, end in zip(SIDES, (values[0], values[-1]), strict=True)
            if len(values) > 1 and value == end
        }

    def extended(self, field: str, side: Side, *, has_meaning: Callable[[Grid], bool]) -> Grid | None:
        """The grid with one more value of `field` on that side, at the ratio of the last two there.

        None where that value has no meaning, or `step_beyond` knows none.
        """
        values = self.values[field]
        step = step_beyond(values, side)
        if step is None:
            return None
        grid = Grid({**self.values, field: tuple(sorted({*values, step}))})
        return grid if has_meaning(grid) else None


def step_beyond(values: Sequence[float], side: Side) -> float | None:
    """The next of several ascending values on that side, at the ratio of the last two there; None unless both are above 0."""
    end, neighbour = (values[0], values[1]) if side == "lowest" else (values[-1], values[-2])
    if not (end > 0 and neighbour > 0):
        return None
    # Four digits: half of 0.004 is 0.002, whatever the last bits are, and a third of 0.001 can be read.
    return float(f"{end * end / neighbour:.4g}")


def setting_of(config: RunConfig, fields: Iterable[str]) -> Setting:
    """A run's values of the tuned fields; NaN, which is in no grid, for a field that is off (None)."""
    values = (getattr(getattr(config, part_of(field)), field) for field in fields)
    return tuple(math.nan if value is None else float(value) for value in values)


def with_setting(
    config: RunConfig, fields: Sequence[str], setting: Setting, *, pretraining: RunConfig | None = None
) -> RunConfig:
    """The run at another setting, with its pretraining at that setting too. Raises ValueError where that has no meaning."""
    changes: dict[str, dict[str, float]] = {}
    for field, value in zip(fields, setting, strict=True):
        changes.setdefault(part_of(field), {})[field] = value
    parts: dict[str, Any] = {part: getattr(config, part).replace(**values) for part, values in changes.items()}
    assert (pretraining is None) == (config.pretraining is None)
    fields_of_run = {name: getattr(config, name) for name in RunConfig.model_fields}
    return RunConfig.model_validate(fields_of_run | parts | {"pretraining": pretraining})


def with_seed(config: RunConfig, seed: int) -> RunConfig:
    """The run and its pretraining at another seed."""
    before = config.pretraining
    return config.model_copy(update={"seed": seed, "pretraining": before and with_seed(before, seed)})


def without(config: SomeConfig, fields: Collection[str]) -> SomeConfig:
    """The configuration with None for these fields: equal for those that differ in nothing else, but not one to run."""
    present = [field for field in fields if field in type(config).model_fields]
    return config.model_copy(update=dict.fromkeys(present)) if present else config


def value_text(value: Any) -> str:
    """A field's value in words: `none`, `off`, `0.1`, `3e-5`, `(3, 4, 9)`."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int | float):
        return f"{value:.6g}".replace("e-0", "e-")
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return f"({', '.join(map(value_text, value))})"
    return shortened(json.loads(json.dumps(value, default=str)))


def setting_text(fields: Sequence[str], setting: Setting) -> str:
    """`0.002` where the learning rate alone is tuned, else `lr 0.002, weight_decay 0.05`."""
    if len(fields) == 1:
        return value_text(setting[0])
    names = ("lr" if field == RATE else field for field in fields)
    return ", ".join(f"{name} {value_text(value)}" for name, value in zip(names, setting, strict=True))
