"""Is what follows from an arm, its setting and its environment worked out once, however many seeds there are?"""

from __future__ import annotations

import pytest

from tests.made_up_records import ENVIRONMENT, make_record
from vitbench.records import OncePerPlace, by_place


def records(seeds: int):
    """Of two arms whose seeds share their parts."""
    arms = [make_record(arm, model={"num_registers": number}) for number, arm in enumerate(("none", "one"))]
    return [
        arm.model_copy(update={"config": arm.config.at_seed(seed), "seed": seed})
        for seed in range(seeds)
        for arm in arms
    ]


@pytest.mark.parametrize("seeds", [5, 10])
def test_work_is_done_as_often_for_any_number_of_seeds(seeds):
    asked = []
    name_of = OncePerPlace(lambda record: asked.append(record) or record.arm)
    assert [name_of(record) for record in records(seeds)] == ["none", "one"] * seeds
    assert len(asked) == 2
    assert [[record.seed for record in place] for place in by_place(records(seeds))] == [[*range(seeds)]] * 2


def test_records_that_differ_in_anything_but_seed_and_numbers_have_places_of_their_own():
    record = records(1)[0]
    others = [
        {"arm": "another"},
        {"budget": "smoke"},
        {"environment": ENVIRONMENT.model_copy(update={"torch": "2.0"})},
        {"config": record.config.model_copy(update={"keep_head": True})},
        {"config": record.config.model_copy(update={"train": record.config.train.replace(epochs=3)})},
        {"config": record.config.model_copy(update={"pretraining": record.config})},
    ]
    assert len(by_place([record, *(record.model_copy(update=other) for other in others)])) == 1 + len(others)
    measured = {"metrics": {"test_top1": 0.1}, "seed": 3, "started": "later", "run_id": "0"}
    assert len(by_place([record, record.model_copy(update=measured)])) == 1
