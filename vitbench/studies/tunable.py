"""Which fields can be tuned beside the learning rate, and over which values?"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from vitbench.config import Config, DataConfig, TrainConfig, ViTConfig
from vitbench.refusals import shortened
from vitbench.studies.field_values import is_number
from vitbench.text import did_you_mean

_PARTS: dict[str, type[Config]] = {"train": TrainConfig, "model": ViTConfig, "data": DataConfig}
_NOT_TUNED = {
    "learning_rate": "its grid is given with --learning-rate",
    "epochs": "all arms have the same, or --match makes them equal in cost; give one with --epochs",
    "train_images": "settings would be compared on other data; give one with --train-images",
    "validation_fraction": "settings are chosen on that split; leave it out",
    "in_channels": "the data decide it; leave it out",
    "num_classes": "the data decide it; leave it out",
}


def part_of(field: str) -> str:
    """Which part of a run's configuration has a field: `train`, `model` or `data`. Raises ValueError where none has."""
    for part, config in _PARTS.items():
        if field in config.model_fields:
            return part
    names = {
        name for config in _PARTS.values() for name, info in config.model_fields.items() if is_number(info.annotation)
    }
    hint = did_you_mean(field, names, f"there are {', '.join(sorted(names - {*_NOT_TUNED}))}")
    raise ValueError(f"tune {field!r}: no configuration has such a field; {hint}")


def check_tuned(tune: Mapping[str, Sequence[float]], *, study: str, varied: Collection[str]) -> None:
    """Raises ValueError for what cannot be tuned in a study whose arms differ in the fields `varied`."""
    for field, values in tune.items():
        part = part_of(field)
        if field in varied:
            raise ValueError(f"tune {field!r}: the arms of study {study!r} differ in it; tune another field")
        if field in _NOT_TUNED:
            raise ValueError(f"tune {field!r}: {_NOT_TUNED[field]}")
        if not is_number(_PARTS[part].model_fields[field].annotation):
            raise ValueError(f"tune {field!r}: its values are no numbers; make them arms of a study of your own")
        if not values:
            raise ValueError(f"tune {field!r} has no values; give some, as in {field}=0.1,0.2")
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"tune {field!r}: {value!r} is not a number; give numbers, as in {field}=0.1,0.2")
        if len({*values}) < len(values):
            raise ValueError(f"tune {field!r} has a value twice in {shortened(tuple(values))}; give each once")


def parse_tune(texts: Iterable[str]) -> dict[str, tuple[float, ...]]:
    """`weight_decay=0.01,0.05` as a field and its values. Raises ValueError for any other text."""
    tune: dict[str, tuple[float, ...]] = {}
    for text in texts:
        name, separator, values = text.partition("=")
        field = name.strip().replace("-", "_")
        if not separator or not field or not values.strip():
            raise ValueError(f"tune {text!r} names no field and values; give them as in weight_decay=0.01,0.05")
        if field in tune:
            raise ValueError(f"tune {field!r} is given twice; give all of its values at once, with commas")
        tune[field] = tuple(_number(field, value.strip()) for value in values.split(","))
    return tune


def _number(field: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"tune {field!r}: {text!r} is not a number; give numbers, as in {field}=0.1,0.2") from None
