"""Which records belong together: into which comparison each goes, and to which arm of it.

A run counts in every comparison whose plan it belongs to: one that was made with the learning rate alone tuned counts again
where weight decay is tuned too and its own is among the values.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

from vitbench.analysis.comparison.arm import ArmResult
from vitbench.analysis.comparison.changes import of_recipe_and_data, recorded_changes
from vitbench.analysis.comparison.naming import digest
from vitbench.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from vitbench.records import Design, Record
from vitbench.studies.choice import Runs, add_run, base_of, environment_key, grouped
from vitbench.studies.settings import setting_of, without

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
    plans: dict[Key, Plan] = {}
    for record in records:
        plan, design = plans.get(key := _plan_of(record)), record.design
        changes = {**(plan.design.changes if plan else {})}
        for arm, of_arm in design.changes.items():
            changes[arm] = {**changes.get(arm, {}), **of_arm}
        image_hw = plan.image_hw if plan else None
        if record.config.pretraining is None and "image_size" not in design.changes.get(record.arm, {}):
            image_hw = record.config.model.image_hw
        plans[key] = Plan(design.model_copy(update={"changes": changes}), image_hw)
    return plans


def groups(records: Iterable[Record]) -> list[Group]:
    """Comparable records, in the order of each group's first."""
    records = list(records)
    plans_differ = len({record.design.kind for record in records}) > 1
    plans = _plans(records)
    groups = []
    for key, members in grouped(records, lambda record: _key(record, plans[_plan_of(record)])).items():
        plan, design = plans[_plan_of(members[-1])], members[-1].design
        if plans_differ:
            members = _with_planned_elsewhere(members, records, key, plan)
        groups += [Group(part, design) for part in (_by_data(members) if plan.design.image_sizes_differ else [members])]
    return groups


def _with_planned_elsewhere(members: Sequence[Record], records: Sequence[Record], key: Key, plan: Plan) -> list[Record]:
    """A group, and what of all records is of another plan, but among the runs of the group's last plan too."""
    design = members[-1].design
    of_the_group = {id(record) for record in members}
    settings = {arm: {*design.settings_of(arm)} for arm in {record.arm for record in records}}

    def belongs(record: Record) -> bool:
        return (
            record.design.kind != design.kind
            and _key(record, plan) == key
            and setting_of(record.config, design.tuned_fields) in settings[record.arm]
            and record.config.train.epochs == design.epochs.get(record.arm, record.config.train.epochs)
        )

    return [record for record in records if id(record) in of_the_group or belongs(record)]


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
    for record in group.records:
        config = record.config
        parts = without(config.model, fields), without(config.train, fields), without(config.data, fields)
        by_arm[record.arm, *parts, _initial_weights(config, fields)].append(record)
    names = Counter(name for name, *_ in by_arm)
    recorded_macs = {record.config.model: record.cost.macs for record in group.records if record.cost.macs}
    arms = []
    for (name, *_, init), records in by_arm.items():
        runs = Runs()
        suffix = f" #{_identity(records[0], init, design)[:4]}" if names[name] > 1 else ""
        retried = sum(add_run(runs, record, setting_of(record.config, fields)) for record in records)
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
