"""In what do arms differ from the base, as their records say it, and which fields do they therefore not share?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vitbench.analysis.writing.words import ABSENT, listed
from vitbench.config import DataConfig, ModelConfig, ModuleConfig, RunConfig, TrainConfig, ViTConfig, shortened
from vitbench.records import Design, Record

if TYPE_CHECKING:
    from vitbench.analysis.comparison.arm import ArmResult
    from vitbench.analysis.comparison.comparison import Comparison

Changes = Mapping[str, Any]
"""Fields of model, recipe and data, by name, to their values as JSON has them."""


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
    changes, values = design.changes.get(name, {}), values_of(records[-1].config)
    expected = {**{field: value for field, value in design.base.items() if field in values}, **changes}
    return changes if all(values.get(field) == value for field, value in expected.items()) else None


def values_of(config: RunConfig) -> dict[str, Any]:
    """Every field of model, recipe and data as JSON has it; their names do not overlap."""
    parts = (config.model, config.train, config.data)
    return {name: value for part in parts for name, value in part.model_dump(mode="json").items()}


def changes_text(changes: Changes) -> str:
    """`pool gap, label_smoothing 0`; `nothing` for the base itself."""
    return ", ".join(f"{name} {value_text(value)}" for name, value in changes.items()) or "nothing"


def differs_in(comparison: Comparison, arm: ArmResult) -> str:
    """`changes_text` of an arm, and what its design gives it beside: weights to start from, other learning rates."""
    if arm.changes is None:
        return ABSENT
    start, scale = comparison.design.starts.get(arm.name), comparison.design.learning_rate_scales.get(arm.name, 1.0)
    changes = _changes_of_its_own(comparison, arm)
    further = [f"starts from {start}"] * (start is not None) + [f"learning rates × {value_text(scale)}"] * (scale != 1)
    return listed([*([changes_text(changes)] if changes or not further else []), *further])


def _changes_of_its_own(comparison: Comparison, arm: ArmResult) -> dict[str, Any]:
    """Without the padding of crops, where it is the base's share of images of another size."""
    follows = "image_size" in (arm.changes or {}) and comparison.pads_as_base(arm.config)
    return {name: value for name, value in (arm.changes or {}).items() if not (follows and name == "crop_padding")}


def value_text(value: Any) -> str:
    """A field's value in words: `none`, `off`, `0.1`, `(3, 4, 9)`."""
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


def not_shared(comparison: Comparison) -> dict[str, Any]:
    """Fields of recipe and data that some arm changes, with the base's value; None where every arm changes it."""
    changes = [_changes_of_its_own(comparison, arm) for arm in comparison.arms]
    fields = {name: config for config in (comparison.train, comparison.data) for name in type(config).model_fields}
    return {
        name: None if all(name in of_arm for of_arm in changes) else value_text(getattr(config, name))
        for name, config in fields.items()
        if any(name in of_arm for of_arm in changes)
    }


def of_recipe_and_data(changes: Changes | None) -> dict[str, Any]:
    """Those that are of no model."""
    fields = {*TrainConfig.model_fields, *DataConfig.model_fields}
    return {name: value for name, value in (changes or {}).items() if name in fields}


def user_code(comparison: Comparison) -> list[str]:
    """The users' classes, `NAME@1a2b3c4d`, that models of a comparison are made of, by name."""
    return sorted({name for arm in comparison.arms for name in user_code_of(arm.model)})


def user_code_of(model: ModelConfig) -> list[str]:
    """The user's classes that one is made of: its costs are as recorded, since the classes need not be here."""
    if isinstance(model, ModuleConfig):
        return [model.module]
    return [*model.user_parts.values()] if isinstance(model, ViTConfig) else []
