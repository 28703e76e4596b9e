"""Which records may be compared, which learning rate each arm gets, and how far each arm is from the baseline.

Accuracies are fractions in [0, 1] here; percentage points appear only where something is printed.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from vitbench.analysis.notes import has_accuracies, notes_about
from vitbench.config import DataConfig, TrainConfig, ViTConfig
from vitbench.records import Environment, Outcome, Record, RecordStore, unpack_correct

CONFIDENCE = 0.95


@dataclass(frozen=True)
class StudyInfo:
    """What a study says about itself now, where that is to go before the `design` in its records."""

    name: str
    question: str
    source: str
    baseline: str
    arms: Sequence[str] = ()


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation (ddof 1; None for one value) of n values."""

    mean: float
    sd: float | None
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Summary | None:
        """None where there is nothing to summarise."""
        values = list(values)
        if not values:
            return None
        return cls(fmean(values), stdev(values) if len(values) > 1 else None, len(values))


@dataclass(frozen=True)
class Difference:
    """Mean of n paired differences and its 95 % t-interval (None for fewer than two pairs)."""

    mean: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class ArmResult:
    """All runs of one arm in one comparison."""

    label: str
    name: str
    model: ViTConfig
    runs: Mapping[tuple[float, int], Record]
    """The run that counts, by (learning rate, seed)."""
    init: str | None = None
    """The weights that they started from; None for the seed's."""
    planned_rates: tuple[float, ...] = ()
    retried: int = 0
    """Records set aside because the same run was recorded again."""

    @cached_property
    def learning_rates(self) -> tuple[float, ...]:
        """Every rate that was tried, ascending."""
        return tuple(sorted({rate for rate, _ in self.runs}))

    @cached_property
    def grid(self) -> tuple[float, ...]:
        """Every rate that was planned or tried, ascending."""
        return tuple(sorted({*self.planned_rates, *self.learning_rates}))

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted({seed for _, seed in self.runs}))

    @cached_property
    def outcomes(self) -> dict[Outcome, int]:
        """How many runs ended in which way."""
        counts = dict.fromkeys(Outcome, 0)
        for record in self.runs.values():
            counts[outcome_of(record)] += 1
        return counts

    @cached_property
    def _completed(self) -> dict[float, dict[int, Record]]:
        completed: dict[float, dict[int, Record]] = defaultdict(dict)
        for (rate, seed), record in sorted(self.runs.items()):
            if outcome_of(record) is Outcome.COMPLETED:
                completed[rate][seed] = record
        return dict(completed)

    def completed(self, learning_rate: float | None) -> dict[int, Record]:
        """Completed runs at a rate, by seed, ascending."""
        return {} if learning_rate is None else self._completed.get(learning_rate, {})

    def metric(self, name: str, learning_rate: float | None) -> dict[int, float]:
        """A final metric of the completed runs at a rate, by seed."""
        return {seed: record.metrics[name] for seed, record in self.completed(learning_rate).items()}

    @cached_property
    def _scores(self) -> dict[float, dict[int, float]]:
        """val_top1 of a completed run and 0 for a diverged one; a failed one says nothing about its rate."""
        scores: dict[float, dict[int, float]] = defaultdict(dict)
        for (rate, seed), record in self.runs.items():
            if outcome_of(record) is not Outcome.FAILED:
                scores[rate][seed] = record.metrics["val_top1"] if seed in self.completed(rate) else 0.0
        return dict(scores)

    @cached_property
    def choice_seeds(self) -> tuple[int, ...]:
        """Seeds at which every rate of the grid completed or diverged: what rates are compared on, ascending."""
        return tuple(seed for seed in self.seeds if all(seed in self._scores.get(rate, {}) for rate in self.grid))

    @cached_property
    def learning_rate(self) -> float | None:
        """The rate with the highest mean val_top1 over `choice_seeds`; ties go to the smaller. None where nothing completed.

        A run that is missing or failed at one rate thus takes its seed from all rates. A diverged run counts as 0, and
        rates at which all of these seeds completed go before all others. Where there is no such seed, means are over
        what there is.
        """
        rates = [rate for rate in self.learning_rates if self.completed(rate)]
        if not rates:
            return None

        def preference(rate: float) -> tuple[bool, float, float]:
            seeds = self.choice_seeds or self._scores[rate]
            all_completed = all(seed in self.completed(rate) for seed in self.choice_seeds)
            return all_completed, fmean(self._scores[rate][seed] for seed in seeds), -rate

        return max(rates, key=preference)

    @property
    def is_fixed(self) -> bool:
        """Whether there was no choice: a grid of one rate."""
        return len(self.grid) == 1

    @cached_property
    def known_rates(self) -> tuple[float, ...]:
        """Rates of which a run says something: completed or diverged, ascending."""
        return tuple(sorted(self._scores))

    @property
    def edge(self) -> str:
        """`lowest` or `highest` where nothing is known beyond the chosen rate on that side, else empty."""
        if self.is_fixed or self.learning_rate is None:
            return ""
        if self.learning_rate == self.known_rates[-1]:
            return "highest"
        return "lowest" if self.learning_rate == self.known_rates[0] else ""

    @property
    def test_top1(self) -> Summary | None:
        """The number reported: test_top1 at the chosen rate, over every seed that completed there."""
        return Summary.of(self.metric("test_top1", self.learning_rate).values())

    @cached_property
    def _costed(self) -> Record:
        return max(self.runs.values(), key=lambda record: (outcome_of(record) is Outcome.COMPLETED, record.cost.macs))

    @property
    def params(self) -> int:
        return self._costed.cost.params

    @property
    def macs(self) -> int:
        """Per image, forward; 0 where no run got as far as counting them."""
        return self._costed.cost.macs

    def costs(self, name: str) -> list[float]:
        """A field of `Cost` over the completed runs at the chosen rate, where it was measured."""
        values = (getattr(record.cost, name) for record in self.completed(self.learning_rate).values())
        return [value for value in values if value is not None]

    def median_cost(self, name: str) -> float | None:
        values = self.costs(name)
        return median(values) if values else None


