"""Does the work grow no faster than records and comparisons do? Counted, not timed."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.made_up_records import make_record
from vitbench.analysis.comparison import grouping, naming
from vitbench.analysis.comparison.load import compare
from vitbench.records import Design
from vitbench.studies import choice

ARMS = ("none", "one", "two")
DESIGN = Design(question="", source="", baseline="none", arms=ARMS, learning_rates=(1e-3,))
OF_TIME = DESIGN.model_copy(update={"match": "time"})


def records(*, seeds: int, designs=(DESIGN,)):
    """Seeds of an arm share their parts, as those that are read from a file do."""
    first = [
        make_record(arm, design=design, model={"num_registers": number}, train={"epochs": 3 + of_design})
        for of_design, design in enumerate(designs)
        for number, arm in enumerate(ARMS)
    ]
    return [
        arm.model_copy(update={"config": arm.config.at_seed(seed), "seed": seed})
        for seed in range(seeds)
        for arm in first
    ]


def calls(monkeypatch, work, **functions) -> Counter[str]:
    """How often functions of these modules, by name, are called in the course of some work."""
    counts: Counter[str] = Counter()
    with monkeypatch.context() as patch:
        for name, module in functions.items():

            def counted(*asked, name=name, original=getattr(module, name), **options):
                counts[name] += 1
                return original(*asked, **options)

            patch.setattr(module, name, counted)
        work()
    return counts


@pytest.mark.parametrize("designs", [(DESIGN,), (DESIGN, OF_TIME)], ids=["one plan", "plans of two kinds"])
def test_records_are_grouped_with_as_much_work_for_any_number_of_seeds(monkeypatch, designs):
    by_hand = dict.fromkeys(("_key", "_arm_key", "_plan_of", "setting_of"), grouping) | {"environment_key": grouping}
    few, twice = (
        calls(monkeypatch, lambda n=n: compare(records(seeds=n, designs=designs)), **by_hand) for n in (6, 12)
    )
    assert few == twice and few["_key"] > 0 and few["_arm_key"] > 0


def test_a_run_of_another_plan_is_looked_for_among_those_of_its_key_alone(monkeypatch):
    def of(number: int):
        datasets = [f"set-{index}" for index in range(number)]
        return [
            make_record(arm, design=design, data={"dataset": dataset}, model={"num_registers": index})
            for dataset in datasets
            for design in (DESIGN, OF_TIME)
            for index, arm in enumerate(ARMS)
        ]

    few, twice = (calls(monkeypatch, lambda n=n: compare(of(n)), _key=grouping) for n in (10, 20))
    assert twice["_key"] <= 2 * few["_key"]


def test_comparisons_get_their_names_with_work_in_proportion_to_their_number(monkeypatch):
    def of(number: int):
        return [make_record(arm, data={"train_images": 1000 + index}) for index in range(number) for arm in ARMS[:2]]

    few, twice = (
        calls(monkeypatch, lambda n=n: compare(of(n)), _circumstances=naming, _hashable=naming) for n in (20, 40)
    )
    assert few["_circumstances"] == 20 and twice["_circumstances"] == 40
    assert twice["_hashable"] <= 2 * few["_hashable"]


def test_early_failures_join_the_latest_group_with_as_much_work_for_any_number_of_seeds():
    asked = []

    def key_of(record):
        asked.append(record)
        return choice.environment_key(record, DESIGN)

    def of(seeds: int):
        early = make_record("one", outcome="failed", environment={"data_sha256": ""})
        failed = [
            early.model_copy(update={"config": early.config.at_seed(seed), "seed": seed}) for seed in range(seeds)
        ]
        return [*records(seeds=seeds), *failed]

    numbers = []
    for seeds in (4, 8):
        asked.clear()
        (group,) = choice.grouped(of(seeds), key_of).values()
        assert len(group) == 4 * seeds
        numbers.append(len(asked))
    assert numbers[0] == numbers[1]
