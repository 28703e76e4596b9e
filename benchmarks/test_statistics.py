"""Are the intervals, verdicts and predictions right as often as they say, over 2,000 studies with a known truth?

Prints what docs/statistics.md quotes. Then: how long do the intervals of a large study take?
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.analysis import simulated_studies as simulated
from vitbench.analysis.statistics.power import power_of_difference, power_of_equivalence
from vitbench.analysis.statistics.verdicts import MARGIN, Verdict

STUDIES = 2000
NULL_STUDIES = 20_000
"""Of 2,000, a true rate of 4.8 % gives more than 5 % one time in three."""


@pytest.fixture
def once(benchmark):
    """Runs a simulation a single time, as its group's one sample."""

    def run(simulation, *arguments, **options):
        benchmark.group = "statistics, simulated"
        return benchmark.pedantic(simulation, args=arguments, kwargs=options, rounds=1, iterations=1)

    return run


@pytest.mark.parametrize(("num_arms", "num_seeds"), [(4, 5), (4, 3), (8, 5)])
def test_false_alarms(once, num_arms, num_seeds):
    share = once(simulated.false_alarms, NULL_STUDIES, num_arms=num_arms, num_seeds=num_seeds)
    print(f"\nfalse alarms: {share:.2%} of {NULL_STUDIES} studies of {num_arms} equal arms, {num_seeds} seeds")
    assert share <= 0.05


def test_false_alarms_on_images(once):
    share = once(simulated.false_alarms_on_images, NULL_STUDIES, num_images=300)
    print(f"\nfalse alarms: {share:.2%} of {NULL_STUDIES} studies of 4 equal arms, 5 seeds, on 300 test images")
    assert share <= 0.05


@pytest.mark.parametrize("num_seeds", [3, 5, 8])
@pytest.mark.parametrize("num_images", [36, 80, 300, 1000])
@pytest.mark.parametrize("accuracy", [0.5, 0.9, 0.97, 0.99, 0.9999])
def test_false_verdicts_at_saturated_accuracies(once, accuracy, num_images, num_seeds):
    alarms, equivalent = once(
        simulated.false_verdicts, STUDIES, accuracy=accuracy, num_images=num_images, num_seeds=num_seeds
    )
    print(
        f"\nat {accuracy:.2%}, {num_images} images, {num_seeds} seeds: {alarms:.1%} false, {equivalent:.1%} equivalent"
    )
    assert alarms <= simulated.within(STUDIES, 0.05)[1]
    assert equivalent <= simulated.within(STUDIES, 0.05)[1]


@pytest.mark.parametrize("correlation", [0.7, 0.9])
@pytest.mark.parametrize(("tuning_seeds", "num_rates"), [(None, 3), (None, 5), (2, 3), (2, 5)])
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


@pytest.mark.parametrize("num_seeds", [3, 5, 10])
@pytest.mark.parametrize("world", simulated.WORLDS)
def test_coverage(once, world, num_seeds):
    coverage = once(simulated.coverage, STUDIES, simulated.WORLDS[world], num_seeds=num_seeds)
    shares = ", ".join(f"{name} {share:.1%}" for name, share in coverage.items())
    print(f"\ncoverage, {world}, {num_seeds} seeds: {shares}")
    for name, share in coverage.items():
        assert 0.93 <= share <= 0.97, name


@pytest.mark.parametrize(("effect", "num_seeds"), [(0.010, 3), (0.008, 5), (0.004, 10), (0.003, 20)])
def test_power_of_difference(once, effect, num_seeds):
    shares = once(simulated.verdict_shares, STUDIES, effect=effect, num_seeds=num_seeds)
    predicted = float(power_of_difference(effect, simulated.SD, np.array([num_seeds]))[0])
    say_power("a difference", effect, num_seeds, shares[Verdict.BETTER], predicted)


@pytest.mark.parametrize(("effect", "num_seeds"), [(0.0, 8), (0.001, 12), (0.002, 20)])
def test_power_of_equivalence(once, effect, num_seeds):
    shares = once(simulated.verdict_shares, STUDIES, effect=effect, num_seeds=num_seeds)
    predicted = float(power_of_equivalence(effect, simulated.SD, np.array([num_seeds]))[0])
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
