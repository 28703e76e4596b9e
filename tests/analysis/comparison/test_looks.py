"""Does a comparison see of each arm the seeds of its look alone, and does nothing keep the looks waiting for ever?"""

from __future__ import annotations

import pytest

from tests.made_up_records import DESIGN, make_record
from vitbench.analysis.comparison.findings import findings_of
from vitbench.analysis.comparison.judge import judge
from vitbench.analysis.comparison.load import compare, comparisons_of
from vitbench.analysis.comparison.looks import progress_of
from vitbench.analysis.statistics.stopping import expected_seeds
from vitbench.analysis.statistics.verdicts import SequentialPlan, Verdict
from vitbench.data import describe
from vitbench.records import Outcome
from vitbench.studies import BUDGETS, Arm, Overrides, Study
from vitbench.studies.resolved_study import resolve_study

LOOKS = (3, 5)
DESIGN = DESIGN.model_copy(update={"baseline": "cls", "arms": ("cls", "gap", "map"), "looks": LOOKS})
BASE = (0.800, 0.803, 0.798, 0.801, 0.802, 0.799)


def runs(arm, above, *, seeds, design=DESIGN, **fields):
    """Of one arm, so far above the baseline by seed."""
    fields = {"model": {"pool": arm} if arm in ("gap", "map") else {}, **fields}
    return [
        make_record(arm, seed=seed, test=BASE[seed] + above + 0.0002 * (seed % 2), design=design, **fields)
        for seed in range(seeds)
    ]


def one(records):
    (comparison,) = compare(records)
    return comparison


def test_each_arm_counts_up_to_its_look_and_the_baseline_to_the_last_of_them():
    records = [*runs("cls", 0, seeds=6), *runs("gap", 0.05, seeds=6), *runs("map", 0.001, seeds=6)]
    wide = [r.model_copy(update={"metrics": {**r.metrics, "test_top1": 0.8 + 0.01 * r.seed}}) for r in records[12:]]
    comparison = one([*records[:12], *wide])
    assert comparison.reached == {"gap": 3, "map": 5}
    assert {arm.label: len(arm.seeds) for arm in comparison.arms} == {"cls": 5, "gap": 3, "map": 5}
    assert comparison.runs_beyond == 1 + 3 + 1
    found = findings_of(comparison).arms
    assert [found[arm].decision.look for arm in ("gap", "map")] == [3, 5]
    assert found["gap"].decision.verdict is Verdict.BETTER


@pytest.mark.parametrize("seeds", [0, 2])
def test_before_an_arm_has_its_seeds_the_others_wait_at_the_look_before(seeds):
    comparison = one([*runs("cls", 0, seeds=5), *runs("gap", 0.05, seeds=5), *runs("map", 0.0, seeds=seeds)])
    assert comparison.reached == {}
    assert {finding.decision.verdict for finding in findings_of(comparison).arms.values()} == {Verdict.NONE}


def test_an_arm_that_the_study_no_longer_has_keeps_none_waiting():
    design = DESIGN.model_copy(update={"arms": ("cls", "gap")})
    records = [*runs("map", 0.0, seeds=2), *runs("cls", 0, seeds=5, design=design)]
    assert one([*records, *runs("gap", 0.05, seeds=5, design=design)]).reached == {"gap": 3}


def test_an_earlier_definition_of_an_arm_keeps_none_waiting():
    old = runs("gap", 0.0, seeds=2, model={"pool": "gap", "mlp_ratio": 2.0})
    old = [record.model_copy(update={"finished": "2026-10-01T00:00:00Z"}) for record in old]
    comparison = one([*old, *runs("cls", 0, seeds=3), *runs("gap", 0.05, seeds=3), *runs("map", -0.05, seeds=3)])
    assert sorted(comparison.reached.values()) == [3, 3]


def test_an_arm_of_which_nothing_completed_is_over():
    diverged = [
        make_record(
            "map", seed=seed, learning_rate=rate, outcome=Outcome.DIVERGED, model={"pool": "map"}, design=DESIGN
        )
        for seed in range(2)
        for rate in (1e-3, 2e-3)
    ]
    (comparison,) = comparisons_of([*runs("cls", 0, seeds=3), *runs("gap", 0.05, seeds=3), *diverged])
    progress = progress_of(comparison)
    assert progress.reached == {"gap": 3, "map": 3}
    assert progress.is_over


def test_what_is_expected_of_an_open_arm_follows_the_margin_of_the_metric():
    study = Study(
        question="?", source="", baseline=Arm("cls"), arms=[Arm("gap", pool="gap")], until=(5, 20, 40), name="pool"
    )
    resolved = resolve_study(study, BUDGETS["smoke"], describe("digits"), Overrides(metric="loss"))
    losses = {"cls": (0.500, 0.520, 0.510, 0.490, 0.505), "gap": (0.504, 0.512, 0.512, 0.499, 0.504)}
    records = [
        make_record(arm, study="pool", budget="smoke", variant=resolved.variant).model_copy(
            update={
                "seed": seed,
                "config": resolved.config(arm, resolved.grid.settings[0], seed),
                "metrics": {"test_top1": 0.8, "val_top1": 0.8, "test_loss": loss},
            }
        )
        for arm, by_seed in losses.items()
        for seed, loss in enumerate(by_seed)
    ]
    seen = judge(resolved, records)
    (comparison,) = comparisons_of([r.model_copy(update={"design": resolved.design}) for r in records])
    difference = comparison.difference(next(arm for arm in comparison.arms if arm.name == "gap"))
    plan = SequentialPlan((5, 20, 40), 1, {"gap": 5})
    by_loss, by_top1 = (expected_seeds(difference, look=5, plan=plan, margin=margin) for margin in (0.013, 0.005))
    assert seen.open == {"gap": by_loss}
    assert by_loss < by_top1
