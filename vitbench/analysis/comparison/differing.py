"""In what do the arms of a comparison differ, and what do they therefore not share?"""

from __future__ import annotations

from typing import Any

from vitbench.analysis.comparison.arm import ArmResult
from vitbench.analysis.comparison.changes import difference_text
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.writing.words import ABSENT
from vitbench.config import user_names
from vitbench.studies.settings import value_text


def differs_in(comparison: Comparison, arm: ArmResult) -> str:
    """`difference_text` of an arm; `–` where no record tells."""
    if arm.changes is None:
        return ABSENT
    return difference_text(comparison.design, arm.name, _changes_but_padding(comparison, arm))


def _changes_but_padding(comparison: Comparison, arm: ArmResult) -> dict[str, Any]:
    """Without the padding of crops, where it is the base's share of images of another size."""
    follows = "image_size" in (arm.changes or {}) and comparison.pads_as_base(arm.config)
    return {name: value for name, value in (arm.changes or {}).items() if not (follows and name == "crop_padding")}


def not_shared(comparison: Comparison) -> dict[str, Any]:
    """Fields of recipe and data that some arm changes, with the base's value; None where every arm changes it."""
    changes = [_changes_but_padding(comparison, arm) for arm in comparison.arms]
    fields = {name: config for config in (comparison.train, comparison.data) for name in type(config).model_fields}
    return {
        name: None if all(name in of_arm for of_arm in changes) else value_text(getattr(config, name))
        for name, config in fields.items()
        if any(name in of_arm for of_arm in changes)
    }


def user_code(comparison: Comparison) -> list[str]:
    """The users' classes, `NAME@1a2b3c4d`, that models of a comparison are made of, by name."""
    return sorted({name for arm in comparison.arms for name in user_names(arm.model)})
