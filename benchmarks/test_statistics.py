"""Are the intervals, verdicts and predictions right as often as they say, over 2,000 or 20,000 studies with a known truth?

The simulations of docs/statistics-checked.md (`python -m benchmarks.statistics_page` writes it), held against their bounds.
Then: how long do the intervals of a large study take?
"""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import statistics_tables as tables
from tests.analysis import simulated_sequential as sequential
from tests.analysis import simulated_studies as simulated
from vitbench.analysis.statistics.verdicts import MARGIN, Verdict

STUDIES, NULL_STUDIES = tables.FEW, tables.MANY


@pytest.fixture
def once(benchmark):
    """Runs a simulation a single time, as its group's one sample."""

    def run(simulation, *arguments, **options):
        benchmark.group = "statistics, simulated"
        return benchmark.pedantic(simulation, args=arguments, kwargs=options, rounds=1, iterations=1)

    return run


@pytest.mark.parametrize("world", sequential.WORLDS)
def test_studies_that_add_seeds(once, world):
    design = sequential.WORLDS[world]
    found = once(sequential.shares, NULL_STUDIES, design)
    print(
        f"\nseeds added, {world}: {found.false_difference:.2%} false, {found.false_equivalent:.2%} equivalent, "
        f"interval holds {found.covered:.1%}, {found.settled:.1%} settled after {found.seeds:.1f} seeds"
    )
    assert found.false_difference <= simulated.within(NULL_STUDIES, 0.05)[1]
    assert found.false_equivalent <= simulated.within(NULL_STUDIES, 0.05)[1]
    # Arms of a study share a baseline: no more than its studies are independent.
    assert found.covered >= simulated.within(NULL_STUDIES, 0.95)[0]


@pytest.mark.parametrize("labels", tables.INTERVALS, ids="-".join)
def test_the_printed_interval_of_an_arm_just_within_the_margin(once, labels):
    design, (arms, clear, *_) = tables.INTERVALS[labels], labels
    covered = once(sequential.shares, NULL_STUDIES, design).last_covered
    print(f"\n{arms} arms, {clear} of them clear, looks {design.looks}: interval of the last holds {covered:.2%}")
    bound = 0.95 if clear == "0" else 1 - (1.5 * 0.05 - 0.05 / (2 * int(arms)))  # proofs: docs/statistics-checked.md
    assert covered >= simulated.within(NULL_STUDIES, bound)[0]


@pytest.mark.parametrize("rule", tables.RULES)
def test_looking_again(once, rule):
    """The ordinary test errs too often where it is looked at again and again, and where it is not, no more than it says."""
    (by_fixed_rule, looks), limit = tables.RULES[rule], simulated.within(NULL_STUDIES, 0.05)[1]
    false_difference, false_equivalent = once(tables.TABLES["looking again"].rows[(rule,)], NULL_STUDIES)
    print(f"\n{rule}: {false_difference:.2%} of studies false, {false_equivalent:.2%} of arms")
    is_valid = not by_fixed_rule or len(looks) == 1
    assert (false_difference <= limit) == is_valid
    assert (false_equivalent <= limit) == is_valid


@pytest.mark.parametrize(("num_arms", "effect"), [(n, e) for n in (1, 10) for e in tables.TRUE_DIFFERENCES])
def test_what_seeds_until_settled_cost(once, num_arms, effect):
    found = once(sequential.shares, NULL_STUDIES, sequential.equal_spreads([effect] * num_arms))
    verdicts = ", ".join(f"{verdict} {share:.1%}" for verdict, share in sorted(found.verdicts.items()))
    print(f"\n{num_arms} arms at {100 * effect:g} points: {verdicts}, after {found.seeds:.1f} seeds")
    assert found.false_difference <= simulated.within(NULL_STUDIES, 0.05)[1]
    assert found.false_equivalent <= simulated.within(NULL_STUDIES, 0.05)[1]


@pytest.mark.parametrize(("num_arms", "num_seeds"), tables.EQUAL_ARMS)
def test_false_alarms(once, num_arms, num_seeds):
    share = once(simulated.false_alarms, NULL_STUDIES, num_arms=num_arms, num_seeds=num_seeds)
    print(f"\nfalse alarms: {share:.2%} of {NULL_STUDIES} studies of {num_arms} equal arms, {num_seeds} seeds")
    assert share <= 0.05


def test_false_alarms_on_images(once):
    share = once(simulated.false_alarms_on_images, NULL_STUDIES, num_images=300)
    print(f"\nfalse alarms: {share:.2%} of {NULL_STUDIES} studies of 4 equal arms, 5 seeds, on 300 test images")
    assert share <= 0.05


