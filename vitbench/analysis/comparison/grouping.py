"""Which records belong together: into which comparison each goes, and to which arm of it.

A run counts in every comparison whose plan it belongs to: one that was made with the learning rate alone tuned counts again
where weight decay is tuned too and its own is among the values.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from operator import itemgetter
from typing import Any

from vitbench.analysis.comparison.arm import ArmResult
from vitbench.analysis.comparison.naming import digest
from vitbench.config import ModelConfig, RunConfig
from vitbench.records import Design, Record
from vitbench.studies.choice import counts_over
from vitbench.studies.settings import RATE, Setting, setting_of, without

Key = tuple[Any, ...]
Start = tuple[str, ModelConfig, str | None, float]
"""Name, model but for what is tuned, initial weights and epochs of an arm."""


@dataclass(frozen=True)
class Group:
    """Comparable records in the order of recording, and the last design that they were made under."""

    records: Sequence[Record]
    design: Design

    @property
    def fields(self) -> tuple[str, ...]:
        """What is tuned."""
        return (RATE, *self.design.tuned)

    @property
    def planned(self) -> tuple[Setting, ...]:
        return tuple(product(self.design.learning_rates, *self.design.tuned.values()))


def groups(records: Iterable[Record]) -> list[Group]:
    """Comparable records, in the order of each group's first.

    A run that failed before its data was read or its model compiled cannot say what these were. It has no numbers to mix
    up, so it joins the latest group that agrees in all else, where its failure is seen.
    """
    members: dict[Key, list[tuple[int, Record]]] = defaultdict(list)
    early: dict[Key, list[tuple[int, Record]]] = defaultdict(list)
    numbered = list(enumerate(records))
    for position, record in numbered:
        (early if record.ended_before_data else members)[_key(record, record.design)].append((position, record))
    if early:
        latest = {_early_key(group[0][1]): key for key, group in members.items()}
        for key, group in early.items():
            members[latest.get(_early_key(group[0][1]), key)].extend(group)
    several = len({_kind(record.design) for _, record in numbered}) > 1
    found = []
    for key, group in members.items():
        design = max(group, key=itemgetter(0))[1].design
        joining = _planned_elsewhere(key, design, numbered) if several else []
        in_order = [record for _, record in sorted([*group, *joining], key=itemgetter(0))]
        found += [Group(part, design) for part in (_by_data(in_order) if design.starts else [in_order])]
    return found


def _by_data(records: Sequence[Record]) -> list[list[Record]]:
    """Records whose images are of one data set, though of several sizes, each of which hashes otherwise.

    Where a size has several hashes, what was decoded was not always the same: the last of each size go together, each
    other by itself.
    """
    hashes = {(record.config.model.image_hw, record.environment.data_sha256): None for record in records}
    last = dict(key for key in hashes if key[1])
    parts: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        own = record.environment.data_sha256
        parts["" if own == last.get(record.config.model.image_hw, own) else own].append(record)
    return list(parts.values())


def arms_of(group: Group) -> list[ArmResult]:
    """Arms in the order of their first record; a name with several models, or initial weights, gives several arms."""
    runs: dict[Start, dict[tuple[Setting, int], Record]] = {}
    retried: dict[Start, int] = defaultdict(int)
    models: dict[Start, ModelConfig] = {}
    for record in group.records:
        config = record.config
        arm = record.arm, without(config.model, group.fields), _start(config, group.fields), config.train.epochs
        models.setdefault(arm, config.model)
        cells = runs.setdefault(arm, {})
        cell = setting_of(config, group.fields), config.seed
        before = cells.get(cell)
        retried[arm] += before is not None
        if before is None or counts_over(record, before):
            cells[cell] = record
    starts: dict[str, int] = defaultdict(int)
    for name, *_ in runs:
        starts[name] += 1
    arms = [
        ArmResult(
            label=arm[0] if starts[arm[0]] == 1 else f"{arm[0]} #{_identity(models[arm], arm[2], arm[3], group)[:4]}",
            name=arm[0],
            model=models[arm],
            fields=group.fields,
            init=arm[2],
            runs=cells,
            planned=group.planned,
            tuning_seeds=group.design.tuning_seeds,
            retried=retried[arm],
        )
        for arm, cells in runs.items()
    ]
    return [replace(arm, chosen_with=_chosen_with(arm, arms, group.design)) for arm in arms]


def _chosen_with(arm: ArmResult, arms: Sequence[ArmResult], design: Design) -> ArmResult | None:
    """Of what trained nothing, the arm that its weights come from: it has that one's setting, as plans have it."""
    start = next((other for other in arms if other.name == design.starts.get(arm.name)), None)
    if start is None or arm.epochs:
        return None
    return _chosen_with(start, arms, design) or start


def _start(config: RunConfig, fields: Sequence[str]) -> str | None:
    """The weights that a run started from: their name, or what tells its pretraining from others but its setting and seed."""
    before = config.pretraining
    if before is None:
        return config.init
    parts = {
        name: without(getattr(before, name), fields).model_dump(mode="json") for name in ("model", "data", "train")
    }
    return f"a run, #{digest([parts, _start(before, fields), config.keep_head])[:4]}"


def _identity(model: ModelConfig, init: str | None, epochs: float, group: Group) -> str:
    """Tells arms of one name apart; the same whatever they are compared with."""
    facts: list[Any] = [
        {name: value for name, value in model.model_dump(mode="json").items() if name not in group.fields},
        init,
    ]
    return digest([*facts, epochs] if group.design.epochs else facts)


def _kind(design: Design) -> Key:
    """What sets plans apart that are made of the same runs."""
    kinds = bool(design.fractions), bool(design.starts)
    return design.match, tuple(sorted(design.tuned)), design.epochs.get(design.baseline), *kinds


def _planned_elsewhere(key: Key, design: Design, numbered: Iterable[tuple[int, Record]]) -> list[tuple[int, Record]]:
    """Records of other plans that a group's last plan has among its runs, with their positions."""
    group = Group([], design)
    planned = set(group.planned)
    return [
        (position, record)
        for position, record in numbered
        if _kind(record.design) != _kind(design)
        and _key(record, design) == key
        and setting_of(record.config, group.fields) in planned
        and record.config.train.epochs == design.epochs.get(record.arm, record.config.train.epochs)
    ]


def _key(record: Record, design: Design) -> Key:
    """Equal for records that may be compared, under a design that says what is tuned and what is matched."""
    config, environment = record.config, record.environment
    fields = (RATE, *design.tuned, *(("train_images",) if design.fractions else ()))
    matched = ("epochs",) if design.match != "epochs" or design.fractions or design.starts else ()
    return (
        record.budget,
        record.variant,
        *_data_of(config, fields),
        without(config.train, (*fields, *matched)),
        config.harness_version,
        (environment.model_copy(update={"data_sha256": ""}) if design.starts else environment).comparison_key,
        _kind(design),
    )


def _data_of(config: RunConfig, fields: Sequence[str]) -> Key:
    """Of a run that went on from another, the data and image size of the first; and its own, where crops are not of the same
    share.
    """
    first = config
    while first.pretraining is not None:
        first = first.pretraining
    as_the_first = first.data.resampled(first.model.image_hw, config.model.image_hw)
    own = None if config.data == as_the_first else without(config.data, fields)
    return without(first.data, fields), first.model.image_hw, own


def _early_key(record: Record) -> Key:
    return _key(record.model_copy(update={"environment": record.environment.before_data}), record.design)
