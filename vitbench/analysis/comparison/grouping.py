"""Which records belong together: into which comparison each goes, and to which arm of it.

A run counts in every comparison whose plan it belongs to: one that was made with the learning rate alone tuned counts again
where weight decay is tuned too and its own is among the values.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from vitbench.analysis.comparison.arm import ArmResult
from vitbench.analysis.comparison.changes import of_recipe_and_data, recorded_changes
from vitbench.analysis.comparison.naming import digest
from vitbench.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from vitbench.records import Design, OncePerPlace, Record, by_place
from vitbench.studies.choice import Runs, add_run, base_of, environment_key, grouped
from vitbench.studies.settings import Setting, setting_of, without

Key = tuple[Hashable, ...]
ArmKey = tuple[str, ModelConfig, TrainConfig, DataConfig, str | None]
"""Name, model, recipe and data but for what is tuned, and initial weights of an arm."""


@dataclass(frozen=True)
class Group:
    """Comparable records in the order of recording, and the last design that they were made under."""

    records: Sequence[Record]
    design: Design


@dataclass(frozen=True)
class Plan:
    """What the records of one plan share."""

    design: Design
    """The last, with the changes of every arm that had any: some may have come later."""
    image_hw: tuple[int, int] | None
    """Height and width of the base's images; None where every arm changes them."""


def _plan_of(record: Record) -> Key:
    return record.budget, record.variant, record.config.data.dataset, record.design.kind


def _plans(records: Iterable[Record]) -> dict[Key, Plan]:
    """Each plan of a study's records, by `_plan_of`."""
    designs: dict[Key, Design] = {}
    changes: dict[Key, dict[str, dict[str, Any]]] = defaultdict(dict)
    image_hw: dict[Key, tuple[int, int]] = {}
    of_place = OncePerPlace(lambda record: (_plan_of(record), _base_image_hw(record)))
    for record in records:
        (key, of_base), design = of_place(record), record.design
        if designs.get(key) is not design:
            designs[key] = design
            for arm, of_arm in design.changes.items():
                changes[key][arm] = {**changes[key].get(arm, {}), **of_arm}
        if of_base is not None:
            image_hw[key] = of_base
    return {
        key: Plan(design.model_copy(update={"changes": changes[key]}), image_hw.get(key))
        for key, design in designs.items()
    }


def _base_image_hw(record: Record) -> tuple[int, int] | None:
    """Height and width of the base's images, where its arm has these."""
    config = record.config
    changes_size = "image_size" in record.design.changes.get(record.arm, {})
    return None if changes_size or config.pretraining is not None else config.model.image_hw


def groups(records: Iterable[Record]) -> list[Group]:
    """Comparable records, in the order of each group's first."""
    records = list(records)
    plans = _plans(records)
    elsewhere = _PlannedElsewhere(records) if len({kind for *_, kind in plans}) > 1 else None
    groups = []
    for key, members in grouped(records, lambda record: _key(record, plans[_plan_of(record)])).items():
        plan, design = plans[_plan_of(members[-1])], members[-1].design
        if elsewhere is not None:
            members = elsewhere.with_members(members, key, plan)
        groups += [Group(part, design) for part in (_by_data(members) if plan.design.image_sizes_differ else [members])]
    return groups


class _PlannedElsewhere:
    """Of a study's records, what is of one plan, but among the runs of another too."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._order = {id(record): index for index, record in enumerate(records)}
        self._places: dict[Key, list[list[Record]]] = defaultdict(list)
        for place in by_place(records):
            self._places[_plan_of(place[0])[:-1]].append(place)
        self._by_key: dict[int, dict[Key, list[list[Record]]]] = {}

    def with_members(self, members: Sequence[Record], key: Key, plan: Plan) -> list[Record]:
        """A group of this key, and what belongs to the group's last plan besides, in the order of all records."""
        design = members[-1].design
        settings: dict[str, set[Setting]] = {}

        def belongs(record: Record) -> bool:
            if record.arm not in settings:
                settings[record.arm] = {*design.settings_of(record.arm)}
            return (
                record.design.kind != design.kind
                and setting_of(record.config, design.tuned_fields) in settings[record.arm]
                and record.config.train.epochs == design.epochs.get(record.arm, record.config.train.epochs)
            )

        others = [place for place in self._of_key(key, members[-1], plan) if belongs(place[0])]
        of_the_group = {id(record): record for record in chain(members, *others)}
        return sorted(of_the_group.values(), key=lambda record: self._order[id(record)])

    def _of_key(self, key: Key, member: Record, plan: Plan) -> list[list[Record]]:
        """Places whose records have this key under the plan."""
        if id(plan) not in self._by_key:  # plans are there as long as this is
            places = self._by_key[id(plan)] = defaultdict(list)
            for place in self._places[_plan_of(member)[:-1]]:
                places[_key(place[0], plan)].append(place)
        return self._by_key[id(plan)].get(key, [])


