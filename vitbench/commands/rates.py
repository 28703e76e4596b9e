"""How fast each arm of a study trains on this machine, where training time is to be equal: found once, then kept.

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
from vitbench.execution.current_environment import Here
from vitbench.machine import cpu_name
from vitbench.records import Record
from vitbench.studies.resolved_study import ResolvedStudy
from vitbench.studies.settings import without

if TYPE_CHECKING:
    from vitbench.device import Device

SCHEMA = 1
SECONDS = 3.0
"""Time to measure each arm in, at most."""


def known(results: Path, whole: ResolvedStudy) -> dict[str, float] | None:
    """Training images/s of every arm; None unless all are kept."""
    kept = _kept(results, whole)
    speeds = _speeds(kept[1], whole) if kept else {}
    return speeds if speeds.keys() == whole.arms.keys() else None


def made_elsewhere(results: Path, whole: ResolvedStudy) -> str:
    """Of which device and torch the rates are that are kept, where `run` would refuse them here; else empty.

    Which GPU this machine has is not known without torch: of rates of a GPU, torch alone is told.
    """
    kept = _kept(results, whole)
    if kept is None:
        return ""
    made_on = kept[1]["device"]
    here = f"cpu: {cpu_name()}" if made_on.startswith("cpu:") else made_on
    return _differing(kept[1], device=here)


def _differing(content: Mapping[str, Any], *, device: str) -> str:
    """`of THERE, and this is HERE`; empty where device and torch are the same."""
    there = f"{content['device']} with torch {content['torch']}"
    here = f"{device} with torch {metadata.version('torch')}"
    return "" if there == here else f"of {there}, and this is {here}"


def settle(results: Path, whole: ResolvedStudy, records: Sequence[Record], *, device: str, threads: int) -> None:
    """Keeps how fast the arms train: from the records of this environment, where they have all arms, else measured here.

    Arms that came later are measured beside the baseline and scaled to what is kept of it. Raises ValueError where what is
    kept is of another device or torch, and where an arm cannot be timed.
    """
    from vitbench.device import open_device

    opened = open_device(device)
    kept = _kept(results, whole)
    speeds, path = {}, _new_path(results, whole)
    if kept:
        path, content = kept
        if differing := _differing(content, device=opened.name):
            raise ValueError(f"match 'time': the rates in {str(path)!r} are {differing}; give another --results")
        speeds = _speeds(content, whole)
    missing = [arm for arm in whole.arms if arm not in speeds]
    if not missing:
        return
    source = "records"
    here = Here(opened, threads=threads)
    found = _recorded(records, whole, here=here) if len(missing) == len(whole.arms) else None
    if found is None:
        source = "measured"
        timed = [whole.baseline, *(arm for arm in missing if arm != whole.baseline)]
        found = _measure(whole, timed, device=opened, threads=threads)
        if whole.baseline in speeds:
            scale = speeds[whole.baseline] / found[whole.baseline]
            found = {arm: speed * scale for arm, speed in found.items()}
    _keep(path, whole, found | speeds, source=source, device=opened, threads=threads)


def _kept(results: Path, whole: ResolvedStudy) -> tuple[Path, dict[str, Any]] | None:
    """The file of this study, recipe and data, whatever arms it has, and what it says."""
    for path in sorted((results / "rates").glob(f"{whole.study.name}-*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            config = RunConfig.model_validate(content["config"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"rates {str(path)!r} cannot be read ({type(error).__name__}); remove the file") from error
        place = (content["study"], content["budget"], content["variant"], content["baseline"])
        if place == _place(whole) and _recipe(config) == _recipe(whole.arms[whole.baseline]):
            return path, content
    return None


def _place(whole: ResolvedStudy) -> tuple[str, str, str, str]:
    return whole.study.name, whole.budget, whole.variant, whole.baseline


def _recipe(config: RunConfig) -> tuple[object, ...]:
    """What speeds depend on beside the model, and the data and baseline that they are of."""
    return config.model, config.data, without(config.train, ("epochs", "learning_rate"))


def _new_path(results: Path, whole: ResolvedStudy) -> Path:
    return results / "rates" / f"{whole.study.name}-{whole.budget}-{whole.arms[whole.baseline].run_id[:8]}.json"


def _speeds(content: Mapping[str, Any], whole: ResolvedStudy) -> dict[str, float]:
    """Of the arms whose model is what it was when it was measured."""
    kept = content["arms"]
    return {
        arm: float(kept[arm]["images_per_second"])
        for arm, config in whole.arms.items()
        if arm in kept and RunConfig.model_validate({"model": kept[arm]["model"]}).model == config.model
    }


def _recorded(records: Sequence[Record], whole: ResolvedStudy, *, here: Here) -> dict[str, float] | None:
    """Medians over the records of this environment that were made under one load and have every arm; None where none do."""
    tuned = ("epochs", *whole.grid.fields)
    found: dict[tuple[object, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        config, environment, speed = record.config, record.environment, record.cost.train_images_per_second
        arm = whole.arms.get(record.arm)
        if arm is None or speed is None or config.init is not None:
            continue
        same = all(
            without(own, tuned) == without(planned, tuned)
            for own, planned in ((config.model, arm.model), (config.data, arm.data), (config.train, arm.train))
        )
        if same and not here.differs(record):
            load = (*environment.comparison_key, environment.threads, environment.workers)
            found[load][record.arm].append(speed)
    whole_sets = [speeds for speeds in found.values() if speeds.keys() == whole.arms.keys()]
    return {arm: median(speeds) for arm, speeds in whole_sets[-1].items()} if whole_sets else None


def _measure(whole: ResolvedStudy, arms: Sequence[str], *, device: Device, threads: int) -> dict[str, float]:
    """Training images/s of `arms`, timed in turn on random images with as many threads as a worker has."""
    import torch

    from vitbench.commands.throughput import OURS, candidate_of
    from vitbench.profiling.throughput import prepare
    from vitbench.profiling.timing import time_in_turn

    print(f"match time: measuring how fast the {len(arms)} arms of {whole.study.name} train", flush=True)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        works = {}
        for arm in arms:
            config = whole.arms[arm]
            train = config.train
            # `auto` on CPU decides by the length of a run, which is what is being asked here.
            compiled = train.compile == "on" or (train.compile == "auto" and device.torch_device.type != "cpu")
            precision = device.resolve_precision(train.precision)
            candidate = candidate_of(config.model, arm, OURS, "train", precision, compiled, train.batch_size)
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
    return {arm: whole.arms[arm].train.batch_size / timing.median for arm, timing in timings.items()}


def _keep(
    path: Path, whole: ResolvedStudy, speeds: Mapping[str, float], *, source: str, device: Device, threads: int
) -> None:
    from vitbench.analysis.writing.files import write

    config = whole.arms[whole.baseline]
    study, budget, variant, baseline = _place(whole)
    content = {
        "schema": SCHEMA,
        "study": study,
        "budget": budget,
        "variant": variant,
        "baseline": baseline,
        "config": config.model_dump(mode="json"),
        "device": device.name,
        "precision": device.resolve_precision(config.train.precision),
        "torch": metadata.version("torch"),
        "threads": threads,
        "source": source,
        "arms": {
            arm: {"model": whole.arms[arm].model.model_dump(mode="json"), "images_per_second": speed}
            for arm, speed in speeds.items()
            if arm in whole.arms
        },
    }
    write(path, json.dumps(content, indent=1) + "\n")
