"""How fast does each arm of a study train on this machine, where training time is to be equal? Settled once, then kept.

In `rates/<study>-….json` of the results folder, so that later plans give every arm the same epochs. Only ratios to the
baseline count.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from vitbench.config import RunConfig
from vitbench.execution.current_environment import CurrentEnvironment
from vitbench.files import ANOTHER_RESULTS, cannot_write, write_whole
from vitbench.machine import cpu_name
from vitbench.records import Record
from vitbench.studies.resolved_study import ResolvedStudy
from vitbench.studies.settings import without

if TYPE_CHECKING:
    from vitbench.device import Device

SCHEMA = 1
SECONDS = 3.0
"""Time to measure each arm in, at most."""


def kept(results: Path, resolved: ResolvedStudy) -> dict[str, float] | None:
    """Training images/s of every arm; None unless all are kept."""
    _, content = _read(results, resolved)
    speeds = _speeds(content, resolved)
    return speeds if speeds.keys() == resolved.arms.keys() else None


def made_elsewhere(results: Path, resolved: ResolvedStudy) -> str:
    """Of which device and torch the rates are that are kept, where `run` would refuse them here; else empty.

    Which GPU this machine has is not known without torch: of rates of a GPU, torch alone is told.
    """
    _, content = _read(results, resolved)
    if not content:
        return ""
    made_on = content["device"]
    return _differing(content, device=f"cpu: {cpu_name()}" if made_on.startswith("cpu:") else made_on)


def _differing(content: Mapping[str, Any], *, device: str) -> str:
    """`of DEVICE with torch VERSION, and this is …`; empty where device and torch are the same."""
    kept = f"{content['device']} with torch {content['torch']}"
    current = f"{device} with torch {metadata.version('torch')}"
    return "" if kept == current else f"of {kept}, and this is {current}"


def settle(results: Path, resolved: ResolvedStudy, records: Sequence[Record], *, device: Device, threads: int) -> None:
    """Keeps how fast the arms train: from the records of this environment, where they have all arms, else measured now.

    Arms that came later are measured beside the baseline and scaled to what is kept of it. Raises ValueError where what is
    kept is of another device or torch, and where an arm cannot be timed.
    """
    path, content = _read(results, resolved)
    if content and (differing := _differing(content, device=device.name)):
        raise ValueError(f"match 'time': the rates in {str(path)!r} are {differing}; give another --results")
    kept_speeds = _speeds(content, resolved)
    missing = [arm for arm in resolved.arms if arm not in kept_speeds]
    if not missing:
        return
    source, speeds = "records", None
    if not kept_speeds:
        speeds = _recorded(records, resolved, current=CurrentEnvironment(device, threads=threads))
    if speeds is None:
        source = "measured"
        timed = [resolved.baseline, *(arm for arm in missing if arm != resolved.baseline)]
        print(f"match time: measuring how fast the {len(timed)} arms of {resolved.study.name} train", flush=True)
        speeds = _measure(resolved, timed, device=device, threads=threads)
        if resolved.baseline in kept_speeds:
            scale = kept_speeds[resolved.baseline] / speeds[resolved.baseline]
            speeds = {arm: speed * scale for arm, speed in speeds.items()}
    baseline = resolved.arms[resolved.baseline]
    content = {
        "schema": SCHEMA,
        **_place(resolved),
        "config": baseline.model_dump(mode="json"),
        "device": device.name,
        "precision": device.resolve_precision(baseline.train.precision),
        "torch": metadata.version("torch"),
        "threads": threads,
        "source": source,
        "arms": {
            arm: {**_timed(resolved.arms[arm]), "images_per_second": speed}
            for arm, speed in (speeds | kept_speeds).items()
            if arm in resolved.arms
        },
    }
    try:
        write_whole(path, json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise cannot_write("results", path, error, ANOTHER_RESULTS) from error


def _read(results: Path, resolved: ResolvedStudy) -> tuple[Path, dict[str, Any]]:
    """The file of this study, recipe and data, whatever arms it has, and what it says; nothing where it is to be written."""
    for path in sorted((results / "rates").glob(f"{resolved.study.name}-*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            config = RunConfig.model_validate(content["config"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"rates {str(path)!r} cannot be read ({type(error).__name__}); remove the file") from error
        if content.items() >= _place(resolved).items() and _recipe(config) == _recipe(resolved.arms[resolved.baseline]):
            return path, content
    of_baseline = resolved.arms[resolved.baseline].run_id[:8]
    return results / "rates" / f"{resolved.study.name}-{resolved.budget}-{of_baseline}.json", {}


def _place(resolved: ResolvedStudy) -> dict[str, str]:
    return {
        "study": resolved.study.name,
        "budget": resolved.budget,
        "variant": resolved.variant,
        "baseline": resolved.baseline,
    }


def _recipe(config: RunConfig) -> tuple[object, ...]:
    """What speeds depend on beside the model, and the data and baseline that they are of."""
    return config.model, config.data, without(config.train, ("epochs", "learning_rate"))


def _speeds(content: Mapping[str, Any], resolved: ResolvedStudy) -> dict[str, float]:
    """Of the arms whose model and recipe are what they were when they were measured."""
    arms = content.get("arms", {})
    return {
        arm: float(arms[arm]["images_per_second"])
        for arm, config in resolved.arms.items()
        if arm in arms and _is_timed_as(config, {"train": content["config"]["train"], **arms[arm]})
    }


def _timed(config: RunConfig) -> dict[str, Any]:
    """What is kept of an arm, to know it again."""
    return {part: getattr(config, part).model_dump(mode="json") for part in ("model", "train")}


def _is_timed_as(config: RunConfig, kept: Mapping[str, Any]) -> bool:
    """Older files keep no recipe of an arm, which then was the baseline's."""
    measured = RunConfig.model_validate({part: kept[part] for part in ("model", "train")})
    by_plan = ("epochs", "learning_rate")
    return measured.model == config.model and without(measured.train, by_plan) == without(config.train, by_plan)