@dataclass(frozen=True)
class Comparison:
    """Records that may be averaged and subtracted: equal in all but model, learning rate and seed."""

    study: str
    question: str
    source: str
    slug: str
    """Names its files; unique within the study."""
    title: str
    budget: str
    variant: str
    data: DataConfig
    train: TrainConfig
    """The recipe; its learning_rate is one of several and means nothing here."""
    harness_version: int
    environment: Environment
    """That of the first run that did not fail; what `comparison_key` leaves out may vary."""
    arms: tuple[ArmResult, ...]
    baseline: ArmResult | None
    notes: tuple[str, ...] = ()

    @cached_property
    def records(self) -> tuple[Record, ...]:
        return tuple(record for arm in self.arms for record in arm.runs.values())

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted({seed for arm in self.arms for seed in arm.seeds}))

    @property
    def has_grid(self) -> bool:
        """Whether more than one learning rate was tried."""
        return len({rate for arm in self.arms for rate in arm.learning_rates}) > 1

    @property
    def chance(self) -> float | None:
        """1 / number of classes: chance only where classes are equally frequent. None where arms differ in that number."""
        classes = {arm.model.num_classes for arm in self.arms}
        return 1 / classes.pop() if len(classes) == 1 else None

    @cached_property
    def num_test_images(self) -> int | None:
        """From the packed `correct` bits and test_top1 of a record, where both are there and agree."""
        for record in self.records:
            top1 = record.metrics.get("test_top1", 0.0)
            if record.correct and top1 > 0:
                num_bytes = len(record.correct.rstrip("=")) * 3 // 4
                size = round(int(unpack_correct(record.correct, num_bytes * 8).sum()) / top1)
                return size if math.ceil(size / 8) == num_bytes else None
        return None

    def environment_values(self, name: str) -> tuple[Any, ...]:
        """The different values of an environment field over all records, sorted; fields nobody recorded give ()."""
        values = {getattr(record.environment, name, None) for record in self.records} - {None, ""}
        return tuple(sorted(values, key=lambda value: (str(type(value)), value)))

    def at_baseline_rate(self, arm: ArmResult) -> Summary | None:
        """test_top1 of an arm at the rate that was chosen for the baseline."""
        if self.baseline is None:
            return None
        return Summary.of(arm.metric("test_top1", self.baseline.learning_rate).values())

    def difference(self, arm: ArmResult) -> Difference | None:
        """test_top1 of an arm minus the baseline's, seed by seed, each at its own chosen rate."""
        if self.baseline is None or arm is self.baseline:
            return None
        return paired_difference(
            arm.metric("test_top1", arm.learning_rate),
            self.baseline.metric("test_top1", self.baseline.learning_rate),
        )


