"""How much of a GPU does a run need? By the peak memory of runs like it, with head room; where none is known, all of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from vitbench.config import RunConfig, ViTConfig
from vitbench.records import Record

HEAD_ROOM = 1.25
"""Times the measured peak: the allocator's fragments, and batches that differ."""
CONTEXT_BYTES = 2**30
"""Of a process on a GPU: CUDA's context and its libraries' workspaces, which torch's allocator does not count."""
MOST_ON_A_GPU = 8
_DIGITS = 10_000
"""Ray counts resources in ten-thousandths."""
_TRAIN = ("batch_size", "optimizer", "compile", "ema_decay")
"""Of a recipe, what memory depends on."""

Key = tuple[object, ...]


class PeakMemory:
    """The largest peak of each configuration that was recorded on one device, else that of its profile."""

    def __init__(self, device_name: str) -> None:
        self._device_name = device_name
        self._peaks: dict[Key, int] = {}
        self._of_profiles: dict[Key, int] = {}

    def learn_profiles(self, results: Path) -> None:
        """From what `vitbench profile` measured of training steps. A file that cannot be read tells nothing."""
        for path in results.glob("profiles/*/throughput/*.json"):
            with suppress(OSError, ValueError, KeyError, TypeError):
                content = json.loads(path.read_text(encoding="utf-8"))
                model = ViTConfig.model_validate(content["request"]["model"])
                for row in content["facts"]["rows"]:
                    is_ours = row["implementation"] == "vitbench" and row["mode"] == "train"
                    if is_ours and row["device"] == self._device_name and row["peak_memory_bytes"] is not None:
                        key = model, row["precision"], row["batch_size"]
                        self._of_profiles[key] = max(row["peak_memory_bytes"], self._of_profiles.get(key, 0))

    def learn(self, records: Iterable[Record]) -> None:
        for record in records:
            peak, environment = record.cost.peak_memory_bytes, record.environment
            if peak is not None and environment.device == self._device_name:
                key = _key(record.config, environment.precision)
                self._peaks[key] = max(peak, self._peaks.get(key, 0))

    def of(self, config: RunConfig, precision: str) -> int | None:
        """Bytes; None where no run like it is recorded. `precision`: what `auto` became."""
        profiled = self._of_profiles.get((config.model, precision, config.train.batch_size))
        return self._peaks.get(_key(config, precision), profiled)


def _key(config: RunConfig, precision: str) -> Key:
    return config.model, precision, *(getattr(config.train, name) for name in _TRAIN)


def gpu_share(peak: int | None, device_memory: int | None) -> float:
    """Of one GPU, in 1/1, 1/2, … 1/8, a little less where that has no end: so many of the shares fit."""
    if peak is None or not device_memory:
        return 1.0
    number = int(device_memory // (peak * HEAD_ROOM + CONTEXT_BYTES))
    number = max(1, min(number, MOST_ON_A_GPU))
    return _DIGITS // number / _DIGITS


def parse_gpus_per_run(text: str) -> float | None:
    """None for `auto`. Raises ValueError for what is no share of a GPU."""
    if text == "auto":
        return None
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 1 / _DIGITS <= share <= 1:
        raise ValueError(
            f"gpus-per-run {text!r} is no share of a GPU; give 1, 0.5 or another number to 1, or auto (a run is on one GPU)"
        )
    return share