def _recorded(
    records: Sequence[Record], resolved: ResolvedStudy, *, current: CurrentEnvironment
) -> dict[str, float] | None:
    """Medians over the records of this environment that were made under one load and have every arm; None where none do."""
    tuned = ("epochs", *resolved.grid.fields)
    by_load: dict[tuple[object, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        config, environment, speed = record.config, record.environment, record.cost.train_images_per_second
        arm = resolved.arms.get(record.arm)
        if arm is None or speed is None or config.init is not None:
            continue
        is_same = all(
            without(ran, tuned) == without(planned, tuned)
            for ran, planned in ((config.model, arm.model), (config.data, arm.data), (config.train, arm.train))
        )
        if is_same and not current.differs(record):
            load = (*environment.comparison_key, environment.threads, environment.workers)
            by_load[load][record.arm].append(speed)
    complete = [speeds for speeds in by_load.values() if speeds.keys() == resolved.arms.keys()]
    return {arm: median(speeds) for arm, speeds in complete[-1].items()} if complete else None


def _measure(resolved: ResolvedStudy, arms: Sequence[str], *, device: Device, threads: int) -> dict[str, float]:
    """Training images/s of `arms`, timed in turn on random images with as many threads as a worker has."""
    import torch

    from vitbench.profiling.candidates import candidate_of, is_compiled
    from vitbench.profiling.throughput import prepare
    from vitbench.profiling.timing import time_in_turn

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        works = {}
        for arm in arms:
            config = resolved.arms[arm]
            train = config.train
            compiled = is_compiled(train.compile, device.torch_device)
            precision = device.resolve_precision(train.precision)
            candidate = candidate_of(
                config.model, arm, mode="train", precision=precision, compiled=compiled, batch_size=train.batch_size
            )
            try:
                works[arm] = prepare(candidate, device)
                device.time(works[arm])
            except Exception as error:  # whatever it is, without this arm's speed there is no plan
                raise ValueError(
                    f"match 'time': arm {arm!r} cannot be timed ({' '.join(str(error).split())}); use --match flops"
                ) from error
        timings = time_in_turn(works, device=device, max_seconds=SECONDS * len(works))
    finally:
        torch.set_num_threads(before)
    return {arm: resolved.arms[arm].train.batch_size / timing.median for arm, timing in timings.items()}
