"""Is each difference of an arm live? A field is set back to the baseline's value: something of the run must change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations, islice
from typing import Any

from vitbench.config import Config, ModuleConfig, RunConfig
from vitbench.inspection.check_bench import MORE_STEPS, STEPS
from vitbench.inspection.check_trace import Trace, first_difference
from vitbench.inspection.checked_arm import CheckedArm

OF_THE_MACHINE = ("precision",)
"""Fields that may say what `auto` comes to here anyway."""
OPTIONS = ("betas", "momentum", "eps")
CHANCES = ("dropout", "attention_dropout", "drop_path", "random_erasing")
SELDOM = 0.02
"""A chance below this may not come true in the steps that are tried."""
WHOLE_MODEL = "model"
"""What stands for all fields of the model where its kind is another than the baseline's."""
START = "start"
MOST_TRIALS = 500
WITHOUT_A_TRIAL = {"compile": "speed", START: "initial weights"}
"""What changes no number, and what training alone would bring: the weights of another arm."""


class Traces:
    """The traces of a study's runs; the baseline's is kept, the others as long as one arm is checked."""

    def __init__(self, bench: Any, baseline: RunConfig) -> None:
        self._bench, self.baseline = bench, baseline
        self._kept: dict[RunConfig, Trace] = {}

    def of(self, config: RunConfig) -> Trace:
        if config not in self._kept:
            self._kept[config] = Trace(config, self._bench)
        return self._kept[config]

    def forget(self) -> None:
        """All but the baseline's."""
        self._kept = {config: trace for config, trace in self._kept.items() if config == self.baseline}


def check_effects(arm: CheckedArm, config: RunConfig, traces: Traces) -> None:
    """Fills `effects`: each field in which the arm differs from the baseline, with what it changes; dead ones are errors."""
    fields = differing(config, traces.baseline)
    for field in fields:
        if field in WITHOUT_A_TRIAL:
            arm.effects[field] = WITHOUT_A_TRIAL[field]
            continue
        with arm.guarded("difference"):
            before, together = set_back(config, traces.baseline, field, fields)
            pair = [traces.of(config), traces.of(before)]
            arm.effects[field] = first_difference(*pair)
            if not arm.effects[field]:
                _tell_dead(arm, config, together, pair)
    _check_options(arm, config, traces)


def _tell_dead(arm: CheckedArm, config: RunConfig, fields: list[str], traces: list[Trace]) -> None:
    """`fields` were set back together: the first cannot be without the others."""
    field, values, values_before = fields[0], _values(config), _values(traces[1].config)
    value, before = values[field], values_before.get(field)
    if field in OF_THE_MACHINE:
        arm.warn("difference", f"{field} {value} changes nothing on this device; it may on another")
        return
    if field == "clip_norm":
        largest = max(norm for trace in traces for norm in trace.first_steps.gradient_norms or [0.0])
        arm.warn(
            "difference",
            f"clip_norm {value} changes nothing in the first {STEPS} steps, whose gradient norms are {largest:.3g} at most; "
            "a smaller value would",
        )
        return
    if before is None and field in OPTIONS:
        arm.effects[field] = "the optimizer's default"
        return
    if field in CHANCES and max(v for v in (value, before) if isinstance(v, int | float)) < SELDOM:
        arm.warn("difference", f"{field} {value} changes nothing in the first {MORE_STEPS} batches; it is seldom drawn")
        return
    arm.error(
        "difference",
        f"{' and '.join(f'{name} {values[name]}' for name in fields)} has no effect: images, logits and {STEPS} steps of "
        f"training are those of {', '.join(f'{name} {values_before.get(name)}' for name in fields)}; mend what should read "
        "it, or leave it out",
    )


def _check_options(arm: CheckedArm, config: RunConfig, traces: Traces) -> None:
    """Of a model of timm or of a user's: whether each option is read, or is the default anyway."""
    options: Mapping[str, Any] = getattr(config.model, "options", {})
    for name in options:
        others = {other: value for other, value in options.items() if other != name}
        without = config.replace(model=config.model.replace(options=others))
        try:
            effect = first_difference(traces.of(config), traces.of(without))
        except Exception:  # an option that must be given
            continue
        if not effect and isinstance(config.model, ModuleConfig):  # timm refuses options that it does not know
            arm.warn(
                "difference",
                f"option {name} {options[name]!r} changes nothing against leaving it out: it is the default, or not read",
            )


def differing(config: RunConfig, baseline: RunConfig) -> list[str]:
    """Fields of model, recipe and data in which two runs differ; `model` where these are of two kinds, `start` where one goes
    on from other weights. Without the learning rate, which is tuned.
    """
    fields = [] if type(config.model) is type(baseline.model) else [WHOLE_MODEL]
    for part, before in _parts(config, baseline):
        fields += [name for name in type(part).model_fields if getattr(part, name) != getattr(before, name)]
    fields += [START] if config.pretraining != baseline.pretraining else []
    return [field for field in fields if field != "learning_rate"]


def _parts(config: RunConfig, baseline: RunConfig) -> Iterator[tuple[Config, Config]]:
    if type(config.model) is type(baseline.model):
        yield config.model, baseline.model
    yield config.train, baseline.train
    yield config.data, baseline.data


def set_back(config: RunConfig, baseline: RunConfig, field: str, fields: list[str]) -> tuple[RunConfig, list[str]]:
    """(the run with the baseline's value of a field, the fields that were set back): the field alone, where that has a meaning
    beside the others, else with as few of the others as can be.
    """
    others = [other for other in fields if other != field]
    companions = (few for number in range(len(others) + 1) for few in combinations(others, number))
    for few in islice(companions, MOST_TRIALS):
        try:
            return _set_back(config, baseline, [field, *few]), [field, *few]
        except ValueError:
            continue
    return baseline, [field, *others]


def _set_back(config: RunConfig, baseline: RunConfig, fields: list[str]) -> RunConfig:
    parts: dict[str, Any] = {}
    for name in ("model", "train", "data"):
        part, before = getattr(config, name), getattr(baseline, name)
        changed = {field: getattr(before, field) for field in fields if field in type(part).model_fields}
        parts[name] = part.replace(**changed)
    if WHOLE_MODEL in fields:
        parts["model"] = baseline.model
    if START in fields:
        parts |= {"pretraining": baseline.pretraining, "keep_head": baseline.keep_head}
    return config.replace(**parts)


def _values(config: RunConfig) -> dict[str, Any]:
    shown: dict[str, Any] = {WHOLE_MODEL: getattr(config.model, "model_name", "ViT"), START: "weights"}
    return {**shown, **config.field_values}
