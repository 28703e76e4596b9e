"""What does a name on the command line stand for: the model of a variant, of timm, or of a study's arm (`STUDY:ARM`)?"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitbench.config import ModelConfig
from vitbench.data.info import DataInfo
from vitbench.studies.budgets import Budget
from vitbench.studies.library import STUDIES, load_study
from vitbench.studies.overrides import Overrides
from vitbench.studies.resolved_study import ResolvedStudy, resolve_study
from vitbench.text import did_you_mean, say
from vitbench.variants import TIMM
from vitbench.variants import model as named_model

_IN_FILE = re.compile(r"(.+?\.py)(?::(.*))?")


@dataclass(frozen=True)
class ArmName:
    """An arm, as it is named on the command line: `pooling:gap`, `my_study.py:2-D, every layer`."""

    study: str
    """As `load_study` takes it."""
    arm: str

    @property
    def label(self) -> str:
        """`my_study:gap`: the same wherever the file lies."""
        return f"{Path(self.study).stem}:{self.arm}"


@dataclass(frozen=True)
class Target:
    """What a name stands for."""

    name: str
    model: ModelConfig
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of recipe and data that a study sets for its arm, with the values that the arm trains with."""

    def tell_unmeasured(self, measured: Collection[str] = ()) -> list[str]:
        """The settings that are not `measured`, which a line on stderr names."""
        unmeasured = [name for name in self.settings if name not in measured]
        if unmeasured:
            say(f"{self.name} also sets {', '.join(unmeasured)}, which this does not measure")
        return unmeasured


def arm_name(text: str) -> ArmName | None:
    """The arm that a name stands for; None where it is that of a variant or of a model of timm.

    An arm may have colons and spaces in its name: the study ends at the first colon, or behind `.py`.
    """
    if match := _IN_FILE.fullmatch(text):
        return ArmName(match[1], match[2] or "")
    study, colon, arm = text.partition(":")
    if text.startswith(TIMM) or not (colon or text in STUDIES):
        return None
    return ArmName(study, arm)


def model_of(
    text: str, info: DataInfo | None, budget: Budget, *, base: str | None = None, fields: Mapping[str, Any]
) -> ModelConfig:
    """The model of `target_of`."""
    return target_of(text, info, budget, base=base, fields=fields).model


def target_of(
    text: str, info: DataInfo | None, budget: Budget, *, base: str | None = None, fields: Mapping[str, Any]
) -> Target:
    """What a name stands for, its model with `fields` on top.

    The model is for the images of `info`; without, a variant is as the paper has it. An arm's differs from the base variant
    that `budget` has for these images, or from `base`. Raises ValueError for a name that stands for nothing, and for fields
    that have no meaning there.
    """
    shape = {} if info is None else info.model_shape
    name = arm_name(text)
    if name is None:
        if base is not None:
            raise ValueError(f"base {base!r} is what a study's arms differ from, and {text!r} is no arm; leave it out")
        return Target(text, named_model(text, **{**shape, **fields}))
    assert info is not None, text
    resolved = resolve_arm(name, info, budget, base=base)
    run, study = resolved.arms[name.arm], resolved.study
    sets = {**study.train, **study.data, **resolved.design.changes.get(name.arm, {})}
    settings = {
        setting: getattr(config, setting)
        for config in (run.train, run.data)
        for setting in type(config).model_fields
        if setting in sets
    }
    return Target(text, run.model.replace(**fields), settings)


def resolve_arm(name: ArmName, info: DataInfo, budget: Budget, *, base: str | None = None) -> ResolvedStudy:
    """The study of an arm, on the images of `info`, in which the arm is. Raises ValueError where it is not."""
    study = load_study(name.study)
    resolved = resolve_study(study, budget, info, Overrides(variant=base))
    if name.arm not in resolved.arms:
        if name.arm in resolved.left_out:
            raise ValueError(
                f"arm {name.arm!r} of {name.study} is of a size that images of {info.dataset} do not come in; give other "
                "--data"
            )
        there = ", ".join(map(repr, resolved.arms))
        if not name.arm:
            raise ValueError(f"{name.study} is a study; give one of its arms, as {name.study}:ARM: {there}")
        raise ValueError(
            f"arm {name.arm!r} is not in {name.study}; {did_you_mean(name.arm, resolved.arms, f'there are {there}')}"
        )
    return resolved
