"""How do the records of a results folder become comparisons, and these assessments?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from vitbench.analysis.comparison.assessment import Assessment, assess
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.comparison.grouping import Group, arms_of, groups
from vitbench.analysis.comparison.looks import at_its_looks
from vitbench.analysis.comparison.naming import slug_of, title_of, with_distinct_names
from vitbench.analysis.comparison.other_studies import with_other_verdicts
from vitbench.analysis.writing.presentable import presentable
from vitbench.records import Faults, Outcome, Record, RecordStore
from vitbench.records.metrics import metric_named
from vitbench.studies.choice import base_of


def load_assessments(
    store_root: str | Path, *, metric: str | None = None, needed: bool = True, faults: Faults | None = None
) -> list[Assessment]:
    """The assessment of each of `load_comparisons`, with a note on every record of its study that was left out.

    A study that cannot be assessed is left out too, and told to `faults`.
    """
    faults = Faults() if faults is None else faults
    store = RecordStore(store_root, faults)
    assessments: list[Assessment] = []
    comparisons = load_comparisons(store_root, metric=metric, needed=needed, faults=faults)
    for study, of_study in groupby(comparisons, lambda comparison: comparison.study):
        path = store.path(study)
        left_out = [f"Left out: {remark}" for remark in faults.remarks(path)]
        with faults.leaving_out(path):
            assessments += [assess(comparison, left_out) for comparison in of_study]
    return with_other_verdicts(assessments)


def load_comparisons(
    store_root: str | Path, *, metric: str | None = None, needed: bool = True, faults: Faults | None = None
) -> list[Comparison]:
    """All comparisons under a results folder, by study and slug; judged by `metric`, else by what each study declared.

    `faults` (else stderr) are told of what is damaged or cannot be compared; it is left out.
    Raises ValueError where there is nothing at all, unless it is not `needed`, and for a metric that is none or that no
    record has.
    """
    asked = None if metric is None else metric_named(metric)
    faults = Faults() if faults is None else faults
    store = RecordStore(store_root, faults)
    comparisons: list[Comparison] = []
    for study in store.studies():
        if records := store.read(study):
            with faults.leaving_out(store.path(study)):
                comparisons += compare(presentable(records))
    if needed and not comparisons and not faults:
        raise no_records(store_root)
    if asked is None:
        return comparisons
    if comparisons and not any(asked.key in record.metrics for each in comparisons for record in each.records):
        raise ValueError(
            f"metric {asked.name!r} is in no record under {str(store_root)!r}, which came before it; take another"
        )
    return [replace(comparison, metric=asked) for comparison in comparisons]


def no_records(store_root: str | Path) -> ValueError:
    return ValueError(f"no records under {str(store_root)!r}; run `vitbench run` first")


def compare(records: Iterable[Record]) -> list[Comparison]:
    """The comparisons that the records of one study fall into, by slug.

    Baseline and arm order are those in the last record's design; a design without a baseline leaves that to the first arm
    recorded.
    """
    comparisons = [at_its_looks(comparison) for comparison in comparisons_of(records)]
    return sorted(with_distinct_names(comparisons), key=lambda comparison: comparison.slug)


def comparisons_of(records: Iterable[Record]) -> list[Comparison]:
    """The comparisons with all of their runs, those too that no look has reached yet."""
    return [_comparison(group) for group in groups(records)]


def _comparison(group: Group) -> Comparison:
    first, design = group.records[0], group.design
    measured = next((record for record in group.records if record.outcome is not Outcome.FAILED), first)
    baseline_name = design.baseline or first.arm
    names = [baseline_name, *design.arms]
    # Arms of other names come last, as they were recorded.
    arms = sorted(arms_of(group), key=lambda arm: names.index(arm.name) if arm.name in names else len(names))
    return Comparison(
        study=first.study,
        design=design,
        slug=slug_of(first, design),
        title=title_of(first, design),
        budget=first.budget,
        variant=first.variant,
        data=base_of(next((record for record in group.records if record.arm == design.baseline), first))[1],
        train=base_of(first)[0],
        harness_version=first.config.harness_version,
        environment=measured.environment,
        arms=tuple(arms),
        baseline=next((arm for arm in arms if arm.name == baseline_name), None),
        epochs=design.epochs.get(design.baseline, first.config.train.epochs),
        metric=metric_named(design.metric),
    )
