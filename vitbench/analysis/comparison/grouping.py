"""Which records belong together: into which comparison each goes, and to which arm of it.

A run counts in every comparison whose plan it belongs to: one that was made with the learning rate alone tuned counts again
where weight decay is tuned too and its own is among the values.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

from vitbench.analysis.comparison.arm import ArmResult
from vitbench.analysis.comparison.naming import digest
from vitbench.config import ModelConfig, RunConfig
from vitbench.records import Design, Record
from vitbench.studies.choice import Runs, add_run, environment_key, grouped
from vitbench.studies.settings import setting_of, without

Key = tuple[Hashable, ...]
ArmKey = tuple[str, ModelConfig, str | None, float]
"""Name, model but for what is tuned, initial weights and epochs of an arm."""


@dataclass(frozen=True)
class Group:
    """Comparable records in the order of recording, and the last design that they were made under."""

    records: Sequence[Record]
    design: Design


def groups(records: Iterable[Record]) -> list[Group]:
    """Comparable records, in the order of each group's first."""
    records = list(records)
    plans_differ = len({record.design.kind for record in records}) > 1
    groups = []
    for key, members in grouped(records, lambda record: _key(record, record.design)).items():
        design = members[-1].design
        if plans_differ:
            members = _with_planned_elsewhere(members, records, key, design)
        groups += [Group(part, design) for part in (_by_data(members) if design.has_starts else [members])]
    return groups


def _with_planned_elsewhere(
    members: Sequence[Record], records: Sequence[Record], key: Key, design: Design
) -> list[Record]:
    """A group, and what of all records is of another plan, but among the runs of the group's last plan too."""
    own, settings = {id(record) for record in members}, set(design.settings)

    def belongs(record: Record) -> bool:
        return (
            record.design.kind != design.kind
            and _key(record, design) == key
            and setting_of(record.config, design.tuned_fields) in settings
            and record.config.train.epochs == design.epochs.get(record.arm, record.config.train.epochs)
        )

    return [record for record in records if id(record) in own or belongs(record)]


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
    """Arms in the order of their first record; a name with several models, or initial weights, gives several arms."""
    design, fields = group.design, group.design.tuned_fields
    by_arm: dict[ArmKey, list[Record]] = defaultdict(list)
    for record in group.records:
        config = record.config
        key = record.arm, without(config.model, fields), _initial_weights(config, fields), config.train.epochs
        by_arm[key].append(record)
    names = Counter(name for name, *_ in by_arm)
    arms = []
    for (name, _, init, epochs), records in by_arm.items():
        model, runs = records[0].config.model, Runs()
        suffix = f" #{_identity(model, init, epochs, design)[:4]}" if names[name] > 1 else ""
        retried = sum(add_run(runs, record, setting_of(record.config, fields)) for record in records)
        arms.append(
            ArmResult(
                label=name + suffix,
                name=name,
                model=model,
                fields=fields,
                init=init,
                runs=runs,
                planned=design.settings,
                tuning_seeds=design.tuning_seeds,
                retried=retried,
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


def _identity(model: ModelConfig, init: str | None, epochs: float, design: Design) -> str:
    """Tells arms of one name apart; the same whatever they are compared with."""
    fields = {k: value for k, value in model.model_dump(mode="json").items() if k not in design.tuned_fields}
    return digest([fields, init, epochs] if design.epochs else [fields, init])


def _key(record: Record, design: Design) -> Key:
    """Equal for records that may be compared, under a design that says what is tuned and what is matched."""
    config = record.config
    fields = (*design.tuned_fields, *(("train_images",) if design.images_differ else ()))
    return (
        record.budget,
        record.variant,
        *_data_of(config, fields),
        without(config.train, (*fields, *(("epochs",) if design.epochs_differ else ()))),
        config.harness_version,
        environment_key(record, design),
        design.kind,
    )


def _data_of(config: RunConfig, fields: Sequence[str]) -> Key:
    """Of a run that went on from another, the data and image size of the first; and its own data, where crops are not of the
    same share.
    """
    first = config
    while first.pretraining is not None:
        first = first.pretraining
    as_the_first = first.data.resampled(first.model.image_hw, config.model.image_hw)
    own_data = None if config.data == as_the_first else without(config.data, fields)
    return without(first.data, fields), first.model.image_hw, own_data