def _by_data(records: Sequence[Record]) -> list[list[Record]]:
    """Records whose images are of one data set, though of several sizes, each of which hashes otherwise.

    Where a size has several hashes, what was decoded was not always the same: the last of each size go together, each
    other by itself.
    """
    hashes = {(record.config.model.image_hw, record.environment.data_sha256): None for record in records}
    last = dict(key for key in hashes if key[1])
    parts: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        sha256 = record.environment.data_sha256
        parts["" if sha256 == last.get(record.config.model.image_hw, sha256) else sha256].append(record)
    return list(parts.values())


def arms_of(group: Group) -> list[ArmResult]:
    """Arms in the order of their first record; a name with several definitions, or initial weights, gives several arms."""
    design, fields = group.design, group.design.tuned_fields
    by_arm: dict[ArmKey, list[Record]] = defaultdict(list)
    runs_of = OncePerPlace(lambda record: by_arm[_arm_key(record, fields)])
    for record in group.records:
        runs_of(record).append(record)
    names = Counter(name for name, *_ in by_arm)
    recorded_macs = {record.config.model: record.cost.macs for record in group.records if record.cost.macs}
    arms = []
    for (name, *_, init), records in by_arm.items():
        runs = Runs()
        suffix = f" #{_identity(records[0], init, design)[:4]}" if names[name] > 1 else ""
        setting = OncePerPlace(lambda record: setting_of(record.config, fields))
        retried = sum(add_run(runs, record, setting(record)) for record in records)
        arms.append(
            ArmResult(
                label=name + suffix,
                name=name,
                model=records[0].config.model,
                fields=fields,
                init=init,
                runs=runs,
                planned=design.settings_of(name),
                tuning_seeds=design.tuning_seeds,
                retried=retried,
                changes=recorded_changes(records, design),
                recorded_macs=recorded_macs,
            )
        )
    first = {arm.name: arm for arm in reversed(arms)}
    chosen_with = {name: first.get(design.chosen_with(name)) for name in first if design.chosen_with(name) != name}
    # Of a name whose epochs were changed, what trained chooses for itself.
    return [replace(arm, chosen_with=None if arm.epochs else chosen_with.get(arm.name)) for arm in arms]


def _arm_key(record: Record, fields: Sequence[str]) -> ArmKey:
    config = record.config
    parts = without(config.model, fields), without(config.train, fields), without(config.data, fields)
    return record.arm, *parts, _initial_weights(config, fields)


def _initial_weights(config: RunConfig, fields: Sequence[str]) -> str | None:
    """The weights that a run started from: their name, or what tells its pretraining from others but its setting and seed."""
    before = config.pretraining
    if before is None:
        return config.init
    parts = {
        name: without(getattr(before, name), fields).model_dump(mode="json") for name in ("model", "data", "train")
    }
    return f"a run, #{digest([parts, _initial_weights(before, fields), config.keep_head])[:4]}"


def _identity(record: Record, init: str | None, design: Design) -> str:
    """Tells arms of one name apart; the same whatever they are compared with."""
    config = record.config
    model = {
        k: value
        for k, value in config.model.model_dump(mode="json", exclude_defaults=True).items()
        if k not in design.tuned_fields
    }
    changes = of_recipe_and_data(record.design.changes.get(record.arm))
    parts = [model, init, *([config.train.epochs] if design.epochs else []), *([changes] if changes else [])]
    return digest(parts)


def _key(record: Record, plan: Plan) -> Key:
    """Equal for records that may be compared, under a plan that says what is tuned and what is matched.

    What arms change is undone, by the record's own design: a study whose arms become more keeps its comparison.
    """
    config, design = record.config, plan.design
    fields = (*design.tuned_fields, *(("train_images",) if design.images_differ else ()))
    train, _ = base_of(record)
    return (
        record.budget,
        record.variant,
        *_data_of(record, fields, plan),
        without(train, (*fields, *(("epochs",) if design.epochs_are_planned else ()))),
        config.harness_version,
        environment_key(record, design),
        design.kind,
    )


def _data_of(record: Record, fields: Sequence[str], plan: Plan) -> Key:
    """The base's data and image size; of a run that went on from another, those of the first, and its own data, where crops
    are not of the same share.
    """
    first, name = record.config, record.arm
    while first.pretraining is not None:
        first, name = first.pretraining, record.design.starts.get(name, name)
    changes = record.design.changes
    has_size_of_base = "image_size" not in changes.get(name, {})
    data, image_hw = (
        record.design.base_of(name, first.data),
        first.model.image_hw if has_size_of_base else plan.image_hw,
    )
    data_of_arm = record.design.base_of(record.arm, record.config.data)
    if first is record.config or "crop_padding" in changes.get(record.arm, {}):
        as_the_first = data
    else:
        as_the_first = data.resampled(image_hw or first.model.image_hw, record.config.model.image_hw)
    return without(data, fields), image_hw, None if data_of_arm == as_the_first else without(data_of_arm, fields)
