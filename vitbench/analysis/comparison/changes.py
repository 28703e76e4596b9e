"""In what does an arm differ from the base, by its records, and how is that written?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vitbench.config import DataConfig, TrainConfig
from vitbench.records import Design, Record
from vitbench.studies.settings import value_text

Changes = Mapping[str, Any]
"""Fields of model, recipe and data, by name, to their values as JSON has them."""
NOTHING = "nothing"
"""What the base itself differs in."""


def recorded_changes(records: Sequence[Record], design: Design) -> Changes | None:
    """The fields in which the arm of these records differs from the base; None where no record tells.

    Told by the last of them that was recorded with changes; else by `design`, where their configuration is as it says.
    """
    name = records[0].arm
    for record in reversed(records):
        if record.design.changes:
            return record.design.changes.get(name, {})
    if not design.changes or name not in design.arms:
        return None
    changes, values = design.changes.get(name, {}), records[-1].config.field_values
    expected = {**{field: value for field, value in design.base.items() if field in values}, **changes}
    return changes if all(values.get(field) == value for field, value in expected.items()) else None


def changes_text(changes: Changes) -> str:
    """`pool gap, label_smoothing 0`; `nothing` for the base itself."""
    return ", ".join(f"{name} {value_text(value)}" for name, value in changes.items()) or NOTHING


def difference_text(design: Design, arm: str, changes: Changes | None = None) -> str:
    """In what an arm differs from the base: its changes, what it starts from, and the scale of its learning rates.

    `changes`: those to be told, if not all of the design's.
    """
    changes = design.changes.get(arm, {}) if changes is None else changes
    start, scale = design.starts.get(arm), design.learning_rate_scales.get(arm, 1.0)
    further = [f"starts from {start}"] * (start is not None) + [f"learning rates × {value_text(scale)}"] * (scale != 1)
    return ", ".join([*([changes_text(changes)] if changes or not further else []), *further])


def of_recipe_and_data(changes: Changes | None) -> dict[str, Any]:
    """Those that are of no model."""
    fields = {*TrainConfig.model_fields, *DataConfig.model_fields}
    return {name: value for name, value in (changes or {}).items() if name in fields}