def outcome_of(record: Record) -> Outcome:
    """The record's outcome; a completed run without its accuracies has none to count and is taken as failed."""
    if record.outcome is Outcome.COMPLETED and not has_accuracies(record):
        return Outcome.FAILED
    return record.outcome


def paired_difference(values: Mapping[int, float], baseline: Mapping[int, float]) -> Difference | None:
    """values − baseline over the seeds that both have, with a 95 % t-interval; None where they share no seed."""
    summary = Summary.of(values[seed] - baseline[seed] for seed in sorted(values.keys() & baseline.keys()))
    if summary is None:
        return None
    if summary.sd is None:
        return Difference(summary.mean, None, None, summary.n)
    from scipy.special import stdtrit  # not scipy.stats, which takes longer to load than the tables to write

    half = float(stdtrit(summary.n - 1, (1 + CONFIDENCE) / 2)) * summary.sd / math.sqrt(summary.n)
    return Difference(summary.mean, summary.mean - half, summary.mean + half, summary.n)


def load_comparisons(
    store_root: str | Path, study_infos: Mapping[str, StudyInfo] | None = None, *, needed: bool = True
) -> list[Comparison]:
    """All comparisons under a results folder, by study and slug.

    Raises ValueError where there are no records, unless they are not `needed`.
    """
    store = RecordStore(store_root)
    infos = study_infos or {}
    found = [one for study in store.studies() for one in compare(store.read(study), infos.get(study))]
    if needed and not found:
        raise ValueError(f"no records under {str(store.root)!r}; run `vitbench run` first")
    return found


def compare(records: Iterable[Record], info: StudyInfo | None = None) -> list[Comparison]:
    """The comparisons that the records of one study fall into, by slug.

    Without `info`, question, source, baseline and arm order are those in the last record's design; a design without a
    baseline leaves that to the first arm recorded.
    """
    comparisons = [_comparison(group, info) for group in _groups(records)]
    return sorted(_with_distinct_names(comparisons), key=lambda one: one.slug)


def _groups(records: Iterable[Record]) -> list[list[Record]]:
    """Comparable records, each group in the order of recording.

    A run that failed before its data was read or its model compiled cannot say what these were. It has no numbers to mix
    up, so it joins the latest group that agrees in all else, where its failure is seen.
    """
    groups: dict[tuple[Any, ...], list[tuple[int, Record]]] = defaultdict(list)
    vague: dict[tuple[Any, ...], list[tuple[int, Record]]] = defaultdict(list)
    for position, record in enumerate(records):
        is_vague = record.outcome is Outcome.FAILED and not record.environment.data_sha256
        (vague if is_vague else groups)[_group_key(record)].append((position, record))
    if vague:
        latest = {_vague_key(group[0][1]): key for key, group in groups.items()}
        for key, members in vague.items():
            groups[latest.get(_vague_key(members[0][1]), key)].extend(members)
    return [[record for _, record in sorted(group, key=itemgetter(0))] for group in groups.values()]


def _vague_key(record: Record) -> tuple[Any, ...]:
    environment = record.environment.model_copy(update={"compiled": False, "data_sha256": "", "kernels": "torch"})
    return _group_key(record.model_copy(update={"environment": environment}))


_SHARED_TRAIN_FIELDS = tuple(name for name in TrainConfig.model_fields if name != "learning_rate")


def _group_key(record: Record) -> tuple[Any, ...]:
    config = record.config
    return (
        record.budget,
        record.variant,
        config.data,
        tuple(getattr(config.train, name) for name in _SHARED_TRAIN_FIELDS),
        config.harness_version,
        record.environment.comparison_key,
    )