@pytest.mark.parametrize("num_seeds", tables.FEW_SEEDS)
@pytest.mark.parametrize("num_images", tables.IMAGES)
@pytest.mark.parametrize("accuracy", tables.ACCURACIES)
def test_false_verdicts_at_saturated_accuracies(once, accuracy, num_images, num_seeds):
    alarms, equivalent = once(
        simulated.false_verdicts, STUDIES, accuracy=accuracy, num_images=num_images, num_seeds=num_seeds
    )
    print(
        f"\nat {accuracy:.2%}, {num_images} images, {num_seeds} seeds: {alarms:.1%} false, {equivalent:.1%} equivalent"
    )
    assert alarms <= simulated.within(STUDIES, 0.05)[1]
    assert equivalent <= simulated.within(STUDIES, 0.05)[1]


@pytest.mark.parametrize(("tuning_seeds", "num_rates", "correlation"), tables.CHOICES)
def test_false_alarms_after_a_choice(once, full, tuning_seeds, num_rates, correlation):
    number = NULL_STUDIES if full else STUDIES  # through whole comparisons: a minute for 20,000
    shares = once(
        simulated.verdicts_after_a_choice,
        number,
        tuning_seeds=tuning_seeds,
        num_rates=num_rates,
        correlation=correlation,
    )
    rates = ", ".join(
        f"{verdict} at {where} setting {shares[where, verdict]:.2%}"
        for where in ("own", "baseline's")
        for verdict in (Verdict.BETTER, Verdict.WORSE)
    )
    seeds = "all 5 seeds" if tuning_seeds is None else f"{tuning_seeds} of 5 seeds"
    print(f"\none equal arm, best of {num_rates} rates on {seeds}, luck correlated {correlation:g}: {rates}")
    fair = ("own", "baseline's") if tuning_seeds else ("own",)
    for where in fair:
        for verdict in (Verdict.BETTER, Verdict.WORSE):
            assert shares[where, verdict] <= simulated.within(number, 0.025)[1], (where, verdict)


@pytest.mark.parametrize("num_seeds", tables.COVERAGE_SEEDS)
@pytest.mark.parametrize("world", simulated.WORLDS)
def test_coverage(once, world, num_seeds):
    coverage = once(simulated.coverage, STUDIES, simulated.WORLDS[world], num_seeds=num_seeds)
    shares = ", ".join(f"{name} {share:.1%}" for name, share in coverage.items())
    print(f"\ncoverage, {world}, {num_seeds} seeds: {shares}")
    for name, share in coverage.items():
        assert 0.93 <= share <= 0.97, name


@pytest.mark.parametrize(("effect", "num_seeds"), tables.DIFFERENCES)
def test_power_of_difference(once, effect, num_seeds):
    shares = once(simulated.verdict_shares, STUDIES, effect=effect, num_seeds=num_seeds)
    predicted = tables.predicted_power(effect, num_seeds, of_equivalence=False)
    say_power("a difference", effect, num_seeds, shares[Verdict.BETTER], predicted)


@pytest.mark.parametrize(("effect", "num_seeds"), tables.EQUIVALENCES)
def test_power_of_equivalence(once, effect, num_seeds):
    shares = once(simulated.verdict_shares, STUDIES, effect=effect, num_seeds=num_seeds)
    predicted = tables.predicted_power(effect, num_seeds, of_equivalence=True)
    say_power(f"equivalence within {100 * MARGIN:g}", effect, num_seeds, shares["within"], predicted)


def say_power(what, effect, num_seeds, share, predicted):
    seen = f"{what} of {100 * effect:g} points, SD {100 * simulated.SD:g}, {num_seeds} seeds"
    print(f"\npower, {seen}: {share:.1%} of {STUDIES}, predicted {predicted:.1%}")
    low, high = simulated.within(STUDIES, predicted)
    assert low <= share <= high


def test_false_equivalence(once):
    share = once(simulated.verdict_shares, STUDIES, effect=MARGIN, sd=0.002)["within"]
    print(f"\nfalse equivalence: {share:.1%} of {STUDIES} arms that lie at the margin")
    assert share <= simulated.within(STUDIES, 0.05)[1]


def test_verdicts_of_a_large_study(timed):
    """Ten arms, five seeds, 10,000 test images, all differences over seeds and images."""
    random = np.random.RandomState(0)
    correct = random.rand(11, 5, 10_000) < 0.9
    timed(
        lambda: simulated.verdicts_on_images(correct, num_classes=10),
        group="analysis",
        label="verdicts",
        items=10,
        unit="arms",
    )
