"""Which model stands for each value of each factor: one change from a small baseline. New kinds appear by themselves."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from vitbench.config import POSITION_SITES, ViTConfig

BASELINE = ViTConfig(image_size=32, patch_size=4, width=96, depth=2, num_heads=3, num_classes=10)
"""65 tokens, as CIFAR-10 gives at patch 4."""

SHAPE = frozenset({"image_size", "in_channels", "patch_size", "width", "depth", "num_heads", "num_classes"})
"""How large a model is, which is no factor: `test_models.py` has the named variants for that."""
CHANGES_NO_WORK = frozenset({"norm_eps", "position_grid"})
ONE_KIND = frozenset({"attention", "mlp", "norm"})
"""Roles with one kind of ours; all others are users' code."""
OF_ONE_STEM = frozenset({"stem_layers", "stem_width", "stem_groups"})
NUMBERS: dict[str, Any] = {
    "mlp_ratio": 2.0,
    "num_registers": 4,
    "layer_scale": 0.1,
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "drop_path": 0.1,
}
"""One value of each factor that is a number."""
NEEDS: dict[tuple[str, str], dict[str, Any]] = {
    ("stem", "conv"): {"stem_width": 48},
    ("stem", "resnet"): {"stem_width": 16, "stem_layers": (1, 1), "stem_groups": 8},
}
"""What a kind cannot do without in a model this small."""


def factors() -> dict[str, ViTConfig]:
    """Name (`pool=gap`) → model. Raises TypeError for a field that is neither a choice, nor a switch, nor in `NUMBERS`."""
    changed = {"baseline": BASELINE}
    for position, sites in POSITION_SITES.items():
        for site in sites:
            changed[f"position={position} {site}"] = BASELINE.replace(position=position, position_site=site)
    for field, info in ViTConfig.model_fields.items():
        if field in SHAPE | CHANGES_NO_WORK | OF_ONE_STEM or field.startswith("position"):
            continue
        for value in _values(field, info.annotation):
            if value != getattr(BASELINE, field):
                needs = NEEDS.get((field, value), {})
                changed[f"{field}={value}"] = BASELINE.replace(**{field: value}, **needs)
    return {name: config for name, config in changed.items() if name == "baseline" or config != BASELINE}


def _values(field: str, annotation: Any) -> tuple[Any, ...]:
    literal = next((kind for kind in (annotation, *get_args(annotation)) if get_origin(kind) is Literal), None)
    if literal is not None:  # beside the name of a user's part, which is timed by nobody here
        return get_args(literal)
    if annotation is bool:
        return (False, True)
    if field not in NUMBERS:
        raise TypeError(f"{field} has no value to be timed at; add one to NUMBERS in benchmarks/factors.py")
    return (NUMBERS[field],)
