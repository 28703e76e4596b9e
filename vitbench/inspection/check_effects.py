"""Is each difference of an arm live? A field is set back to the baseline's value: something of the run must change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vitbench.config import Config, ModelConfig, RunConfig, ViTConfig
from vitbench.inspection.check_bench import MORE_STEPS, STEPS
from vitbench.inspection.check_trace import Trace, first_difference
from vitbench.inspection.checked_arm import CheckedArm

SPEED_ALONE = ("compile",)
"""Fields that are to change no number."""
OF_THE_MACHINE = ("precision",)
"""Fields that may say what `auto` comes to here anyway."""
CHANCES = ("dropout", "attention_dropout", "drop_path", "random_erasing")
SELDOM = 0.02
"""A chance below this may not come true in the steps that are tried."""
WHOLE_MODEL = "model"
"""What stands for all fields of the model where its kind is another than the baseline's."""
START = "start"


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
    trace = traces.of(config)
    for field in differing(config, traces.baseline):
        if field in SPEED_ALONE:
            arm.effects[field] = "speed"
            continue
        before = set_back(config, traces.baseline, field)
        if before is None:
            arm.effects[field] = "with the others"
            continue
        with arm.guarded("difference"):
            arm.effects[field] = first_difference(trace, traces.of(before))
            if not arm.effects[field]:
                _tell_dead(arm, config, field, [trace, traces.of(before)])
    together = [field for field, effect in arm.effects.items() if effect == "with the others"]
    if together and config != traces.baseline:
        with arm.guarded("difference"):
            effect = first_difference(trace, traces.of(traces.baseline))
            arm.effects |= {field: effect for field in together if len(together) == len(arm.effects)}
            if not effect:
                arm.error("difference", f"{', '.join(together)}: nothing changes against the baseline; mend it")
    _check_options(arm, config, traces)


def _tell_dead(arm: CheckedArm, config: RunConfig, field: str, traces: list[Trace]) -> None:
    value = _values(config)[field]
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
    before = _values(traces[1].config).get(field)
    if field in CHANCES and max(v for v in (value, before) if isinstance(v, int | float)) < SELDOM:
        arm.warn("difference", f"{field} {value} changes nothing in the first {MORE_STEPS} batches; it is seldom drawn")
        return
    arm.error(
        "difference",
        f"{field} {value} has no effect: images, logits and {STEPS} steps of training are those of {field} {before}; "
        "mend what should read it, or leave it out",
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
        if not effect:
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


def set_back(config: RunConfig, baseline: RunConfig, field: str) -> RunConfig | None:
    """The run with the baseline's value of one field; None where that has no meaning beside its other fields."""
    try:
        if field == WHOLE_MODEL:
            return config.replace(model=baseline.model)
        if field == START:
            return config.replace(pretraining=baseline.pretraining, keep_head=baseline.keep_head)
        if field in type(config.model).model_fields:
            value = getattr(baseline.model, field)
            return config.replace(model=config.model.replace(**{field: value}))
        if field in type(config.train).model_fields:
            return config.replace(train=config.train.replace(**{field: getattr(baseline.train, field)}))
        return config.replace(data=config.data.replace(**{field: getattr(baseline.data, field)}))
    except ValueError:
        return None


def _values(config: RunConfig) -> dict[str, Any]:
    shown: dict[str, Any] = {WHOLE_MODEL: _kind(config.model), START: "weights"}
    return {**shown, **config.train.model_dump(), **config.data.model_dump(), **config.model.model_dump()}


def _kind(model: ModelConfig) -> str:
    return "ViT" if isinstance(model, ViTConfig) else str(getattr(model, "timm", getattr(model, "module", "")))