def _comparison(records: Sequence[Record], info: StudyInfo | None) -> Comparison:
    first, design = records[0], records[-1].design
    measured = next((record for record in records if record.outcome is not Outcome.FAILED), first)
    info = info or StudyInfo(first.study, design.question, design.source, design.baseline, design.arms)
    baseline_name = info.baseline or first.arm
    arms = _in_order(_arms(records, design.learning_rates), [baseline_name, *info.arms])
    comparison = Comparison(
        study=first.study,
        question=info.question,
        source=info.source,
        slug=_slug(first.budget, first.config.data.dataset),
        title=f"{first.study}: {first.budget} budget, {first.config.data.dataset}, {first.variant}",
        budget=first.budget,
        variant=first.variant,
        data=first.config.data,
        train=first.config.train,
        harness_version=first.config.harness_version,
        environment=measured.environment,
        arms=arms,
        baseline=next((arm for arm in arms if arm.name == baseline_name), None),
    )
    return replace(comparison, notes=tuple(notes_about(comparison, baseline_name, info.arms)))


_PRECEDENCE = (Outcome.FAILED, Outcome.DIVERGED, Outcome.COMPLETED)


def _arms(records: Sequence[Record], planned_rates: tuple[float, ...]) -> list[ArmResult]:
    """Arms in the order of their first record; a name with several models, or initial weights, gives several arms."""
    runs: dict[tuple[str, ViTConfig, str | None], dict[tuple[float, int], Record]] = {}
    retried: dict[tuple[str, ViTConfig, str | None], int] = defaultdict(int)
    for record in records:
        arm = (record.arm, record.config.model, record.config.init)
        cells = runs.setdefault(arm, {})
        cell = (record.config.train.learning_rate, record.config.seed)
        before = cells.get(cell)
        retried[arm] += before is not None
        if before is None or _PRECEDENCE.index(outcome_of(record)) >= _PRECEDENCE.index(outcome_of(before)):
            cells[cell] = record
    starts: dict[str, int] = defaultdict(int)
    for name, _, _ in runs:
        starts[name] += 1
    return [
        ArmResult(
            label=name if starts[name] == 1 else f"{name} #{_digest([model.model_dump(mode='json'), init])[:4]}",
            name=name,
            model=model,
            init=init,
            runs=cells,
            planned_rates=planned_rates,
            retried=retried[name, model, init],
        )
        for (name, model, init), cells in runs.items()
    ]


def _in_order(arms: Iterable[ArmResult], names: Sequence[str]) -> tuple[ArmResult, ...]:
    """In the order of their names; arms of other names last, as they came."""
    return tuple(sorted(arms, key=lambda arm: names.index(arm.name) if arm.name in names else len(names)))


def _with_distinct_names(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Where slugs or titles clash, a hash is added to the slug and what differs to the title."""
    by_slug: dict[str, list[Comparison]] = defaultdict(list)
    by_title: dict[str, list[Comparison]] = defaultdict(list)
    for comparison in comparisons:
        by_slug[comparison.slug].append(comparison)
        by_title[comparison.title].append(comparison)
    named = []
    for comparison in comparisons:
        slug, title = comparison.slug, comparison.title
        # All that clash get the hash, so that a name does not depend on which was recorded first.
        if len(by_slug[slug]) > 1:
            slug = f"{slug}-{_digest([comparison.budget, comparison.variant, _circumstances(comparison)])[:6]}"
        if len(by_title[title]) > 1:
            others = [_circumstances(other) for other in by_title[title]]
            differing = [
                f"{name} {value}"
                for name, value in _circumstances(comparison).items()
                if any(other[name] != value for other in others)
            ]
            title = f"{title} ({', '.join(differing)})"
        named.append(replace(comparison, slug=slug, title=title))
    return named


def _circumstances(comparison: Comparison) -> dict[str, Any]:
    """Everything but budget and variant that must be equal within a comparison, by the name it has in titles."""
    environment = comparison.environment
    return {
        "device": environment.device,
        "machine": environment.machine,
        "precision": environment.precision,
        "compiled": environment.compiled,
        "torch": environment.torch,
        "timm": environment.timm,
        "data hash": environment.data_sha256[:16],
        "kernels": environment.kernels.partition(":")[0],
        "harness version": comparison.harness_version,
        **comparison.data.model_dump(mode="json"),
        # What was asked for, against what it became above.
        **{
            f"{name} asked for" if name in ("precision", "compile") else name: getattr(comparison.train, name)
            for name in _SHARED_TRAIN_FIELDS
        },
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _slug(*words: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", "-".join(words).lower()).strip("-.") or "comparison"
